"""Lock files: everything pinned and hashed, nothing from a named host, no PyTorch where none belongs."""

import re
import tomllib
from pathlib import Path

import pytest

from deploy import lock

ROOT = Path(__file__).parents[3]
LOCKS = sorted(path for path in (ROOT / "deploy" / "lock").glob("*.lock") if path.name != "dev.lock")
OURS = {"resnet-serving-networks", "resnet-serving-checkpoints"}  # built from the clone
PIN = re.compile(r"([a-z0-9._-]+)==([^\s;]+)( ;[^\\]+)?(?: \\\n +--hash=sha256:[0-9a-f]{64})+")
TORCH = re.compile(r"torch|triton|nvidia-|cuda-")
EXTRAS = {name: extras for name, extras in lock.EXTRAS.items() if name != "export.lock"}


def pins(path: Path) -> dict[str, str]:
    """Name to version; fails where a line is anything but a pin with hashes."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    assert not PIN.sub("", text).strip(), path.name
    return {match[1]: match[2] for match in PIN.finditer(text)}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_holds_pins_with_hashes_and_no_host(path: Path) -> None:
    assert pins(path)
    assert "://" not in path.read_text()


@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_has_what_its_extra_asks_for_and_no_torch(name: str) -> None:
    locked = pins(ROOT / "deploy" / "lock" / name)
    for package in {package for extra in EXTRAS[name] for package in direct(extra)} - OURS:
        assert package in locked, f"{package}: run `make lock`"
    gpu = name == "server-gpu.lock"
    assert ("onnxruntime-gpu" in locked, "onnxruntime" in locked) == (gpu, not gpu)
    assert {"nvidia-cublas", "nvidia-cudnn-cu13"} <= set(locked) or not gpu
    assert not [package for package in locked if TORCH.match(package) and not (gpu and package.startswith("nvidia-"))]


def test_the_development_lock_pins_what_its_extra_asks_for_and_no_host() -> None:
    text = (ROOT / "deploy" / "lock" / "dev.lock").read_text()
    pinned = {line.partition("==")[0] for line in text.splitlines() if "==" in line}
    assert direct("dev") - OURS <= pinned, "run `make lock`"
    assert "://" not in text


def direct(extra: str) -> set[str]:
    """Names that pyproject.toml asks for under an extra, through our own extras too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {name(requirement) for requirement in project["dependencies"]}
    for requirement in project["optional-dependencies"][extra]:
        if inner := re.fullmatch(r"resnet-serving\[(.+)\]", requirement):
            names |= {package for part in inner[1].split(",") for package in direct(part)}
        else:
            names.add(name(requirement))
    return names


def name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match
    return match[0].lower()
