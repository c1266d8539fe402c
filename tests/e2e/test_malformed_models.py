"""ONNX files that no server may load, committed in tests/data/hostile, beside a good model in one repository."""

import hashlib
import io
import json
import shutil
from pathlib import Path

import grpc
import pytest
from PIL import Image
from resnet_models.sample import load_sample
from resnet_proto import classifier_pb2 as pb
from resnet_proto.classifier_pb2_grpc import ClassifierStub
from serving import running_server

FOLDER = Path(__file__).parents[1] / "data" / "hostile"
FILES = sorted(FOLDER.glob("*.onnx"))


def publish_instead(file: Path, good: Path, repository: Path) -> None:
    """The good version under another name, with this file in place of its own and every digest right."""
    name = f"bad-{file.stem}"
    version = repository / name / "1"
    shutil.copytree(good, version)
    shutil.copyfile(file, version / "model.fp32.onnx")
    manifest = json.loads((version / "manifest.json").read_text())
    manifest["name"] = name
    manifest["artifacts"][0]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    data = json.dumps(manifest).encode()
    (version / "manifest.json").write_bytes(data)
    (version / "manifest.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  manifest.json\n")


def cat() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(load_sample().images[0]).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("allowed", [False, True], ids=["certified", "uncertified"])
def test_each_is_refused_with_a_reason_and_the_good_model_serves(allowed: bool, own_repository: Path, tmp_path: Path) -> None:
    for file in FILES:
        publish_instead(file, own_repository / "resnet20" / "1", own_repository)
    arguments = ["--allow-uncertified"] if allowed else []
    with running_server(own_repository, tmp_path / "log", *arguments) as server, grpc.insecure_channel(server.url) as channel:
        stub = ClassifierStub(channel)
        refused = {model.name: model.reason for model in stub.ListModels(pb.ListModelsRequest()).models if model.reason}
        (result,) = stub.Classify(pb.ClassifyRequest(model_name="resnet20", images=[cat()])).results
    assert result.labels[0].label == "cat"
    assert set(refused) == {f"bad-{file.stem}" for file in FILES}
    text = server.log.read_text()
    assert "Traceback" not in text
    for name, reason in refused.items():
        assert f"{name} version 1 is refused: {reason}" in text
