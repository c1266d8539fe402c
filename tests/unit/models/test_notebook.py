"""The notebook for teachers: it is what its source says, and its source runs."""

import ast
import json
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "docs" / "notebooks"


def test_the_notebook_is_made_from_its_source() -> None:
    made = runpy.run_path(str(FOLDER / "make.py"))["notebook"]((FOLDER / "why_depth.py").read_text(encoding="utf-8"))
    assert (FOLDER / "why_depth.ipynb").read_text(encoding="utf-8") == made
    cells = json.loads(made)["cells"]
    assert cells[0]["source"][0] == "# Why do residual networks train?\n"
    assert all(ast.parse("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code")


def test_the_notebook_runs_and_both_ways_of_counting_paths_agree(capsys: pytest.CaptureFixture[str]) -> None:
    found = runpy.run_path(str(FOLDER / "why_depth.py"))
    assert found["carried"] == pytest.approx(found["one_by_one"], abs=1e-9)
    printed = capsys.readouterr().out
    assert "resnet56: paths have 13.5 branches on average; weighted by gradient" in printed
    assert printed.count("fresh: ") == 4
    assert "resnetv2_56, untrained: 1.00 of the gradient passes 8 shortcuts" in printed
