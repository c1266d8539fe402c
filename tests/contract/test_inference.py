"""The Open Inference Protocol over a real socket: right answers, and a clear status for every wrong request."""

from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from resnet_models.sample import load_sample
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.limits import MAX_MESSAGE_BYTES
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub

Request = pb.ModelInferRequest
Edit = Callable[[Request], object]


@pytest.fixture
def stub(channel: grpc.Channel) -> GRPCInferenceServiceStub:
    return GRPCInferenceServiceStub(channel)


@pytest.fixture(scope="session")
def session(repository: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(repository / "resnet20" / "1" / "model.fp32.onnx"), providers=["CPUExecutionProvider"])


def request_for(images: NDArray[np.uint8]) -> Request:
    request = Request(model_name="resnet20", id="7")
    request.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    request.raw_input_contents.append(images.tobytes())
    return request


def logits_of(response: pb.ModelInferResponse) -> NDArray[np.float32]:
    return np.frombuffer(response.raw_output_contents[0], np.float32).reshape(tuple(response.outputs[0].shape))


def test_raw_contents_give_onnx_runtimes_logits(stub: GRPCInferenceServiceStub, session: onnxruntime.InferenceSession) -> None:
    images = load_sample().images[:5]
    response = stub.ModelInfer(request_for(images))
    assert (response.model_name, response.model_version, response.id) == ("resnet20", "1", "7")
    assert response.outputs[0].datatype == "FP32"
    np.testing.assert_allclose(logits_of(response), session.run(None, {"image": images})[0], atol=1e-4)
    assert response.parameters["precision"].string_param == "fp32"
    assert response.parameters["provider"].string_param == "CPUExecutionProvider"
    assert len(response.parameters["certificate"].string_param) == 64


def test_typed_contents_give_the_same(stub: GRPCInferenceServiceStub) -> None:
    images = load_sample().images[:2]
    typed = request_for(images)
    del typed.raw_input_contents[:]
    typed.inputs[0].contents.uint_contents.extend(images.flatten().tolist())
    np.testing.assert_array_equal(logits_of(stub.ModelInfer(typed)), logits_of(stub.ModelInfer(request_for(images))))


def test_the_classification_extension(stub: GRPCInferenceServiceStub) -> None:
    request = request_for(load_sample().images[:1])
    row = logits_of(stub.ModelInfer(request))[0]
    request.outputs.add(name="logits").parameters["classification"].int64_param = 2
    response = stub.ModelInfer(request)
    data, first = response.raw_output_contents[0], int(row.argmax())
    size = int.from_bytes(data[:4], "little")
    value, index, label = data[4 : 4 + size].decode().split(":")
    assert (response.outputs[0].datatype, list(response.outputs[0].shape)) == ("BYTES", [1, 2])
    assert float(value) == pytest.approx(float(row.max()), abs=1e-5)
    assert (int(index), label) == (first, "cat")


def raw(request: Request, data: bytes) -> None:
    request.raw_input_contents[0] = data


def shape(request: Request, *dims: int) -> None:
    request.inputs[0].shape[:] = dims


