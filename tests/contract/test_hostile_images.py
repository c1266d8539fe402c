"""Images as people and attackers send them, committed in tests/data/hostile: each is answered or refused, and harms nobody."""

import io
import json
from pathlib import Path

import grpc
import pytest
from PIL import Image
from resnet_models.sample import load_sample
from resnet_proto import classifier_pb2 as pb
from resnet_proto.classifier_pb2_grpc import ClassifierStub

FOLDER = Path(__file__).parents[1] / "data" / "hostile"
EXPECTED = {name: how for name, how in json.loads((FOLDER / "index.json").read_text()).items() if not name.endswith(".onnx")}


def neighbour() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(load_sample().images[0]).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("name", EXPECTED)
def test_each_is_answered_or_refused_and_harms_nobody(name: str, channel: grpc.Channel) -> None:
    stub = ClassifierStub(channel)
    request = pb.ClassifyRequest(images=[(FOLDER / name).read_bytes()])
    if EXPECTED[name] == "answered":
        (result,) = stub.Classify(request).results
        assert len(result.labels) == 5
    else:
        with pytest.raises(grpc.RpcError) as error:
            stub.Classify(request)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (error.value.details() or "").startswith("images[0]: ")
    assert stub.Classify(pb.ClassifyRequest(images=[neighbour()])).results[0].labels[0].label == "cat"
