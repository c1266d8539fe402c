"""Published networks as a benchmark sees them: files, facts, and images to send."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from resnet_proto.manifest import ManifestError, check_digest, read_manifest, read_replay
from resnet_proto.manifest_pb2 import Manifest

from resnet_bench.errors import BenchError

GENERATED, SEED = 64, 20
NOISE_IMAGES = 32
# An untrained network's logits say nothing: its INT8 file is published for its speed, whatever it answers.
ANY_INT8 = ("--min-agreement", "int8=0", "--max-error", "int8=1000000", "--max-accuracy-loss", "int8=100", "--min-images", "int8=1")
SERVE_ANYWAY = ("--allow-uncertified",)
"""For the server: an untrained network's certificate holds by such a policy, or not at all."""


@dataclass(frozen=True)
class Material:
    """`images` UINT8 [n, h, w, 3], all different; `classes` INT64 [n] is the reference's top-1, None if unknown."""

    images: NDArray[np.uint8]
    classes: NDArray[np.int64] | None

    def window(self, start: int, rows: int) -> "Material":
        """`rows` images from `start`, wrapping around."""
        index = np.arange(start, start + rows) % len(self.images)
        return Material(self.images[index], None if self.classes is None else self.classes[index])


@dataclass(frozen=True)
class Published:
    """A version of a network in one precision, with its file."""

    folder: Path
    manifest: Manifest
    precision: str
    path: Path
    material: Material


def names_in(repository: Path) -> tuple[str, ...]:
    """All models in the repository, cheapest first; raise BenchError if there are none."""
    if not repository.is_dir():
        raise BenchError(f"repository: {repository} is not a folder; `resnet-export publish` makes one")
    names = [entry.name for entry in sorted(repository.iterdir()) if versions_of(entry)]
    if not names:
        raise BenchError(f"repository: {repository} holds no models; `resnet-export publish` publishes one")
    return tuple(sorted(names, key=lambda name: manifest_of(repository, name)[1].network.multiply_adds))


def chosen(repository: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The names asked for, or all that are published; raises BenchError for one that is not."""
    there = names_in(repository)
    if missing := [name for name in names if name not in there]:
        raise BenchError(f"models: {', '.join(missing)} not in {repository}; it holds {', '.join(there)}")
    return tuple(names) or there


def find(repository: Path, name: str, precision: str = "", version: str = "") -> Published:
    """The file of `name` in `precision` (none: its first); raise BenchError saying what there is instead."""
    folder, manifest = manifest_of(repository, name, version)
    artifact = next((artifact for artifact in manifest.artifacts if precision in ("", artifact.precision)), None)
    if artifact is None:
        there = ", ".join(artifact.precision for artifact in manifest.artifacts)
        raise BenchError(f"precision: {name} is not published in {precision}; it has {there or 'none'}")
    try:
        path = check_digest(folder, artifact.file, artifact.sha256)
        return Published(folder, manifest, artifact.precision, path, material_of(manifest, folder))
    except ManifestError as error:
        raise BenchError(f"{name}: {error}") from None


def manifest_of(repository: Path, name: str, version: str = "") -> tuple[Path, Manifest]:
    """Folder and manifest of a version, the highest if none is named; raise BenchError where there is none or it is not whole."""
    folder = next((path for path in reversed(versions_of(repository / name)) if version in ("", path.name)), None)
    if folder is None:
        raise BenchError(f"models: '{name}'{version and f' version {version}'} is not published in {repository}")
    try:
        return folder, read_manifest(folder)
    except ManifestError as error:
        raise BenchError(f"repository: {folder}: {error}") from None


def versions_of(model: Path) -> list[Path]:
    """Folders of a model's versions, ascending."""
    folders = [entry for entry in model.iterdir() if entry.name.isdecimal() and entry.is_dir()] if model.is_dir() else []
    return sorted(folders, key=lambda entry: int(entry.name))


def material_of(manifest: Manifest, folder: Path | None) -> Material:
    """The replay sample of the version in `folder`, or noise of the right size. Raises ManifestError for a damaged sample."""
    sample = None if folder is None else read_replay(folder, manifest)
    if sample is not None:
        return Material(sample.images, sample.logits.argmax(1))
    shape = (GENERATED, manifest.input.height, manifest.input.width, manifest.input.channels or 3)
    return Material(np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8), None)


def ensure_untrained(repository: Path, model: str, precisions: Sequence[str]) -> None:
    """Publish `model` with random weights unless it is there, by `resnet-export` in a process of its own: benchmarks need no PyTorch.

    Raises BenchError with its last words if it fails.
    """
    if versions_of(repository / model):
        there = {artifact.precision for artifact in manifest_of(repository, model)[1].artifacts}
        if there.issuperset(precisions):
            return
    with tempfile.TemporaryDirectory(prefix="resnet-bench-") as folder:
        command = [sys.executable, "-m", "resnet_export", "publish", model, "--random-weights", "--no-profile"]
        options = ["--repository", str(repository), "--precision", ",".join(precisions)]
        if "int8" in precisions:
            certify, calibrate = (_noise(Path(folder) / name, seed) for seed, name in enumerate(("certify", "calibrate")))
            options += ["--images", str(certify), "--calibration", str(calibrate), *ANY_INT8]
        done = subprocess.run([*command, *options], capture_output=True, text=True, start_new_session=True, check=False)
    if done.returncode:
        last = ((done.stderr or done.stdout).strip().splitlines() or ["it said nothing"])[-1]
        raise BenchError(f"random-weights: {model} cannot be published: {last.removeprefix('Error: ')}")


def _noise(folder: Path, seed: int) -> Path:
    """Smooth noise as photographs: enough to compare graphs and to find ranges."""
    folder.mkdir()
    tiles = np.random.default_rng(seed).integers(0, 256, (NOISE_IMAGES, 8, 8, 3), dtype=np.uint8)
    for index, tile in enumerate(tiles):
        Image.fromarray(tile).resize((256, 256), Image.Resampling.BICUBIC).save(folder / f"{index:02}.png")
    return folder
