"""The committed networks: their cards say what they say, and they classify as they claim."""

from pathlib import Path

import numpy as np
import pytest
import torch
from resnet_models.card import model_card
from resnet_models.checkpoint import load_checkpoint
from resnet_models.evaluate import predict
from resnet_models.evaluation import read_evaluations
from resnet_models.sample import load_sample

FOLDER = Path(__file__).parents[3] / "models" / "resnet_models" / "pretrained"
RESULTS = Path(__file__).parents[3] / "docs" / "results" / "depth"
CHECKPOINTS = sorted(FOLDER.glob("*.safetensors"))


def test_resnet20_is_there() -> None:
    assert "resnet20" in [path.stem for path in CHECKPOINTS]


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_the_card_is_what_the_checkpoint_says(path: Path) -> None:
    train = read_evaluations(RESULTS / "evaluations-train.json")
    assert path.with_suffix(".md").read_text() == model_card(load_checkpoint(path), path, train)


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_the_accuracy_on_the_sample_is_near_the_stated_one(path: Path) -> None:
    checkpoint, sample = load_checkpoint(path), load_sample()
    images = torch.from_numpy(sample.images.transpose(0, 3, 1, 2).copy())
    right = predict(checkpoint.network, images, checkpoint.info.normalisation).argmax(1).numpy() == sample.labels
    stated = checkpoint.info.accuracy
    assert stated is not None
    assert 100 * float(np.mean(right)) == pytest.approx(stated, abs=3.0)  # 1,000 images: three standard errors


def test_the_samples_are_balanced_and_disjoint() -> None:
    certification, calibration = load_sample(), load_sample("calibration")
    assert np.bincount(certification.labels).tolist() == [100] * 10
    assert np.bincount(calibration.labels).tolist() == [50] * 10
    digests = {image.tobytes() for image in certification.images}
    assert len(digests) == 1000
    assert not digests & {image.tobytes() for image in calibration.images}
