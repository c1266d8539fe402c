"""Shared memory by Triton's clients: tensors in regions, what of it is refused, and owners that cut or remove what they registered."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import tritonclient.utils.shared_memory as shm
from in_process import running_app
from resnet_models.sample import load_sample
from resnet_server.app import App, front_end_count
from resnet_server.endpoints import shared_memory
from resnet_server.errors import StartError
from resnet_server.settings import Settings
from tritonclient.utils import InferenceServerException

ROWS, IMAGE, CLASSES = 3, 32 * 32 * 3, 10
IN, OUT = ROWS * IMAGE, 4 * ROWS * CLASSES


@pytest.fixture(scope="module")
def app(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with running_app(repository, tmp_path_factory.mktemp("plans"), allow_shared_memory=True, open_admin=True) as running:
        yield running


class Caller:
    """One of the clients; `tensors` is its module."""

    def __init__(self, client: Any, tensors: Any) -> None:
        self.client, self.tensors = client, tensors

    def infer(self, place: tuple[Any, ...] = (), into: tuple[Any, ...] = (), rows: int = ROWS, **output: Any) -> Any:
        """Images by `place` or as bytes, the answer to `into` or in the message: a region's name, bytes, and offset."""
        images = load_sample().images[:rows]
        given, wanted = self.tensors.InferInput("image", images.shape, "UINT8"), self.tensors.InferRequestedOutput("logits", **output)
        if place:
            given.set_shared_memory(*place)
        else:
            given.set_data_from_numpy(images)
        if into:
            wanted.set_shared_memory(*into)
        return self.client.infer("resnet20", [given], outputs=[wanted])

    def names(self) -> list[str]:
        found = self.client.get_system_shared_memory_status()
        return sorted(region["name"] for region in found) if isinstance(found, list) else sorted(found.regions)


@pytest.fixture(params=["grpc", "http"])
def caller(request: pytest.FixtureRequest, app: App) -> Iterator[Caller]:
    if request.param == "grpc":
        with tritonclient.grpc.InferenceServerClient(app.grpc_address) as client:
            yield Caller(client, tritonclient.grpc)
            client.unregister_system_shared_memory()
    else:
        with tritonclient.http.InferenceServerClient(f"127.0.0.1:{app.http_port}") as web:
            yield Caller(web, tritonclient.http)
            web.unregister_system_shared_memory()


@pytest.fixture
def memory() -> Iterator[Any]:
    """Three images, and room for their logits behind them."""
    handle = shm.create_shared_memory_region("owner", f"/resnet-test-{os.getpid()}", IN + OUT)
    shm.set_shared_memory_region(handle, [load_sample().images[:ROWS]])
    yield handle
    if path(handle).exists():
        shm.destroy_shared_memory_region(handle)


def path(handle: Any) -> Path:
    return Path("/dev/shm", str(handle._shm_key).removeprefix("/"))  # noqa: S108  # where it is


def refused(call: Callable[[], Any], text: str, *codes: str) -> None:
    with pytest.raises(InferenceServerException) as error:
        call()
    assert text in str(error.value)
    assert str(error.value.status()) in (codes or ("StatusCode.INVALID_ARGUMENT", "400"))


def test_images_and_logits_go_by_regions_and_are_those_of_a_message(caller: Caller, memory: Any) -> None:
    expected = caller.infer().as_numpy("logits")
    caller.client.unregister_system_shared_memory()  # what Triton's examples begin with
    caller.client.unregister_cuda_shared_memory()
    caller.client.register_system_shared_memory("images", memory._shm_key, IN)
    caller.client.register_system_shared_memory("all", memory._shm_key, OUT + 8, offset=IN - 8)
    assert caller.names() == ["all", "images"]
    np.testing.assert_allclose(caller.infer(("images", IN)).as_numpy("logits"), expected, atol=1e-4)
    answer = caller.infer(("images", IN), ("all", OUT, 8))
    assert place_in(answer.get_output("logits")) == {"region": "all", "byte_size": OUT, "offset": 8}
    found = shm.get_contents_as_numpy(memory, np.float32, [ROWS, CLASSES], IN)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    last = caller.infer(("images", IMAGE, 2 * IMAGE), rows=1)
    np.testing.assert_allclose(last.as_numpy("logits"), expected[2:], atol=1e-4)
    caller.client.unregister_system_shared_memory("images")
    assert caller.names() == ["all"]
    refused(lambda: caller.infer(("images", IN)), "inputs[0].parameters.shared_memory_region: region 'images' is not registered")


def place_in(output: Any) -> dict[str, Any]:
    """Where an answer says that its tensor is."""
    if isinstance(output, dict):
        found = output["parameters"]
    else:
        found = {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in output.parameters.items()}
    return {name.removeprefix("shared_memory_"): value for name, value in found.items()}


def test_what_is_not_a_part_of_a_region_is_refused(caller: Caller, memory: Any) -> None:
    caller.client.register_system_shared_memory("images", memory._shm_key, IN)
    place = "parameters.shared_memory_region"
    refused(lambda: caller.infer(("images", IN, 1)), f"inputs[0].{place}: {IN} bytes from 1 on; region 'images' has {IN}")
    refused(lambda: caller.infer(("images", IN - 1)), f"shared_memory_byte_size: {IN - 1}; expected {IN} for shape [3, 32, 32, 3]")
    refused(lambda: caller.infer(into=("images", OUT - 1)), f"shared_memory_byte_size: {OUT - 1}; expected at least {OUT} for 3 rows")
    refused(lambda: caller.infer(into=("images", OUT, IN - 1)), f"outputs[0].{place}: {OUT} bytes from {IN - 1} on")
    refused(lambda: caller.infer(into=("other", OUT)), f"outputs[0].{place}: region 'other' is not registered")
    refused(lambda: caller.infer(("images", -1)), "shared_memory_byte_size: -1; expected a whole number as int64_param")
    assert caller.infer(("images", IN)).as_numpy("logits").shape == (ROWS, CLASSES)