WRONG: dict[str, tuple[Edit, grpc.StatusCode, str]] = {
    "model": (
        lambda r: setattr(r, "model_name", "resnet9"),
        grpc.StatusCode.NOT_FOUND,
        "model_name: 'resnet9' is unknown; served: resnet20",
    ),
    "version": (
        lambda r: setattr(r, "model_version", "2"),
        grpc.StatusCode.NOT_FOUND,
        "model_version: '2' of model 'resnet20' is unknown; served: 1",
    ),
    "datatype": (
        lambda r: setattr(r.inputs[0], "datatype", "FP32"),
        grpc.StatusCode.INVALID_ARGUMENT,
        "inputs[0].datatype: 'FP32'; expected 'UINT8'",
    ),
    "name": (lambda r: setattr(r.inputs[0], "name", "x"), grpc.StatusCode.INVALID_ARGUMENT, "inputs[0].name: 'x'; expected 'image'"),
    "shape": (
        lambda r: shape(r, 1, 3, 32, 32),
        grpc.StatusCode.INVALID_ARGUMENT,
        "inputs[0].shape: [1, 3, 32, 32]; expected [n, 32, 32, 3]",
    ),
    "rank": (lambda r: shape(r, 32, 32, 3), grpc.StatusCode.INVALID_ARGUMENT, "inputs[0].shape: [32, 32, 3]; expected [n, 32, 32, 3]"),
    "negative": (lambda r: shape(r, -1, 32, 32, 3), grpc.StatusCode.INVALID_ARGUMENT, "inputs[0].shape: [-1, 32, 32, 3]"),
    "no rows": (lambda r: shape(r, 0, 32, 32, 3), grpc.StatusCode.INVALID_ARGUMENT, "inputs[0].shape: 0 rows; expected 1 to 64"),
    "many rows": (lambda r: shape(r, 65, 32, 32, 3), grpc.StatusCode.INVALID_ARGUMENT, "inputs[0].shape: 65 rows; expected 1 to 64"),
    "bytes": (lambda r: raw(r, b"123"), grpc.StatusCode.INVALID_ARGUMENT, "raw_input_contents[0]: 3 bytes; expected 3072"),
    "no contents": (
        lambda r: r.ClearField("raw_input_contents"),
        grpc.StatusCode.INVALID_ARGUMENT,
        "inputs[0].contents.uint_contents: 0 values; expected 3072",
    ),
    "two contents": (
        lambda r: r.raw_input_contents.append(b""),
        grpc.StatusCode.INVALID_ARGUMENT,
        "raw_input_contents: 2 entries; expected 1",
    ),
    "mixed contents": (
        lambda r: r.inputs[0].contents.uint_contents.append(1),
        grpc.StatusCode.INVALID_ARGUMENT,
        "raw_input_contents: given together with inputs[0].contents",
    ),
    "no input": (lambda r: r.ClearField("inputs"), grpc.StatusCode.INVALID_ARGUMENT, "inputs: 0 (none); expected one, 'image'"),
    "two inputs": (lambda r: r.inputs.add(name="b"), grpc.StatusCode.INVALID_ARGUMENT, "inputs: 2 ('image', 'b'); expected one"),
    "output": (lambda r: r.outputs.add(name="y"), grpc.StatusCode.INVALID_ARGUMENT, "outputs: 'y'; expected 'logits'"),
    "timeout": (
        lambda r: setattr(r.parameters["timeout"], "double_param", float("nan")),
        grpc.StatusCode.INVALID_ARGUMENT,
        "parameters.timeout: nan as double_param; expected a positive int64_param in microseconds",
    ),
    "negative timeout": (
        lambda r: setattr(r.parameters["timeout"], "int64_param", -1),
        grpc.StatusCode.INVALID_ARGUMENT,
        "parameters.timeout: -1; expected a positive int64_param",
    ),
    "priority": (
        lambda r: setattr(r.parameters["priority"], "int64_param", 4),
        grpc.StatusCode.INVALID_ARGUMENT,
        "parameters.priority: 4; expected 0 to 3 as int64_param: 1 goes first, 0 is the default",
    ),
    "shared memory": (
        lambda r: setattr(r.inputs[0].parameters["shared_memory_region"], "string_param", "a"),
        grpc.StatusCode.INVALID_ARGUMENT,
        "inputs[0].parameters.shared_memory_byte_size: is missing beside shared_memory_region",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_gets_a_clear_status_and_the_server_goes_on(case: str, stub: GRPCInferenceServiceStub) -> None:
    edit, code, message = WRONG[case]
    request = request_for(load_sample().images[:1])
    edit(request)
    with pytest.raises(grpc.RpcError) as error:
        stub.ModelInfer(request)
    assert error.value.code() is code
    assert message in (error.value.details() or "")
    assert stub.ModelInfer(request_for(load_sample().images[:1])).model_version == "1"


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("fp32_contents", [1.0], "inputs[0].contents.fp32_contents: given for UINT8; expected uint_contents"),
        ("uint_contents", [1] * 3072, None),
        ("uint_contents", [256] * 3072, "inputs[0].contents.uint_contents: a value of 256; expected 0 to 255"),
    ],
)
def test_typed_contents_are_checked(kind: str, values: list[float], message: str | None, stub: GRPCInferenceServiceStub) -> None:
    request = request_for(load_sample().images[:1])
    del request.raw_input_contents[:]
    getattr(request.inputs[0].contents, kind).extend(values)
    if message is None:
        assert logits_of(stub.ModelInfer(request)).shape == (1, 10)
        return
    with pytest.raises(grpc.RpcError) as error:
        stub.ModelInfer(request)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in (error.value.details() or "")


def test_a_request_above_the_message_limit_is_refused(stub: GRPCInferenceServiceStub) -> None:
    request = request_for(load_sample().images[:1])
    raw(request, bytes(MAX_MESSAGE_BYTES))
    with pytest.raises(grpc.RpcError) as error:
        stub.ModelInfer(request)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in (error.value.details() or "")
    assert stub.ServerLive(pb.ServerLiveRequest()).live


