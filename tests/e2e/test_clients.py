"""Whole processes: unmodified public clients, many callers at once, and callers that leave."""

import asyncio
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
from resnet_client import AsyncClient, Client, ClientError
from resnet_export.reference import Logits
from resnet_models.sample import load_sample
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


@pytest.mark.parametrize("position", range(4))
async def test_cancelling_a_call_at_any_position_leaves_its_neighbours_right(
    position: int, server: RunningServer, expected: Logits
) -> None:
    images = load_sample().images

    def request(index: int) -> ModelInferRequest:
        message = ModelInferRequest(model_name="resnet20")
        message.inputs.add(name="image", datatype="UINT8", shape=(1, 32, 32, 3))
        message.raw_input_contents.append(images[index].tobytes())
        return message

    async with grpc.aio.insecure_channel(server.url) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for start in range(0, 80, 4):
            calls = [stub.ModelInfer(request(start + i)) for i in range(4)]
            calls[position].cancel()
            for i, call in enumerate(calls):
                if i == position:
                    with pytest.raises(asyncio.CancelledError):
                        await call
                else:
                    logits = np.frombuffer((await call).raw_output_contents[0], np.float32)
                    np.testing.assert_allclose(logits, expected[start + i], atol=1e-4)


def test_the_client_splits_what_is_more_than_a_call_takes(server: RunningServer, expected: Logits) -> None:
    with Client(server.url) as client:
        np.testing.assert_allclose(client.infer(load_sample().images[:200]), expected[:200], atol=1e-4)


def test_a_deadline_is_kept(server: RunningServer) -> None:
    with Client(server.url) as client, pytest.raises(ClientError) as error:
        client.infer(load_sample().images[:1], timeout=1e-4)
    assert error.value.status is grpc.StatusCode.DEADLINE_EXCEEDED
