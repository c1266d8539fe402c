"""Every public method of Triton's clients, called against a server that has everything open; the table in docs/reference/protocol.md."""

import asyncio
import inspect
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.utils.shared_memory as shm
from in_process import running_app
from resnet_models.sample import load_sample
from resnet_server.app import App
from tritonclient.utils import InferenceServerException

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "protocol.md"
BEGIN, END = "<!-- methods of clients, from tests/contract/test_every_method.py -->\n", "<!-- end of methods -->"
CLIENTS = {"gRPC": tritonclient.grpc, "gRPC, asyncio": tritonclient.grpc.aio, "HTTP": tritonclient.http}
LOCAL = {"close", "plugin", "register_plugin", "unregister_plugin", "generate_request_body", "parse_response_body"}
"""These talk to no server."""
MODEL, IMAGES, KEY = "resnet20", load_sample().images[:2], f"/resnet-test-every-{os.getpid()}"


@pytest.fixture(scope="module")
def app(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    given: dict[str, Any] = {"model_control": "explicit", "allow_shared_memory": True, "open_admin": True}
    memory = shm.create_shared_memory_region("owner", KEY, IMAGES.nbytes)
    try:
        with running_app(repository, tmp_path_factory.mktemp("plans"), **given) as running:
            yield running
    finally:
        shm.destroy_shared_memory_region(memory)


def inputs(tensors: Any) -> list[Any]:
    tensor = tensors.InferInput("image", IMAGES.shape, "UINT8")
    tensor.set_data_from_numpy(IMAGES)
    return [tensor]


def check_logits(result: Any) -> None:
    logits = result.as_numpy("logits")
    assert logits.shape == (len(IMAGES), 10)
    assert np.isfinite(logits).all()


GIVEN: dict[str, tuple[Any, ...]] = {
    "is_server_live": (),
    "is_server_ready": (),
    "is_model_ready": (MODEL,),
    "get_server_metadata": (),
    "get_model_metadata": (MODEL, "1"),
    "get_model_config": (MODEL, "1"),
    "get_model_repository_index": (),
    "get_inference_statistics": (MODEL,),
    "unload_model": (MODEL,),
    "load_model": (MODEL,),
    "get_log_settings": (),
    "update_log_settings": ({"log_info": True},),
    "get_trace_settings": (MODEL,),
    "update_trace_settings": (None, {"trace_level": "OFF"}),
    "register_system_shared_memory": ("images", KEY, IMAGES.nbytes),
    "get_system_shared_memory_status": ("images",),
    "unregister_system_shared_memory": ("images",),
    "register_cuda_shared_memory": ("images", b"aGFuZGxl", 0, IMAGES.nbytes),
    "get_cuda_shared_memory_status": (),
    "unregister_cuda_shared_memory": (),
}
"""In an order in which each finds what it needs."""
INFERENCES = ("infer", "async_infer", "async_stream_infer", "stream_infer")


def infer(client: Any, tensors: Any, method: str) -> None:
    """The inferences of the blocking clients."""
    if method == "infer":
        check_logits(client.infer(MODEL, inputs(tensors)))
    elif method == "async_infer" and tensors is tritonclient.http:
        check_logits(client.async_infer(MODEL, inputs(tensors)).get_result())
    else:
        answers = SimpleQueue[tuple[Any, Any]]()

        def callback(result: Any, error: Any) -> None:
            answers.put((result, error))

        if method == "async_infer":
            client.async_infer(MODEL, inputs(tensors), callback)
        else:
            client.start_stream(callback)
            client.async_stream_infer(MODEL, inputs(tensors))
        result, error = answers.get(timeout=60)
        if method == "async_stream_infer":
            client.stop_stream()
        assert error is None
        check_logits(result)


def outcome(call: Callable[[], Any]) -> str:
    try:
        answer = call()
    except InferenceServerException as error:
        status = str(error.status())
        return {"StatusCode.UNIMPLEMENTED": "UNIMPLEMENTED", "501": "UNIMPLEMENTED"}.get(status, f"{status}: {error.message()}")
    return "yes" if answer is not False else "says no"


def blocking(app: App, tensors: Any) -> dict[str, str]:
    url = f"127.0.0.1:{app.http_port}" if tensors is tritonclient.http else app.grpc_address
    with tensors.InferenceServerClient(url) as client:
        found = {name: outcome(lambda: getattr(client, name)(*given)) for name, given in GIVEN.items()}  # noqa: B023  # called at once
        names = [name for name in INFERENCES if hasattr(client, name)]
        return found | {name: outcome(lambda: infer(client, tensors, name)) for name in names}  # noqa: B023  # the same


async def in_a_loop(app: App) -> dict[str, str]:
    async with tritonclient.grpc.aio.InferenceServerClient(app.grpc_address) as client:
        found = {}
        for name, given in GIVEN.items():
            try:
                answer = await getattr(client, name)(*given)
                found[name] = outcome(lambda: answer)  # noqa: B023  # called at once
            except InferenceServerException as error:
                found[name] = outcome(partial(raised, error))
        check_logits(await client.infer(MODEL, inputs(tritonclient.grpc.aio)))

        async def one() -> Any:
            yield {"model_name": MODEL, "inputs": inputs(tritonclient.grpc.aio)}

        async for result, problem in client.stream_infer(one()):
            assert problem is None
            check_logits(result)
        return found | {"infer": "yes", "stream_infer": "yes"}


def raised(error: Exception) -> Any:
    raise error


@pytest.fixture(scope="module")
def found(app: App) -> dict[str, dict[str, str]]:
    """By client and method, what came of calling it."""
    return {
        "gRPC": blocking(app, tritonclient.grpc),
        "gRPC, asyncio": asyncio.run(in_a_loop(app)),
        "HTTP": blocking(app, tritonclient.http),
    }


def public(tensors: Any) -> set[str]:
    """Methods of a client that ask the server for something."""
    names = {name for name, value in inspect.getmembers(tensors.InferenceServerClient) if callable(value) and not name.startswith("_")}
    return names - LOCAL - {"start_stream", "stop_stream"}  # parts of `async_stream_infer`


def test_every_method_of_every_client_is_called_and_answered(found: dict[str, dict[str, str]]) -> None:
    for client, tensors in CLIENTS.items():
        assert found[client].keys() == public(tensors), client
        assert set(found[client].values()) == {"yes", "UNIMPLEMENTED"}
        assert [name for name, result in found[client].items() if result != "yes"] == ["register_cuda_shared_memory"]


def test_the_table_on_the_page_is_what_was_found(found: dict[str, dict[str, str]]) -> None:
    head = f"| method of `InferenceServerClient` | {' | '.join(CLIENTS)} |\n|---|{'---|' * len(CLIENTS)}\n"
    names = [*INFERENCES, *GIVEN]
    rows = [f"| `{name}` | {' | '.join(found[client].get(name, '–') for client in CLIENTS)} |\n" for name in names]
    _, _, rest = PAGE.read_text().partition(BEGIN)
    assert rest.partition(END)[0] == head + "".join(rows)
