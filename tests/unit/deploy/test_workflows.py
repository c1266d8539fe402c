"""What GitHub runs: valid files, targets that exist, and every Python that the package says it supports."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CI: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_target_and_file_that_a_workflow_names_exists(path: Path) -> None:
    text = path.read_text()
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"run: make ([\w-]+)", text)) <= targets
    for file in re.findall(r"cache-dependency-path: (\S+) ", text):
        assert (ROOT / file).is_file()
    assert "permissions:" in text, "a workflow has no more rights than it names"
    (folders,) = re.findall(r"for folder in ([^;]+);", text)
    assert all((ROOT / folder / "pyproject.toml").is_file() for folder in folders.split())


def test_ci_lints_tests_builds_the_site_and_the_wheels_on_each_supported_python() -> None:
    assert set(CI["jobs"]) == {"lint", "test", "compiled", "docs", "wheels"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    supported = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert CI["jobs"]["test"]["strategy"]["matrix"]["python"] == supported


def test_hooks_run_what_lint_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text()
    for hook in hooks:
        program = hook["entry"].split()[0].removeprefix(".venv/bin/")
        assert program in makefile, hook["id"]
