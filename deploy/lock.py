"""`make lock`: pin every package that an image gets, with its hashes, from what pyproject.toml asks for.

PyTorch and its CUDA libraries have a lock of their own, so that an index with CPU builds can stand in for them. `dev.lock` pins what a
clone gets on any of our Pythons; `make install` reads it as constraints, which pip takes without hashes only.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from deploy.compile_server import REQUIRED

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "lock"
PYTHON = "3.13"
OLDEST = "3.11"  # Debian 12 has 3.11.2
OURS = ("resnet-serving-networks", "resnet-serving-checkpoints")
TORCH_FAMILY = re.compile(r"(torch|torchvision|triton|nvidia-.*|cuda-.*)==")
HEADER = "# Made by `make lock`; do not edit.\n"


EXTRAS = {
    "server.lock": ("server", "openvino", "traces", "remote"),
    "server-gpu.lock": ("server-gpu", "traces", "remote"),
    "bench.lock": ("bench",),
    "export.lock": ("export",),
}
"""Each image's file and the extras of pyproject.toml that it needs."""


def main() -> None:
    """Write all lock files."""
    FOLDER.mkdir(exist_ok=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    build = [*project["build-system"]["requires"], *REQUIRED]
    write("build.lock", resolve("-", "--generate-hashes", requirements="\n".join(build)))
    for file, extras in EXTRAS.items():
        pins = resolve("pyproject.toml", *(part for extra in extras for part in ("--extra", extra)), "--generate-hashes")
        if "export" in extras:
            write("torch.lock", [pin for pin in pins if TORCH_FAMILY.match(pin)])
            pins = [pin for pin in pins if not TORCH_FAMILY.match(pin)]
        write(file, pins)
    development = FOLDER / "dev.lock"  # what is pinned there stays as long as it fits, so that environments need not change
    resolve("pyproject.toml", "--extra", "dev", "--output-file", str(development), python=OLDEST)
    write(development.name, development.read_text(encoding="utf-8").splitlines())


def resolve(*arguments: str, requirements: str = "", python: str = PYTHON) -> list[str]:
    """Pin what `arguments` ask for, and `requirements` (as in a requirements file) for `-`; a text for each package."""
    command = [sys.executable, "-m", "uv", "pip", "compile", *arguments, "--python-version", python, "--universal"]
    options = ["--no-annotate", "--no-header", "--quiet", *(part for name in OURS for part in ("--no-emit-package", name))]
    result = subprocess.run([*command, *options], input=requirements, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"lock: {' '.join(arguments)}: {result.stderr.strip()}")
    return re.split(r"\n(?=\S)", result.stdout.strip())


def write(name: str, pins: list[str]) -> None:
    """Write one lock file and say so."""
    (FOLDER / name).write_text(HEADER + "\n".join(pins) + "\n", encoding="utf-8")
    print(f"deploy/lock/{name}: {len(pins)} packages")


if __name__ == "__main__":
    main()
