"""Whole processes: unmodified public clients, many callers at once, and callers that leave."""

import asyncio
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
from clients import KINDS, ask
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from resnet_client import AsyncClient, Client, DeadlineError, OverloadedError
from resnet_client.inputs import Pixels
from resnet_export.reference import Logits
from resnet_models.sample import load_sample
from resnet_proto.classifier_pb2 import ListModelsRequest
from resnet_proto.classifier_pb2_grpc import ClassifierStub
from resnet_proto.open_inference_pb2 import ModelInferRequest
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving import RunningServer

# Runs in a process of its own, as somebody else's program does.
TRITON_CLIENT = """
import sys
import numpy as np
import tritonclient.grpc as triton

url, images, out = sys.argv[1:]
images = np.load(images)
client = triton.InferenceServerClient(url)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("resnet20")

def infer(rows):
    tensor = triton.InferInput("image", rows.shape, "UINT8")
    tensor.set_data_from_numpy(rows)
    return client.infer("resnet20", [tensor], outputs=[triton.InferRequestedOutput("logits")]).as_numpy("logits")

singles = np.concatenate([infer(images[i : i + 1]) for i in range(len(images))])
batches = np.concatenate([infer(images[i : i + 32]) for i in range(0, len(images), 32)])
np.savez(out, singles=singles, batches=batches)
"""


@pytest.fixture(scope="module")
def expected(repository: Path) -> Logits:
    """ONNX Runtime in this process, on the published file."""
    path = repository / "resnet20" / "1" / "model.fp32.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits: Logits = session.run(None, {"image": load_sample().images})[0]
    return logits


def test_an_unmodified_triton_client_gets_onnx_runtimes_logits(server: RunningServer, expected: Logits, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", load_sample().images)
    command = [sys.executable, "-c", TRITON_CLIENT, server.url, str(tmp_path / "images.npy"), str(tmp_path / "out.npz")]
    subprocess.run(command, check=True, timeout=120)
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_allclose(found["singles"], expected, atol=1e-4)
        np.testing.assert_allclose(found["batches"], expected, atol=1e-4)


async def test_64_concurrent_clients_each_get_their_own_answers(server: RunningServer, expected: Logits) -> None:
    images = load_sample().images

    async def caller(first: int) -> None:
        async with AsyncClient(server.url) as client:
            for index in range(first, first + 10):
                logits = await client.infer(images[index : index + 1], model="resnet20")
                np.testing.assert_allclose(logits[0], expected[index], atol=1e-4)

    async with asyncio.TaskGroup() as group:
        for number in range(64):
            group.create_task(caller(number * 15))


def request(pixels: Pixels) -> ModelInferRequest:
    message = ModelInferRequest(model_name="resnet20")
    message.inputs.add(name="image", datatype="UINT8", shape=pixels.shape)
    message.raw_input_contents.append(pixels.tobytes())
    return message


def counted(server: RunningServer, metric: str, **labels: str) -> float:
    """The sum of a counter's series that have these labels."""
    with urllib.request.urlopen(server.metrics_url) as page:  # noqa: S310  # http, from the fixture
        families = list(text_string_to_metric_families(page.read().decode()))
    samples = [sample for family in families for sample in family.samples if sample.name == metric]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


@pytest.mark.parametrize("position", range(4))
async def test_cancelling_a_call_at_any_position_leaves_its_neighbours_right(
    position: int, server: RunningServer, expected: Logits
) -> None:
    """Cancelled once the server has it and before it is computed: calls before it keep the engines busy, a call after it has been answered.

    The server then counts it as cancelled. Where it was answered all the same, it is tried again.
    """
    images = load_sample().images
    async with grpc.aio.insecure_channel(server.url) as channel:
        stub, lists = GRPCInferenceServiceStub(channel), ClassifierStub(channel)
        before = counted(server, "resnet_requests_total", status="CANCELLED")
        while counted(server, "resnet_requests_total", status="CANCELLED") == before:
            busy = [stub.ModelInfer(request(images[:64])) for _ in range(8)]
            calls = [stub.ModelInfer(request(images[i : i + 1])) for i in range(4)]
            await lists.ListModels(ListModelsRequest())  # on the same connection, after them
            left = calls[position].cancel()
            for i, call in enumerate(calls):
                if i == position and left:
                    with pytest.raises(asyncio.CancelledError):
                        await call
                else:
                    logits = np.frombuffer((await call).raw_output_contents[0], np.float32)
                    np.testing.assert_allclose(logits, expected[i], atol=1e-4)
            for call in busy:
                logits = np.frombuffer((await call).raw_output_contents[0], np.float32).reshape(64, 10)
                np.testing.assert_allclose(logits, expected[:64], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_of_more_rows_than_the_queue_holds_is_answered(kind: str, server: RunningServer, expected: Logits) -> None:
    rows = np.tile(load_sample().images[:250], (20, 1, 1, 1))
    assert len(rows) > 2048, "the queue's limit"
    np.testing.assert_allclose(ask(kind, server.url, "infer", rows), np.tile(expected[:250], (20, 1)), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_one_corrupt_photograph_of_a_hundred_costs_only_itself(kind: str, server: RunningServer, expected: Logits, tmp_path: Path) -> None:
    paths = [tmp_path / f"{index:02}.png" for index in range(100)]
    for path, pixels in zip(paths, load_sample().images, strict=False):
        Image.fromarray(pixels).save(path)
    paths[70].write_bytes(paths[70].read_bytes()[:40])
    found = ask(kind, server.url, "classify_stream", paths)
    assert [outcome.index for outcome in found if outcome.error is not None] == [70]
    assert found[70].error.source == str(paths[70])
    answers = [outcome.prediction.best.index for outcome in found if outcome.error is None]
    assert answers == list(np.delete(expected[:100].argmax(1), 70))


def test_the_server_itself_refuses_what_it_cannot_answer_in_time(server: RunningServer) -> None:
    """The client would give up without it, too; but only a server that looks at the deadline counts calls so."""

    def refused() -> float:
        return sum(counted(server, "resnet_rejects_total", reason=reason) for reason in ("deadline", "unreachable", "late"))

    before = refused()
    with Client(server.url) as client:
        client.models()
        for _ in range(100):  # a call whose deadline passes on its way never reaches the server
            with pytest.raises((DeadlineError, OverloadedError)):
                client.infer(load_sample().images[:64], timeout=0.004)
            if refused() > before:
                return
    raise AssertionError("none of 100 calls was refused for its deadline")
