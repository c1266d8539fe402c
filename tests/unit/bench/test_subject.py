"""What is known of models that another server serves."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from resnet_bench.comparison import Comparison, Plan
from resnet_bench.drivers.generators import Generators
from resnet_bench.errors import BenchError
from resnet_bench.published import chosen, find, names_in
from resnet_bench.recorder import Recorder
from resnet_bench.requests import Tensor
from resnet_bench.subject import find_subjects
from resnet_bench.target import Target
from resnet_proto import open_inference_pb2 as pb

PLAN = Plan((1,), 1, 1, 0.2, 10.0, 0.2, 2, rates=(20.0,))


def describe(request: pb.ModelMetadataRequest, context: grpc.ServicerContext) -> pb.ModelMetadataResponse:
    if request.name not in ("resnet20", "wide"):
        context.abort(grpc.StatusCode.NOT_FOUND, f"no {request.name}")
    answer = pb.ModelMetadataResponse(name=request.name, platform="other")
    shape = (-1, 32, 32, 3) if request.name == "resnet20" else (-1, -1, -1, 3)
    answer.inputs.add(name="image", datatype="UINT8", shape=shape)
    return answer


def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
    rows = request.inputs[0].shape[0]
    answer = pb.ModelInferResponse(model_name=request.model_name)
    answer.outputs.add(name="logits", datatype="FP32", shape=(rows, 10))
    answer.raw_output_contents.append(np.zeros((rows, 10), np.float32).tobytes())
    return answer


@pytest.fixture(scope="module")
def other() -> Iterator[Target]:
    """A server with the protocol's core and nothing of ours."""
    handlers = {
        "ModelMetadata": grpc.unary_unary_rpc_method_handler(
            describe, pb.ModelMetadataRequest.FromString, pb.ModelMetadataResponse.SerializeToString
        ),
        "ModelInfer": grpc.unary_unary_rpc_method_handler(infer, pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString),
    }
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield Target("other", f"127.0.0.1:{port}")
    server.stop(0).wait()


def test_another_server_is_measured_by_name(other: Target) -> None:
    (subject,) = find_subjects(other, ("resnet20",), None)
    assert (subject.facts.name, subject.facts.depth, subject.facts.provider) == ("resnet20", None, "other")
    assert subject.tensors == (Tensor("image", "UINT8", (-1, 32, 32, 3)),)
    steps: list[str] = []
    recorder = Recorder(steps.append, allow_disturbed=True)
    with Generators() as generators:
        Comparison(PLAN, [subject], generators, recorder).run()
    single, rate = recorder.samples
    assert (single.kind, rate.kind) == ("single", "rate")
    assert rate.outcomes["OK"] > 0
    assert (rate.memory_bytes, rate.server, rate.cpu) == (None, None, {})
    assert len(steps) == 2


def test_the_repository_gives_facts_images_and_the_reference(other: Target, repository: Path) -> None:
    (subject,) = find_subjects(other, ("resnet20",), repository)
    assert (subject.facts.depth, subject.facts.precision, subject.facts.version) == (20, "fp32", "")
    assert subject.published is not None
    assert subject.published.path == repository / "resnet20" / "1" / "model.fp32.onnx"
    assert subject.requests(2).classes is not None
    with Generators() as generators, pytest.raises(BenchError, match="resnet20: wrong answers: only "):
        Comparison(PLAN, [subject], generators, Recorder(allow_disturbed=True)).run()


def test_another_server_needs_names(other: Target) -> None:
    with pytest.raises(BenchError, match="is not a resnet-server and does not list its models; name them with --models"):
        find_subjects(other, (), None)
    with pytest.raises(BenchError, match="model: 'absent' is not served at 127"):
        find_subjects(other, ("absent",), None)


def test_an_open_shape_is_filled_in_by_hand(other: Target) -> None:
    (subject,) = find_subjects(other, ("wide",), None)
    with pytest.raises(BenchError, match="say its size with --input"):
        subject.requests(1)
    (subject,) = find_subjects(other, ("wide",), None, (Tensor("image", "UINT8", (-1, 8, 8, 3)),))
    assert pb.ModelInferRequest.FromString(subject.requests(4).data[0]).inputs[0].shape == [4, 8, 8, 3]


def test_models_of_a_repository_are_checked(repository: Path) -> None:
    assert chosen(repository, ()) == names_in(repository) == ("resnet20",)
    with pytest.raises(BenchError, match=r"models: resnet9 not in .*; it holds resnet20"):
        chosen(repository, ("resnet9",))


def test_what_is_not_published_is_named(repository: Path, tmp_path: Path) -> None:
    assert find(repository, "resnet20", "fp32").precision == "fp32"
    with pytest.raises(BenchError, match="models: 'resnet99' is not published"):
        find(repository, "resnet99", "fp32")
    with pytest.raises(BenchError, match="models: 'resnet20' version 9 is not published"):
        find(repository, "resnet20", "fp32", "9")
    with pytest.raises(BenchError, match="precision: resnet20 is not published in int8; it has fp32"):
        find(repository, "resnet20", "int8")
    with pytest.raises(BenchError, match="holds no models"):
        names_in(tmp_path)
    with pytest.raises(BenchError, match="is not a folder"):
        names_in(tmp_path / "absent")


def test_saturation_fills_half_a_second_on_each_core() -> None:
    assert [PLAN.saturating(alone) for alone in (0.0005, 0.1, 2.0)] == [128, 10, 4]
    assert Plan((32,), 1, 1, 0.2, 5.0, 0.2, 2).saturating(0.0005) == 4