def test_a_region_is_gone_with_its_owners_memory(caller: Caller, memory: Any, app: App) -> None:
    before = descriptors()
    caller.client.register_system_shared_memory("images", memory._shm_key, IN)
    os.truncate(path(memory), 100)  # a mapping of it would end the process that touches it
    message = "region 'images' was cut to 100 bytes by its owner"
    try:
        refused(lambda: caller.infer(("images", IN)), message)
    except AssertionError:  # the server had looked already
        refused(lambda: caller.infer(("images", IN)), "is not registered")
    assert caller.names() == []
    os.truncate(path(memory), IN + OUT)
    caller.client.register_system_shared_memory("images", memory._shm_key, IN)
    assert before < descriptors()
    path(memory).unlink()
    assert caller.names() == []
    assert descriptors() == before


def descriptors() -> set[str]:
    """Of this process, which is the server's: those of our region."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue
        if "/dev/shm/resnet-test-" in target:  # noqa: S108  # as above
            found.add(link.name)
    return found


def test_wrong_regions_are_refused(caller: Caller, memory: Any, tmp_path: Path) -> None:
    register, key = caller.client.register_system_shared_memory, memory._shm_key
    link = Path("/dev/shm/resnet-test-link")  # noqa: S108  # as above
    link.symlink_to("/etc/hostname")
    try:
        refused(partial(register, "r", "/resnet-test-link", 1), "key: shared memory '/resnet-test-link' cannot be opened")
    finally:
        link.unlink()
    for wrong in ("", "/", "..", "/../etc/hostname", "/etc/hostname", "a/b", "sem.x", "x" * 300):
        refused(partial(register, "r", wrong, 1), "expected the name of shared memory, such as /images")
    refused(partial(register, "r", "/resnet-test-nothing", 1), "cannot be opened: No such file or directory")
    refused(partial(register, "r", key, 0), "byte_size: 0; expected at least 1")
    refused(partial(register, "r", key, IN + OUT + 1), f"byte_size: {IN + OUT + 1} bytes from 0 on; '{key}' has {IN + OUT}")
    refused(partial(register, "r", key, 1, offset=IN + OUT), f"byte_size: 1 bytes from {IN + OUT} on")
    refused(partial(register, "n" * 256, key, 1), "expected 1 to 255 characters")
    register("r", key, 1)
    refused(partial(register, "r", key, 2), "name: region 'r' is registered already; unregister it first")
    refused(
        partial(caller.client.get_system_shared_memory_status, "s"), "name: region 's' is not registered", "StatusCode.NOT_FOUND", "404"
    )
    assert caller.names() == ["r"]


def test_regions_are_bounded_in_number_and_bytes(caller: Caller, memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    register, full = caller.client.register_system_shared_memory, ("StatusCode.RESOURCE_EXHAUSTED", "429")
    monkeypatch.setattr(shared_memory, "MOST_REGIONS", 2)
    register("a", memory._shm_key, 1)
    register("b", memory._shm_key, 1)
    refused(partial(register, "c", memory._shm_key, 1), "name: 2 regions are registered; unregister some first", *full)
    caller.client.unregister_system_shared_memory("a")
    os.truncate(path(memory), 1 << 30)  # of nothing: no page is there
    refused(partial(register, "c", memory._shm_key, 1 << 30), f"byte_size: {1 << 30} beside 1 registered bytes; expected at most", *full)


def test_memory_of_gpus_is_not_implemented_and_said_so(caller: Caller, app: App) -> None:
    codes = ("StatusCode.UNIMPLEMENTED", "501")
    refused(partial(caller.client.register_cuda_shared_memory, "g", b"aGFuZGxl", 0, 1), "this server reads no memory of GPUs", *codes)
    assert not caller.client.get_cuda_shared_memory_status() or not caller.client.get_cuda_shared_memory_status().regions
    with tritonclient.grpc.InferenceServerClient(app.grpc_address) as client:
        listed = client.get_server_metadata().extensions
    assert "system_shared_memory" in listed
    assert "cuda_shared_memory" not in listed


def test_it_is_closed_unless_it_is_opened(repository: Path, tmp_path: Path, memory: Any) -> None:
    with running_app(repository, tmp_path, open_admin=True) as app, tritonclient.grpc.InferenceServerClient(app.grpc_address) as client:
        assert "system_shared_memory" not in client.get_server_metadata().extensions
        caller, closed = Caller(client, tritonclient.grpc), "StatusCode.UNIMPLEMENTED"
        for call in (
            partial(client.register_system_shared_memory, "r", memory._shm_key, 1),
            client.unregister_system_shared_memory,
            client.get_system_shared_memory_status,
            client.get_cuda_shared_memory_status,
        ):
            refused(call, "shared memory is closed; start the server with --allow-shared-memory", closed)
        for given in ((("images", IN), ()), ((), ("images", OUT))):
            refused(partial(caller.infer, *given), "shared memory is closed; send the bytes, or start the server with")


def test_several_front_ends_are_not_for_shared_memory() -> None:
    assert front_end_count(Settings(Path(), allow_shared_memory=True), 64, False) == 1
    with pytest.raises(StartError, match="frontends: 2, but shared memory is registered with one"):
        front_end_count(Settings(Path(), allow_shared_memory=True, frontends=2), 64, False)
