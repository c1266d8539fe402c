"""Fixtures for all tests."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def pretrained() -> Path:
    """The committed resnet20."""
    return ROOT / "models" / "resnet_models" / "pretrained" / "resnet20.safetensors"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The material beside the project; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the material beside the project is not here")
    return folder
