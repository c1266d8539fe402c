"""A skip that nobody expects fails CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from skips import unexpected

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize(("reason", "listed"), [("no CUDA: the driver is missing", True), ("h2load is not on this machine", False)])
@pytest.mark.parametrize(("ci", "as_usual"), [("true", False), ("", True)])
def test_a_run_fails_in_ci_only_and_only_for_what_is_not_listed(reason: str, listed: bool, ci: str, as_usual: bool, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (tmp_path / "test_one.py").write_text(f"import pytest\n\n\ndef test_one():\n    pytest.skip({reason!r})\n")
    environment = {**os.environ, "CI": ci, "PYTHONPATH": str(TESTS / "support")}
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), "-c", os.devnull, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert result.returncode == (0 if listed or as_usual else 1), result.stdout + result.stderr
    assert ("NOT LISTED" in result.stdout) == (not listed and not as_usual)


def test_the_list_goes_by_the_beginning() -> None:
    assert unexpected([("a", "Skipped: no CUDA: x"), ("b", "because no CUDA")]) == ["b: because no CUDA"]
