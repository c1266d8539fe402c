"""`make serve` publishes first; interrupted, it goes on where it was, and a folder of somebody's own is left alone."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def make(tmp_path: Path) -> Path:
    """The Makefile, with programs in its .venv that only note down that they ran."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "resnet-server"):
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" >> ran\ntest ! -e fail\n')
        (programs / name).chmod(0o755)
    (tmp_path / ".venv" / ".installed").touch()
    return tmp_path


def serve(folder: Path) -> tuple[int, list[str]]:
    (folder / "ran").write_text("")
    status = subprocess.run(["make", "--silent", "serve", "REPOSITORY=r"], cwd=folder, check=False, capture_output=True).returncode
    return status, [line.split()[0] for line in (folder / "ran").read_text().splitlines()]


def test_what_was_interrupted_is_taken_up_and_what_is_done_is_not_done_again(make: Path) -> None:
    (make / "fail").touch()
    assert serve(make) == (2, ["python"])
    assert (make / "r").is_dir()
    (make / "fail").unlink()
    assert serve(make) == (0, ["python", "resnet-server"])
    assert serve(make) == (0, ["resnet-server"])


def test_nothing_is_published_to_a_folder_that_was_there(make: Path) -> None:
    (make / "r").mkdir()
    assert serve(make) == (0, ["resnet-server"])
    assert list((make / "r").iterdir()) == []
