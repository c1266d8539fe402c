"""A network of one channel whose labels stand on their own, published from the user's own module and served."""

import io
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
import torch
from networks import seeded
from PIL import Image
from resnet_export.api import Preprocessing, publish
from resnet_proto import classifier_pb2 as pb
from resnet_proto import open_inference_pb2 as oip
from resnet_proto.classifier_pb2_grpc import ClassifierStub
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving import running_server
from torch import nn

LABELS = ("scratch", "dent", "stain")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 3, 2)
        self.classifier = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(torch.relu(self.convolution(x)).mean((2, 3)))
        return logits


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other") / "repository"
    preprocessing = Preprocessing(mean=(0.5,), std=(0.25,), size=40, resize=48)
    publish(seeded(Small(), channels=1), preprocessing=preprocessing, labels=LABELS, repository=folder, name="defects", multi_label=True)
    return folder


def test_classify_decodes_to_grey_and_answers_with_sigmoids(repository: Path, tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    session = onnxruntime.InferenceSession(repository / "defects" / "1" / "model.fp32.onnx", providers=["CPUExecutionProvider"])
    expected = session.run(None, {"image": grey[4:44, 4:44][None, :, :, None]})[0][0]
    with running_server(repository, tmp_path / "log") as server, grpc.insecure_channel(server.url) as channel:
        (result,) = ClassifierStub(channel).Classify(pb.ClassifyRequest(images=[buffer.getvalue()])).results
        metadata = GRPCInferenceServiceStub(channel).ModelMetadata(oip.ModelMetadataRequest(name="defects"))
    found = {label.index: label for label in result.labels}
    for index, logit in enumerate(expected):
        assert found[index].label == LABELS[index]
        assert found[index].logit == pytest.approx(float(logit), abs=1e-4)
        assert found[index].probability == pytest.approx(1 / (1 + np.exp(-float(logit))), abs=1e-5)
    assert list(metadata.inputs[0].shape) == [-1, 40, 40, 1]