def test_server_and_model_describe_themselves(stub: GRPCInferenceServiceStub) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    assert stub.ModelReady(pb.ModelReadyRequest(name="resnet20", version="1")).ready
    assert stub.ServerMetadata(pb.ServerMetadataRequest()).name == "resnet-serving"
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="resnet20"))
    assert list(metadata.versions) == ["1"]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("image", "UINT8", [-1, 32, 32, 3])]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [("logits", "FP32", [-1, 10])]
    index = stub.RepositoryIndex(pb.RepositoryIndexRequest())
    assert [(m.name, m.version, m.state) for m in index.models] == [("resnet20", "1", "READY")]


def test_an_unknown_model_is_not_ready_and_has_no_metadata(stub: GRPCInferenceServiceStub) -> None:
    assert not stub.ModelReady(pb.ModelReadyRequest(name="nobody")).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="resnet20", version="2")).ready
    with pytest.raises(grpc.RpcError) as error:
        stub.ModelMetadata(pb.ModelMetadataRequest(name="nobody"))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


LONG = "\u00e9" * 50_000
ECHOED: dict[str, tuple[Edit, str]] = {
    "model": (lambda r: setattr(r, "model_name", LONG), "model_name: 100000 bytes; expected at most 4096"),
    "shorter model": (lambda r: setattr(r, "model_name", "m" * 4000), f"model_name: '{'m' * 100}... (4000 characters)' is unknown"),
    "version": (lambda r: setattr(r, "model_version", "9" * 4000), f"model_version: '{'9' * 100}... (4000 characters)'"),
    "id": (lambda r: setattr(r, "id", LONG), "id: 100000 bytes; expected at most 4096"),
    "tensor": (lambda r: setattr(r.inputs[0], "name", "n" * 100_000), f"inputs[0].name: '{'n' * 100}... (100000 characters)'"),
    "datatype": (lambda r: setattr(r.inputs[0], "datatype", "n" * 100_000), "... (100000 characters)'; expected 'UINT8'"),
    "shape": (lambda r: shape(r, *[1] * 1000), "inputs[0].shape: [1, 1, 1, 1, 1, 1, 1, 1, ... (1000 in all)]"),
    "dimensions": (lambda r: shape(r, *[1] * 100_000), "inputs.shape: 100000 bytes of dimensions; expected at most 1024"),
    "inputs": (lambda r: r.inputs.extend([r.inputs[0]] * 999), "inputs: 1000 ('image', 'image', "),
    "many inputs": (lambda r: r.inputs.extend([r.inputs[0]] * 9999), "request: has more than 4096 fields"),
    "outputs": (lambda r: [r.outputs.add(name=LONG) for _ in range(3)], "outputs: '\u00e9"),
    "precision": (lambda r: setattr(r.parameters["precision"], "string_param", LONG), "... (50000 characters)' of model"),
    "priority": (lambda r: setattr(r.parameters["priority"], "string_param", LONG), "(50002 characters) as string_param"),
    "typed values": (lambda r: r.inputs[0].contents.uint_contents.extend([1] * 100_000), "given together with inputs[0].contents"),
}


@pytest.mark.parametrize("case", ECHOED)
def test_a_value_of_megabytes_is_answered_in_a_status_that_arrives(case: str, stub: GRPCInferenceServiceStub) -> None:
    edit, text = ECHOED[case]
    request = request_for(load_sample().images[:1])
    edit(request)
    with pytest.raises(grpc.RpcError) as error:
        stub.ModelInfer(request)
    assert error.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    assert text in (error.value.details() or "")
    assert len(error.value.details() or "") < 2100


def test_an_unknown_parameter_of_megabytes_is_ignored(stub: GRPCInferenceServiceStub) -> None:
    request = request_for(load_sample().images[:1])
    request.parameters["trace"].string_param = "x" * (4 << 20)
    assert logits_of(stub.ModelInfer(request)).shape == (1, 10)


def test_a_timeout_of_0_is_none(stub: GRPCInferenceServiceStub) -> None:
    request = request_for(load_sample().images[:1])
    request.parameters["timeout"].int64_param = 0
    assert stub.ModelInfer(request).model_version == "1"


def test_the_timeout_parameter_is_a_deadline(stub: GRPCInferenceServiceStub) -> None:
    request = request_for(load_sample().images[:1])
    request.parameters["timeout"].int64_param = 1
    with pytest.raises(grpc.RpcError) as error:
        stub.ModelInfer(request)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    request.parameters["timeout"].int64_param = 10_000_000
    assert stub.ModelInfer(request).model_version == "1"
