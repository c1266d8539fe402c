"""A CIFAR-10 of real images that trains in a second."""

from pathlib import Path

import numpy as np
import pytest
from resnet_models.sample import load_sample


@pytest.fixture(scope="session")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 images to train on and 125 to judge on, of all classes."""
    path = tmp_path_factory.mktemp("small-cifar")
    for split, sample, count in (("train", load_sample("calibration"), 60), ("test", load_sample(), 125)):
        x, y = sample.images[::8][:count].transpose(0, 3, 1, 2), sample.labels[::8][:count].astype(np.uint8)
        np.savez(path / f"cifar10_{split}.npz", x=x, y=y)
    return path
