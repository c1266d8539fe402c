"""What Triton's clients ask beside an inference: every method, by each of its three clients."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
from resnet_models.sample import load_sample
from serving import RunningServer
from tritonclient.utils import InferenceServerException

Ask = Callable[..., Any]
KINDS = ("grpc", "aio", "http")
AS_JSON = {"as_json": True}


@pytest.fixture(params=KINDS)
def ask(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Ask]:
    """Calls a method of one of the clients by its name; gRPC's messages come as dictionaries, as JSON does."""
    kind = request.param
    if kind == "http":  # gevent's sockets stay on the thread that made them
        with tritonclient.http.InferenceServerClient(server.http_url.removeprefix("http://")) as client:
            yield lambda name, *given, **named: getattr(client, name)(*given, **named)
    elif kind == "grpc":
        with tritonclient.grpc.InferenceServerClient(server.url) as client:
            yield lambda name, *given, **named: getattr(client, name)(*given, **named, **_as_json(name))
    else:

        def in_a_loop(name: str, *given: Any, **named: Any) -> Any:
            async def call() -> Any:
                async with tritonclient.grpc.aio.InferenceServerClient(server.url) as client:
                    return await getattr(client, name)(*given, **named, **_as_json(name))

            return asyncio.run(call())

        yield in_a_loop


def _as_json(name: str) -> dict[str, bool]:
    return AS_JSON if name.startswith(("get_", "update_")) else {}


def infer(server: RunningServer, rows: int) -> None:
    images = load_sample().images[:rows]
    tensor = tritonclient.grpc.InferInput("image", images.shape, "UINT8")
    tensor.set_data_from_numpy(images)
    with tritonclient.grpc.InferenceServerClient(server.url) as client:
        client.infer("resnet20", [tensor])


def test_configuration_says_what_image_clients_look_for(ask: Ask) -> None:
    answer = ask("get_model_config", "resnet20", "1")
    config = answer.get("config", answer)
    (given,), (taken,) = config["input"], config["output"]
    assert (given["name"], given["data_type"], given["format"]) == ("image", "TYPE_UINT8", "FORMAT_NHWC")
    assert [int(size) for size in given["dims"]] == [32, 32, 3]
    assert (taken["name"], taken["data_type"], taken["label_filename"]) == ("logits", "TYPE_FP32", "labels.txt")
    assert [int(size) for size in taken["dims"]] == [10]
    assert (config["name"], config["max_batch_size"], config["backend"]) == ("resnet20", 64, "onnxruntime")
    assert config["default_model_filename"] == "model.fp32.onnx"
    assert int(config["dynamic_batching"]["priority_levels"]) == 3
    assert config["dynamic_batching"]["default_queue_policy"]["max_queue_size"] == 2048
    assert config["parameters"]["certified"]["string_value"] == "true"
    with pytest.raises(InferenceServerException, match="'other' is unknown"):
        ask("get_model_config", "other")


def counts(ask: Ask) -> dict[str, int]:
    (stats,) = ask("get_inference_statistics", "resnet20")["model_stats"]
    assert (stats["name"], stats["version"]) == ("resnet20", "1")
    durations = {f"{name}.{part}": int(value.get(part, 0)) for name, value in stats["inference_stats"].items() for part in ("count", "ns")}
    batches = {int(batch["batch_size"]): batch["compute_infer"] for batch in stats.get("batch_stats", ())}
    by_rows = {f"rows.{rows}": int(batch["count"]) for rows, batch in batches.items()}
    seconds = sum(int(batch["ns"]) for batch in batches.values())
    return {
        **durations,
        **by_rows,
        "batches.ns": seconds,
        "images": int(stats.get("inference_count", 0)),
        "batches": int(stats.get("execution_count", 0)),
        "last": int(stats.get("last_inference", 0)),
    }


def test_statistics_add_up(ask: Ask, server: RunningServer) -> None:
    infer(server, 1)
    before = counts(ask)
    for rows in (1, 3, 3):
        infer(server, rows)
    with pytest.raises(InferenceServerException):
        infer(server, 65)
    after = counts(ask)
    change = {name: after[name] - before.get(name, 0) for name in after}
    assert (change["success.count"], change["fail.count"], change["images"]) == (3, 1, 7)
    assert change["queue.count"] == 3
    assert change["batches"] == change["compute_infer.count"] == sum(n for name, n in change.items() if name.startswith("rows."))
    assert sum(int(name[5:]) * n for name, n in change.items() if name.startswith("rows.")) == 7
    assert change["batches.ns"] == pytest.approx(change["compute_infer.ns"], abs=100)
    assert 0 < change["compute_infer.ns"] <= change["batches"] * change["success.ns"]  # pieces of one request may run side by side
    assert change["fail.ns"] > 0
    assert 0 <= change["last"] < 60_000
    assert after["last"] > 1_700_000_000_000
    assert change["cache_hit.count"] == change["compute_input.ns"] == 0
    assert change["compute_input.count"] == change["compute_output.count"] == change["compute_infer.count"]  # perf_analyzer ends otherwise


