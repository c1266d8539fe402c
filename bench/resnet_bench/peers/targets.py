"""The preset `targets`: what the server is to reach against Triton, and on random weights where trained ones are not at hand."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from resnet_bench.errors import BenchError
from resnet_bench.limit.published import find
from resnet_bench.peers.work import Aim, Work

PEERS = ("ours", "triton")
SEVERAL_ROWS = (Aim(16, 8, 1.0), Aim(16, 32, 1.0))
SINGLES = {"resnet56": (1.3, 1.05, 1.0), "resnet20": (1.1, 1.0, 1.0)}
IN_FLIGHT = (1, 16, 64)
UNCERTIFIED = ("--allow-uncertified",)
NOISE_IMAGES = 32
# An untrained network's logits say nothing: its INT8 file is published for its speed, whatever it answers.
ANY_INT8 = ("--min-agreement", "int8=0", "--max-error", "int8=1000000", "--max-accuracy-loss", "int8=100")


def trained(repository: Path) -> tuple[Work, ...]:
    """resnet56 and resnet20: the same fp32 file, and resnet20 as it is served by default against the fp32 file."""

    def aims(ratios: tuple[float, ...]) -> tuple[Aim, ...]:
        return (*(Aim(in_flight, 1, least, True) for in_flight, least in zip(IN_FLIGHT, ratios, strict=True)), *SEVERAL_ROWS)

    same_file = (Work(repository, model, "fp32", "fp32", aims(ratios)) for model, ratios in SINGLES.items())
    return (*same_file, Work(repository, "resnet20", "auto", "fp32", (Aim(64, 1, 1.4),)))


def untrained(repository: Path) -> Work:
    """resnet50 with random weights: INT8 against the fp32 file."""
    return Work(repository, "resnet50", "int8", "fp32", (Aim(16, 1, 3.0),), UNCERTIFIED)


def ensure_random(repository: Path, model: str, precisions: tuple[str, ...]) -> None:
    """Publish `model` with random weights unless it is there, by `resnet-export` in a process of its own (it needs torch).

    Raises BenchError with its last words if it fails.
    """
    if all(_is_there(repository, model, precision) for precision in precisions):
        return
    with tempfile.TemporaryDirectory(prefix="resnet-bench-") as folder:
        certify, calibrate = (_noise(Path(folder) / name, seed) for seed, name in enumerate(("certify", "calibrate")))
        command = [sys.executable, "-m", "resnet_export", "publish", model, "--random-weights", "--no-profile"]
        images = ["--images", str(certify), *(["--calibration", str(calibrate), *ANY_INT8] if "int8" in precisions else [])]
        options = ["--repository", str(repository), "--precision", ",".join(precisions), *images]
        done = subprocess.run([*command, *options], capture_output=True, text=True, start_new_session=True, check=False)
    if done.returncode:
        last = ((done.stderr or done.stdout).strip().splitlines() or ["it said nothing"])[-1]
        raise BenchError(f"random weights: {model} cannot be published in {repository}: {last}")


def _is_there(repository: Path, model: str, precision: str) -> bool:
    try:
        find(repository, model, precision)
    except BenchError:
        return False
    return True


def _noise(folder: Path, seed: int) -> Path:
    """Smooth noise as photographs: enough to compare graphs and to find ranges."""
    folder.mkdir()
    tiles = np.random.default_rng(seed).integers(0, 256, (NOISE_IMAGES, 8, 8, 3), dtype=np.uint8)
    for index, tile in enumerate(tiles):
        Image.fromarray(tile).resize((256, 256), Image.Resampling.BICUBIC).save(folder / f"{index:02}.png")
    return folder
