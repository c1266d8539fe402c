"""What an engine's process does with errors: most cost one batch, one that a GPU never recovers from ends the process."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from resnet_server.engines.api import CPU_PROVIDER, Device, EngineSpec, Images, Logits
from resnet_server.engines.compute import Compute
from resnet_server.engines.process import messages
from resnet_server.engines.process.shared_slots import IDLE, SharedSlots, allocate
from resnet_server.engines.process.worker import Worker, decode, encode
from resnet_server.errors import EngineError

SPEC = EngineSpec(Path("model.fp32.onnx"), Device("cuda", "CUDAExecutionProvider", "test", 3, "H"), 1, 2, 4, 8, 8, 10)


class Failing(Compute):
    """Fails with a text; counts the slots that are locked for a GPU."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pinned = 0

    def pin(self, slot: Images) -> None:
        self.pinned += 1

    def unpin(self, slot: Images) -> None:
        self.pinned -= 1

    def run(self, slot: Images, rows: int, wide: bool) -> Logits:
        raise EngineError(self.text)


@contextmanager
def channel_to(compute: Failing) -> Iterator[tuple[socket.socket, SharedSlots, "Future[None]"]]:
    """A worker on a thread, with one channel; its owner leaves at the end."""
    owner, workers_owner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    memory = allocate(SPEC, messages.DEPTH)
    slots = SharedSlots(memory, SPEC, messages.DEPTH)
    with owner, workers_owner, ours, ThreadPoolExecutor(1) as thread:
        with theirs:
            socket.send_fds(owner, [messages.CHANNEL], [theirs.fileno(), memory])
        os.close(memory)
        served = thread.submit(Worker(SPEC, (compute,), workers_owner).serve)
        yield ours, slots, served
        owner.shutdown(socket.SHUT_WR)


def test_an_error_costs_one_batch() -> None:
    with channel_to(Failing("ONNX Runtime failed on 2 rows: out of memory")) as (ours, slots, served):
        for slot in range(2):
            ours.send(messages.ORDER.pack(slot, 2, False, 0))
            answer = ours.recv(messages.LONGEST)
            assert messages.FAILED.unpack(answer[: messages.FAILED.size]) == (messages.ERROR, slot)
            assert answer.endswith(b"out of memory")
        assert slots.running == IDLE
        assert not served.done()


def test_a_channel_that_closes_gives_its_slots_back_and_the_engine_goes_on() -> None:
    compute = Failing("")
    with channel_to(compute) as (ours, _, served):
        ours.send(messages.ORDER.pack(0, 1, False, 0))
        ours.recv(messages.LONGEST)
        assert compute.pinned == messages.DEPTH
        ours.close()
    served.result(30)
    assert compute.pinned == 0


def test_a_gpu_that_has_failed_for_good_ends_the_process() -> None:
    with channel_to(Failing("ONNX Runtime failed on 2 rows: CUDA failure 700: an illegal memory access")) as (ours, slots, served):
        ours.send(messages.ORDER.pack(0, 1, False, 0))
        with pytest.raises(EngineError, match="CUDA failure 700"):
            served.result(30)
        assert slots.running == 0  # so that its owner sees that the batch was begun, and never runs it again


def test_a_spec_crosses_the_border_whole() -> None:
    assert decode(encode(SPEC)) == SPEC
    assert decode(encode(EngineSpec(Path("m"), Device("cpu", CPU_PROVIDER, "r"), 1, 0, 1, 2, 3, 4))).device.id == 0


def test_slots_of_both_sides_are_the_same_memory() -> None:
    memory = allocate(SPEC, messages.DEPTH)
    ours, theirs = SharedSlots(memory, SPEC, messages.DEPTH), SharedSlots(memory, SPEC, messages.DEPTH)
    os.close(memory)
    for slot in range(messages.DEPTH):
        ours.images[slot][:] = slot + 1
        theirs.logits[slot][:] = slot + 0.5
    theirs.running = 1
    assert [int(images[0, 0, 0, 0]) for images in theirs.images] == [1, 2]
    np.testing.assert_array_equal(ours.logits[1], np.full((4, 10), 1.5, np.float32))
    assert ours.running == 1
