"""From an encoded image to the pixels a network takes: the one function of exporter, server and tools.

Equal to torchvision's `Resize` and `CenterCrop` on Pillow images for every size. Needs Pillow, which the rest of this package does not.
"""

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from resnet_proto.manifest_pb2 import Input

FORMATS = ("JPEG", "PNG", "WEBP")
MODES = {1: "L", 3: "RGB"}
NARROW = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}  # bytes Pillow holds a pixel in; all other modes take 4
WIDE = 4
UNROUNDED = 24  # FP32 of three channels, twice
MOST_READS = 4096
BYTES_A_READ = 512
"""An image may be read in MOST_READS pieces, and one more for each BYTES_A_READ: encoders write chunks of 8 KiB and more, read in three."""
Kernel = Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]


class ImageError(Exception):
    """Bytes that are no image of `FORMATS`, or an image above a bound; the text says what was found and expected."""


@dataclass(frozen=True)
class Bounds:
    """The most `pixels` of one picture, and the most `bytes` of pixels held at any step; None: not bounded.

    Both are checked from the header before anything is decoded, and again before the picture is resized.
    """

    pixels: int | None = None
    bytes: int | None = None

    def check(self, width: int, height: int, held: int, step: str = "") -> None:
        """Raise ImageError for a picture of `width` x `height` with `held` bytes in memory."""
        if self.pixels is not None and width * height > self.pixels:
            raise ImageError(f"{step}{width}x{height} pixels; expected at most {self.pixels}")
        if self.bytes is not None and held > self.bytes:
            raise ImageError(f"{step}{width}x{height} pixels take {held} bytes; expected at most {self.bytes}")


UNBOUNDED = Bounds()


class Pieces(io.BytesIO):
    """An encoded image for Pillow, which reads it piece by piece in Python: a PNG's chunks, a JPEG's markers and the padding between them.

    A million of them take seconds, whatever the number of pixels. `read` raises ImageError above the bound.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._most = self._left = MOST_READS + len(data) // BYTES_A_READ

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file."""
        self._left -= 1
        if self._left < 0:
            raise ImageError(f"cannot be decoded: more than {self._most} chunks, markers or other pieces; expected at most that many")
        return super().read(size)


def preprocess(source: bytes | Path, spec: Input, bounds: Bounds = UNBOUNDED) -> NDArray[np.uint8]:
    """Decode JPEG, PNG or WebP to UINT8 [height, width, channels] as the manifest's input says.

    EXIF orientation is honoured, CMYK and palettes become RGB, alpha is dropped and 16-bit grey is scaled to 8 bits. Raises
    ImageError for anything else, for an image above `bounds` before its pixels are decoded, and for bytes in more pieces than any has.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata that do not touch the pixels
            with Image.open(Pieces(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
                return np.asarray(fit(decode(image, spec, bounds), spec, bounds)).reshape(spec.height, spec.width, channels_of(spec))
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise many types on damaged bytes
        plain = isinstance(error, UnidentifiedImageError) or not str(error)  # its text shows an address
        reason = "not a JPEG, PNG or WebP image" if plain else " ".join(str(error).split())
        raise ImageError(f"cannot be decoded: {reason}; expected JPEG, PNG or WebP") from None


def channels_of(spec: Input) -> int:
    """Channels of the input; manifests from before the field have 3."""
    return spec.channels or 3


def antialiased(spec: Input) -> bool:
    """Whether a smaller picture averages over all pixels of the larger; manifests from before the field do."""
    return spec.antialias or not spec.HasField("antialias")


def decode(image: Image.Image, spec: Input, bounds: Bounds = UNBOUNDED) -> Image.Image:
    """The picture upright, in the network's colours: mode L for one channel, RGB for three. Raise ImageError for other numbers."""
    mode = MODES.get(channels_of(spec))
    if mode is None:
        raise ImageError(f"the network takes {spec.channels} channels, which no encoded image has; send the pixels as a tensor")
    width, height = image.size
    held = NARROW.get(image.mode, WIDE) + NARROW.get(mode, WIDE)
    bounds.check(width, height, width * height * held)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # convert would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def fit(image: Image.Image, spec: Input, bounds: Bounds = UNBOUNDED) -> Image.Image:
    """Resize and crop a decoded picture to the input's height and width, as torchvision's `Resize` and `CenterCrop` do."""
    target = resized(image.width, image.height, spec)
    if target != image.size:
        held = (WIDE if antialiased(spec) else UNROUNDED) * (image.width * image.height + target[0] * image.height + target[0] * target[1])
        bounds.check(*target, held, "resized: ")
        image = resize(image, target, spec)
    return centre(image, spec.width, spec.height, math.floor if spec.crop_rounding == "down" else round)


def resized(width: int, height: int, spec: Input) -> tuple[int, int]:
    """Width and height after resizing; the longer side is `int(size * long / short)`, in that order, as torchvision counts it."""
    if spec.resize_mode == "exact":
        return spec.resize_width, spec.resize_height
    size = spec.resize_shorter_side
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def resize(image: Image.Image, target: tuple[int, int], spec: Input) -> Image.Image:
    """Resample to `target`: Pillow's way, or without antialiasing as PyTorch's `interpolate` does unasked."""
    method = Image.Resampling[spec.interpolation.upper()]
    if antialiased(spec) or method not in KERNELS:
        return image.resize(target, method)
    pixels = np.asarray(image, np.float32)
    for axis, size in enumerate((target[1], target[0])):
        pixels = resample_axis(pixels, axis, size, KERNELS[method])
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def bilinear_kernel(t: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Weights of the pixels before and after a place that is `t` past the former."""
    return [1 - t, t]


def bicubic_kernel(t: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Weights of four pixels, with PyTorch's a = -0.75 (Keys 1981, eq. 4); Pillow's is -0.5."""
    a = np.float32(-0.75)

    def near(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


KERNELS = {Image.Resampling.BILINEAR: bilinear_kernel, Image.Resampling.BICUBIC: bicubic_kernel}


def resample_axis(pixels: NDArray[np.float32], axis: int, size: int, kernel: Kernel) -> NDArray[np.float32]:
    """Interpolate FP32 [h, w(, c)] along one axis at the centres of `size` pixels; beyond the edge the edge goes on."""
    count = pixels.shape[axis]
    places = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(count / size) - np.float32(0.5)
    first = np.floor(places)
    weights = kernel(places - first)
    shape = [-1 if dimension == axis else 1 for dimension in range(pixels.ndim)]
    total = np.zeros(1, np.float32)
    for offset, weight in enumerate(weights, 1 - len(weights) // 2):
        rows = np.clip(first.astype(np.int64) + offset, 0, count - 1)
        total = total + weight.reshape(shape) * pixels.take(rows, axis)
    return total


def centre(image: Image.Image, width: int, height: int, rounding: Callable[[float], int] = round) -> Image.Image:
    """Crop the centre; a side that is too short is first padded with black, the odd pixel after it.

    `rounding` is of half an odd margin: Python's `round` takes halves to even, as torchvision does.
    """
    short = max(width - image.width, 0), max(height - image.height, 0)
    if any(short):
        padded = Image.new(image.mode, (image.width + short[0], image.height + short[1]))
        padded.paste(image, (short[0] // 2, short[1] // 2))
        image = padded
    left, top = rounding((image.width - width) / 2), rounding((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
