"""Photographs in a folder: which of them are used, and what they show."""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from resnet_proto.image_files import SUFFIXES
from resnet_proto.manifest_pb2 import Input
from resnet_proto.preprocessing import ImageError, channels_of, preprocess

from resnet_export.errors import ExportError

MOST_BYTES = 2 << 30  # of pixels in memory, whatever the folder holds


@dataclass(frozen=True)
class Photographs:
    """`images` UINT8 [n, h, w, channels], class indices INT64 [n] or None, a name each, and how many files there were."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    names: tuple[str, ...]
    available: int


def read_photographs(folder: Path, spec: Input, labels: tuple[str, ...], most: int | None = None) -> Photographs:
    """JPEG, PNG and WebP files below `folder`, preprocessed as the manifest says; at most `most` of them, drawn over the subfolders.

    Where subfolders are named after labels, the images have labels. Raises ExportError for an empty folder, an image that cannot
    be read, and one that lies outside where all others lie in a folder of a label.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ExportError(f"images: {folder} holds no JPEG, PNG or WebP file")
    classes = classes_of(paths, folder, labels)
    size = spec.height * spec.width * channels_of(spec)
    chosen = draw(paths, min(most or len(paths), MOST_BYTES // size))
    images = np.empty((len(chosen), spec.height, spec.width, channels_of(spec)), np.uint8)
    for place, path in zip(images, chosen, strict=True):
        place[...] = _read(path, spec)
    truth = None if classes is None else np.array([classes[path.parent.name] for path in chosen], np.int64)
    return Photographs(images, truth, tuple(path.relative_to(folder).as_posix() for path in chosen), len(paths))


def classes_of(paths: list[Path], folder: Path, labels: tuple[str, ...]) -> dict[str, int] | None:
    """Class index by folder name, which is a label or a class's index; None where no folder is one.

    Raise ExportError where some are and others not, or where the name of a used folder stands for several classes.
    """
    indices = {str(index): index for index in range(len(labels))} | {label: index for index, label in enumerate(labels)}
    outside = [path for path in paths if path.parent.name not in indices]
    if len(outside) == len(paths):
        return None
    if outside:
        shown = ", ".join(str(path.relative_to(folder)) for path in outside[:3])
        raise ExportError(
            f"images: {len(outside)} of {len(paths)} in {folder} lie outside a folder named after a label ({shown}); "
            "move them, or put no image into such folders"
        )
    counts = Counter(labels)
    if ambiguous := sorted({path.parent.name for path in paths if counts[path.parent.name] > 1}):
        name = ambiguous[0]
        places = [str(index) for index, label in enumerate(labels) if label == name]
        raise ExportError(f"images: '{name}' is the label of {counts[name]} classes; name the folders by index, {' and '.join(places)}")
    return indices


def draw(paths: list[Path], count: int) -> list[Path]:
    """`count` of the paths, sorted, chosen by a fixed seed: the same number from each folder, or all if it has fewer."""
    if count >= len(paths):
        return paths
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        by_folder[path.parent].append(path)
    dice = random.Random(0)  # noqa: S311  # a draw that anyone can repeat
    for members in by_folder.values():
        dice.shuffle(members)
    ranked = sorted((rank, dice.random(), path) for members in by_folder.values() for rank, path in enumerate(members))
    return sorted(path for _, _, path in ranked[:count])


def _read(path: Path, spec: Input) -> NDArray[np.uint8]:
    try:
        return preprocess(path, spec)
    except (ImageError, OSError) as error:
        raise ExportError(f"images: {path} {error}") from None