def test_statistics_of_requests_at_once_lose_none(server: RunningServer) -> None:
    with tritonclient.grpc.InferenceServerClient(server.url) as client, ThreadPoolExecutor(8) as pool:

        def ask(name: str, *given: Any) -> Any:
            return getattr(client, name)(*given, as_json=True)

        before = counts(ask)
        list(pool.map(lambda _: infer(server, 2), range(40)))
        after = counts(ask)
    assert (after["success.count"] - before["success.count"], after["images"] - before["images"]) == (40, 80)
    assert after["queue.count"] - before["queue.count"] == 40
    assert after["batches"] - before["batches"] <= after["compute_infer.count"] - before["compute_infer.count"]


def test_statistics_of_all_and_of_none(ask: Ask) -> None:
    everything = ask("get_inference_statistics")["model_stats"]
    assert [(stats["name"], stats["version"]) for stats in everything] == [("resnet20", "1")]
    with pytest.raises(InferenceServerException, match="'2' of model 'resnet20' is unknown"):
        ask("get_inference_statistics", "resnet20", "2")


def test_extensions_are_those_that_work(ask: Ask) -> None:
    listed = ask("get_server_metadata")["extensions"]
    assert {"statistics", "model_configuration", "classification", "binary_tensor_data", "parameters"} <= set(listed)
    assert not {"sequence", "cuda_shared_memory"} & set(listed)


def test_a_timeout_of_zero_is_none(server: RunningServer) -> None:
    images = load_sample().images[:1]
    tensor = tritonclient.grpc.InferInput("image", images.shape, "UINT8")
    tensor.set_data_from_numpy(images)
    with tritonclient.grpc.InferenceServerClient(server.url) as client:
        found = client.infer("resnet20", [tensor], timeout=0, parameters=None).as_numpy("logits")
        assert np.isfinite(found).all()
        with pytest.raises(InferenceServerException, match="deadline"):
            client.infer("resnet20", [tensor], timeout=1)


def tensor_of(images: Any) -> Any:
    tensor = tritonclient.grpc.InferInput("image", images.shape, "UINT8")
    tensor.set_data_from_numpy(images)
    return tensor


def check_stream(found: list[tuple[Any, Any]]) -> None:
    """Of four requests of 1 to 4 rows, of which the third is of an unknown model and the fourth too late."""
    assert [result is None for result, _ in found] == [False, False, True, True]
    for rows, (result, _) in enumerate(found[:2], start=1):
        assert result.as_numpy("logits").shape == (rows, 10)
        assert result.get_response().id == str(rows)
        assert result.get_response().parameters["triton_final_response"].bool_param
    assert "'other' is unknown" in str(found[2][1])
    assert "deadline" in str(found[3][1])


STREAMED: tuple[dict[str, Any], ...] = (
    {"model_name": "resnet20"},
    {"model_name": "resnet20"},
    {"model_name": "other"},
    {"model_name": "resnet20", "timeout": 1},
)


def test_a_stream_of_the_blocking_client_is_answered_in_order_with_an_error_for_each_that_fails(server: RunningServer) -> None:
    images, found = load_sample().images, SimpleQueue[tuple[Any, Any]]()
    with tritonclient.grpc.InferenceServerClient(server.url) as client:
        client.start_stream(lambda result, error: found.put((result, error)))
        for rows, given in enumerate(STREAMED, start=1):
            client.async_stream_infer(inputs=[tensor_of(images[:rows])], request_id=str(rows), **given)
        check_stream([found.get(timeout=30) for _ in STREAMED])
        client.stop_stream()


def test_a_stream_of_the_asyncio_client_is_answered_in_order_with_an_error_for_each_that_fails(server: RunningServer) -> None:
    images = load_sample().images

    async def given() -> AsyncIterator[dict[str, Any]]:
        for rows, one in enumerate(STREAMED, start=1):
            yield {"inputs": [tensor_of(images[:rows])], "request_id": str(rows), **one}

    async def call() -> list[tuple[Any, Any]]:
        async with tritonclient.grpc.aio.InferenceServerClient(server.url) as client:
            return [one async for one in client.stream_infer(given())]

    check_stream(asyncio.run(call()))
