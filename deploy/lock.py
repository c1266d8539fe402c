"""`make lock`: pin every package that an image gets, with its hashes, from what pyproject.toml asks for.

The images get ONNX Runtime's CPU build (it exists for x86-64 and ARM, and is a tenth of the GPU build's size), except for the
server's GPU image. PyTorch and its CUDA libraries have a lock of their own, so that an index with CPU builds can stand in for them.
"""

import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "lock"
PYTHON = "3.13"
CPU = "onnxruntime>=1.24"
# cuBLAS is named because the extras of some releases leave it out, and CUDA then fails to load.
GPU = "onnxruntime-gpu[cuda,cudnn]>=1.24; sys_platform == 'linux' and platform_machine == 'x86_64'\nnvidia-cublas; sys_platform == 'linux'"
TORCH_FAMILY = re.compile(r"(torch|torchvision|triton|nvidia-.*|cuda-.*)==")
HEADER = "# Made by `make lock`; do not edit.\n"


@dataclass(frozen=True)
class Image:
    """An image's file, the extra of pyproject.toml that it needs, the runtime beside it, and the runtime that must not be there."""

    file: str
    extra: str
    runtime: str
    without: str


IMAGES = (
    Image("server.lock", "server", CPU, "onnxruntime-gpu"),
    Image("server-gpu.lock", "server", GPU, "onnxruntime"),
    Image("bench.lock", "bench", CPU, "onnxruntime-gpu"),
    Image("export.lock", "export", CPU, "onnxruntime-gpu"),
)


def main() -> None:
    """Write all lock files."""
    FOLDER.mkdir(exist_ok=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    write("build.lock", resolve("\n".join(project["build-system"]["requires"])))
    for image in IMAGES:
        pins = resolve(image.runtime, "pyproject.toml", "--extra", image.extra, "--no-emit-package", image.without)
        if image.extra == "export":
            write("torch.lock", [pin for pin in pins if TORCH_FAMILY.match(pin)])
            pins = [pin for pin in pins if not TORCH_FAMILY.match(pin)]
        write(image.file, pins)


def resolve(requirements: str, *arguments: str) -> list[str]:
    """Pin `requirements` (as in a requirements file) and what `arguments` add; a text for each package, hashes included."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", *arguments, "--python-version", PYTHON, "--universal"]
    options = ["--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
    result = subprocess.run([*command, *options], input=requirements, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"lock: {requirements.splitlines()[0]}: {result.stderr.strip()}")
    return re.split(r"\n(?=\S)", result.stdout.strip())


def write(name: str, pins: list[str]) -> None:
    """Write one lock file and say so."""
    (FOLDER / name).write_text(HEADER + "\n".join(pins) + "\n", encoding="utf-8")
    print(f"deploy/lock/{name}: {len(pins)} packages")


if __name__ == "__main__":
    main()
