"""What several front ends share: one port, one scrape, and messages with descriptors."""

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from resnet_server.app import front_end_count
from resnet_server.engines.api import CUDA_PROVIDER, OPENVINO, Device, EngineSpec, NetworkFile
from resnet_server.errors import StartError
from resnet_server.frontends import handoff
from resnet_server.frontends.port import SharedPort
from resnet_server.metrics.merged_scrape import lasting, merge
from resnet_server.settings import Settings


def counted(calls: int, waiting: int) -> list[Metric]:
    registry = CollectorRegistry()
    Counter("calls", "Calls.", ("model",), registry=registry).labels("a").inc(calls)
    Gauge("waiting", "Rows.", registry=registry).set(waiting)
    Gauge("largest_max", "Of all.", registry=registry).set(waiting)
    Histogram("seconds", "Time.", buckets=(1.0, 2.0), registry=registry).observe(calls)
    return list(registry.collect())


def values(families: list[Metric]) -> dict[str, float]:
    return {sample.name + "".join(sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_samples_of_several_processes_add_up() -> None:
    merged = merge([*counted(1, 3), *counted(2, 4)])
    assert [family.name for family in merged] == ["calls", "waiting", "largest_max", "seconds"]
    seen = values(merged)
    assert seen["largest_max"] == 4
    assert (seen["calls_totala"], seen["waiting"], seen["seconds_sum"], seen["seconds_bucket1.0"]) == (3, 7, 3, 1)


def test_what_a_process_counted_outlives_it_but_what_waited_in_it_does_not() -> None:
    assert {family.name for family in lasting(counted(1, 3))} == {"calls", "seconds"}


def test_a_shared_port_is_held_and_another_server_on_it_is_an_error() -> None:
    port = SharedPort("127.0.0.1", 0)
    try:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port.port))
        with pytest.raises(StartError, match=rf"grpc-port: 127\.0\.0\.1:{port.port} cannot be opened .*is another server running there"):
            SharedPort("127.0.0.1", port.port)
    finally:
        port.close()
    SharedPort("127.0.0.1", port.port).close()


def test_messages_carry_more_descriptors_than_one_call_can(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    (tmp_path / "file").write_text("x")
    files = [os.open(tmp_path / "file", os.O_RDONLY) for _ in range(handoff.MOST_DESCRIPTORS + 3)]
    message = ("text", "y" * 3_000_000)
    with ours, theirs:
        sender = threading.Thread(target=handoff.send, args=(ours, message, files))
        sender.start()
        received, descriptors = handoff.receive(theirs)
        sender.join()
        ours.close()
        with pytest.raises(EOFError):
            handoff.receive(theirs)
    assert received == message
    assert len(descriptors) == len(files)
    assert all(os.path.sameopenfile(files[0], descriptor) for descriptor in descriptors)
    for descriptor in (*files, *descriptors):
        os.close(descriptor)


def test_what_an_engine_is_made_of_crosses_the_border() -> None:
    """As it was; compiled classes, too, which pickle cannot restore by itself."""
    device = Device("cuda", CUDA_PROVIDER, "asked for", 1, "a GPU")
    other = NetworkFile(Path("b.onnx"), "cd")
    spec = EngineSpec(Path("a.onnx"), device, 1, 2, 64, 32, 32, 10, "ab", 1, (other,), 5, OPENVINO, 16)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        handoff.send(ours, (spec, handoff.Served()))
        received, _ = handoff.receive(theirs)
    assert received == (spec, handoff.Served())


@pytest.mark.parametrize(("cores", "asked", "expected"), [(2, None, 1), (15, None, 1), (16, None, 2), (64, None, 8), (2, 3, 3)])
def test_front_ends_follow_the_cores_unless_asked_for(cores: int, asked: int | None, expected: int) -> None:
    assert front_end_count(Settings(Path(), frontends=asked), cores, in_process=False) == expected


def test_engines_on_threads_have_one_front_end() -> None:
    assert front_end_count(Settings(Path()), 64, in_process=True) == 1
    with pytest.raises(StartError, match="frontends: 2, but engines on threads serve one"):
        front_end_count(Settings(Path(), frontends=2), 64, in_process=True)


def test_a_message_that_comes_in_pieces_to_a_socket_that_does_not_block_is_read_whole() -> None:
    ours, recorder = socket.socketpair()
    with ours, recorder:
        handoff.send(ours, ("text", list(range(1000))))
        ours.close()
        whole = b"".join(iter(lambda: recorder.recv(1 << 16), b""))
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as thread:
        theirs.settimeout(handoff.PATIENCE_SECONDS)
        os.set_blocking(theirs.fileno(), False)  # as an event loop does
        received = thread.submit(handoff.receive, theirs)
        for start in range(0, len(whole), 100):
            ours.sendall(whole[start : start + 100])
            os.sched_yield()
        assert received.result(30) == (("text", list(range(1000))), [])
