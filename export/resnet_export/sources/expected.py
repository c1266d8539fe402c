"""`--expect logits.npz`: images and logits from the code that trained the network, the reference that its owner trusts most."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from resnet_models.checkpoint import CheckpointInfo
from resnet_proto.manifest_pb2 import Input
from resnet_proto.preprocessing import ImageError, preprocess

from resnet_export.errors import ExportError
from resnet_export.images import ImageSet

ROUNDING = 0.02  # of a pixel's value: what normalising in fp32 and going back leaves
FORM = "expected `logits` [n, classes] and either `images` (UINT8 NHWC, or normalised FP32 NCHW) or `files` (paths beside the file)"


@dataclass(frozen=True)
class Expected:
    """`images` UINT8 [n, h, w, channels] as a client sends them, the owner's `logits` FP32 [n, classes], and a phrase for both."""

    images: NDArray[np.uint8]
    logits: NDArray[np.float32]
    names: tuple[str, ...]
    source: str


def read_expected(path: Path, info: CheckpointInfo, spec: Input) -> Expected:
    """Read the file; raise ExportError, naming the array and what it should be, for one that does not fit the network.

    Files are preprocessed as the server will do it, so that a difference of preprocessing shows too. Normalised images are turned
    back into pixels by the stated mean and std: where these are not what the training code used, no whole pixels come out.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ExportError(f"expect: {path} cannot be read as npz: {' '.join(str(error).split())}; {FORM}") from None
    logits = np.asarray(arrays.get("logits", np.zeros(0)), np.float32)
    if logits.ndim != 2 or logits.shape[1] != info.classes or not np.isfinite(logits).all() or not len(logits):
        raise ExportError(f"expect: {path.name} has logits {list(logits.shape)}; the network has {info.classes} classes; {FORM}")
    images, names = _images(path, arrays, info, spec)
    if len(images) != len(logits):
        raise ExportError(f"expect: {path.name} has {len(images)} images and {len(logits)} rows of logits")
    return Expected(images, logits, names, f"{len(images)} images of {path.name}, with the logits of their owner's code")


def images_of(expected: Expected) -> ImageSet:
    """The images as a set to certify on."""
    return ImageSet(expected.images, None, expected.names, expected.source)


def _images(
    path: Path, arrays: dict[str, NDArray[np.generic]], info: CheckpointInfo, spec: Input
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    if "files" in arrays:
        names = tuple(str(name) for name in arrays["files"])
        return np.stack([_file(path.parent / name, spec) for name in names]), names
    images = arrays.get("images", np.zeros(0))
    names = tuple(f"image {index} of {path.name}" for index in range(len(images)))
    size, channels = info.input_size, info.channels
    if images.dtype == np.uint8 and images.shape[1:] == (size, size, channels):
        return images.astype(np.uint8), names
    if images.dtype.kind == "f" and images.shape[1:] == (channels, size, size):
        return _pixels(path, images.astype(np.float64), info), names
    raise ExportError(
        f"expect: {path.name} has images {images.dtype} {list(images.shape)}; the network takes {size}x{size}x{channels}; {FORM}"
    )


def _file(path: Path, spec: Input) -> NDArray[np.uint8]:
    try:
        return preprocess(path, spec)
    except (ImageError, OSError) as error:
        raise ExportError(f"expect: {path} {error}") from None


def _pixels(path: Path, images: NDArray[np.float64], info: CheckpointInfo) -> NDArray[np.uint8]:
    mean, std = (np.array(values).reshape(1, -1, 1, 1) for values in (info.normalisation.mean, info.normalisation.std))
    pixels = 255 * (images * std + mean)
    whole = np.rint(pixels)
    off = float(np.abs(pixels - whole).max())
    if off > ROUNDING or whole.min() < 0 or whole.max() > 255:
        raise ExportError(
            f"expect: {path.name}'s images are no pixels normalised by mean {info.normalisation.mean} and std {info.normalisation.std}: "
            f"turned back they lie in {pixels.min():.1f}..{pixels.max():.1f}, up to {off:.2f} beside whole numbers"
        )
    ordered = whole[:, ::-1] if info.colour_order == "BGR" else whole
    return np.ascontiguousarray(ordered.transpose(0, 2, 3, 1)).astype(np.uint8)
