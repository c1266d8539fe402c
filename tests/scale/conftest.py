"""Fixtures of the tests that need tools of their own; `make scale-test` runs them."""

import os
import subprocess
import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, of pydantic's older ways
    import ray.serve  # noqa: F401


@pytest.fixture(scope="session")
def repository(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with resnet20, published by the environment that has PyTorch; tests must not change it.

    SCALE_REPOSITORY names one that is there already.
    """
    if given := os.environ.get("SCALE_REPOSITORY"):
        return Path(given)
    folder = tmp_path_factory.mktemp("published") / "repository"
    command = [os.environ["EXPORT_PYTHON"], "-m", "resnet_export", "publish", str(pretrained), "--repository", str(folder), "--no-profile"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder
