"""The compiled form: what is compiled is there, a wheel has it only where it is asked for, and what runs says which form it is."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from resnet_server.build_form import COMPILED, PURE, build_form

from deploy import compile_server as compiling

ROOT = Path(__file__).parents[3]
SMALL = {"batching": "batcher held_bytes", "metrics": "buffer"}
ASK = """
from resnet_server.batching.held_bytes import HeldBytes
from resnet_server.build_form import build_form
print(build_form(), HeldBytes)
"""


def test_every_module_that_is_compiled_is_there() -> None:
    paths = [f"{folder}/{name}.py" for folder, names in compiling.MODULES.items() for name in names.split()]
    assert [path for path in paths if not (ROOT / "server" / "resnet_server" / path).is_file()] == []
    assert len(set(paths)) == len(paths)


def test_the_wheel_is_pure_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, asked in (("", False), ("0", False), ("1", True)):
        monkeypatch.setenv(compiling.SWITCH, value)
        assert compiling.is_asked_for() is asked
    monkeypatch.delenv(compiling.SWITCH)
    assert not compiling.is_asked_for()
    hooks = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
    assert hooks == {"custom": {"path": "deploy/compile_server.py"}}


def test_the_images_and_the_lock_have_what_compiles() -> None:
    lock = (ROOT / "deploy" / "lock" / "build.lock").read_text()
    assert all(f"\n{requirement.partition('=')[0].partition('>')[0]}==" in lock for requirement in compiling.REQUIRED)
    assert f"\n{compiling.REQUIRED[0]} " in lock, "another mypy in the images than in the wheels"
    assert "!deploy/compile_server.py" in (ROOT / ".dockerignore").read_text().splitlines()


def test_a_compiled_module_takes_the_place_of_its_source(tmp_path: Path) -> None:
    found = compiling.compiled(ROOT, tmp_path / "compiled", SMALL)
    assert {path.name.partition(".")[0] for path in found} == {"batcher", "held_bytes", "buffer", "resnet_server__mypyc"}
    asked = {**os.environ, "PYTHONPATH": str(tmp_path / "compiled")}
    done = subprocess.run([sys.executable, "-c", ASK], env=asked, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{COMPILED} ")
    plain = subprocess.run([sys.executable, "-c", ASK], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert plain.stdout.startswith(f"{build_form()} ")
    assert build_form() in (COMPILED, PURE)
