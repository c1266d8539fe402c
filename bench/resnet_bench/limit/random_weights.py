"""Networks with random weights, for measuring speed where trained ones are not at hand: ResNet-18 and -50 at 224x224."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from resnet_bench.errors import BenchError
from resnet_bench.limit.published import find

NOISE_IMAGES = 32
# An untrained network's logits say nothing: its INT8 file is published for its speed, whatever it answers.
ANY_INT8 = ("--min-agreement", "int8=0", "--max-error", "int8=1000000", "--max-accuracy-loss", "int8=100")
# Its certificate holds by such a policy, or not at all: the server is to serve it all the same, and says so in its log.
SERVE_ANYWAY = ("--allow-uncertified",)


def ensure_random(repository: Path, model: str, precisions: tuple[str, ...]) -> None:
    """Publish `model` with random weights unless it is there, by `resnet-export` in a process of its own (it needs torch).

    Raises BenchError with its last words if it fails.
    """
    if all(_is_there(repository, model, precision) for precision in precisions):
        return
    sys.stderr.write(f"publishing {model} with random weights in {repository}; INT8 takes some minutes\n")
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
