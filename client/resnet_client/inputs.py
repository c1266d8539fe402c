"""What callers give as images to classify, and the encoded bytes that are sent."""

import io
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from resnet_client.errors import ClientError, InvalidInputError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Pixels: TypeAlias = NDArray[np.uint8]
Image: TypeAlias = "str | PathLike[str] | bytes | bytearray | memoryview | Pixels | PillowImage"
"""A path, an encoded image (JPEG, PNG or WebP), UINT8 [h, w, 3] RGB or [h, w] grey, or a Pillow image."""
Images: TypeAlias = "Image | Iterable[Image]"
"""One image, several in any iterable, or UINT8 [n, h, w, 3]."""

MODES_OF_PNG = {"1", "L", "LA", "I;16", "P", "RGB", "RGBA"}


@dataclass(frozen=True)
class Item:
    """One image of a job: its place in what the caller gave, its path if it has one, and its bytes or why there are none."""

    index: int
    source: str | None
    data: bytes = b""
    error: ClientError | None = None


def each_image(images: Images) -> Iterator[Any]:
    """The images of any accepted form, one by one."""
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return iter(images)
    single = isinstance(images, str | PathLike | bytes | bytearray | memoryview | np.ndarray) or _is_pillow(images)
    if not single and not isinstance(images, Iterable):
        raise InvalidInputError(
            f"images: {type(images).__name__}; expected a path, bytes, an array, a Pillow image or an iterable of these"
        )
    return iter([images]) if single else iter(cast("Iterable[Any]", images))


def is_in_memory(image: object) -> bool:
    """True if encoding it takes no time worth a thread."""
    return isinstance(image, bytes | bytearray | memoryview)


def load(index: int, image: Any) -> Item:
    """Read or encode one image; what is wrong with it goes into the item."""
    source = str(image) if isinstance(image, str | PathLike) else getattr(image, "filename", None) or None
    try:
        data = _encoded(image)
        if not data:
            raise InvalidInputError("empty, 0 bytes; expected a JPEG, PNG or WebP image")
    except ClientError as error:
        return Item(index, source, error=error.about(index, source))
    return Item(index, source, data)


def _encoded(image: Any) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | PathLike):
        return _read(Path(image))
    if isinstance(image, np.ndarray):
        return _png_of_array(image)
    if _is_pillow(image):
        return _png(image)
    raise InvalidInputError(f"{type(image).__name__}; expected a path, bytes, uint8 [h, w, 3], or a Pillow image")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InvalidInputError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _is_pillow(image: object) -> bool:
    module = sys.modules.get("PIL.Image")  # a caller who has a Pillow image has loaded Pillow
    return module is not None and isinstance(image, module.Image)


def _png_of_array(array: NDArray[Any]) -> bytes:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise InvalidInputError(f"{array.dtype} {list(array.shape)}; expected uint8 [h, w, 3] in RGB, or [h, w] in grey")
    try:
        from PIL import Image
    except ImportError:
        raise InvalidInputError("arrays are sent as PNG, which needs Pillow: pip install pillow") from None
    return _png(Image.fromarray(array))


def _png(image: "PillowImage") -> bytes:
    """Without loss, and turned as its EXIF data say, as the server turns a file."""
    from PIL import ImageOps

    buffer = io.BytesIO()
    try:
        upright = ImageOps.exif_transpose(image)
        (upright if upright.mode in MODES_OF_PNG else upright.convert("RGB")).save(buffer, "PNG", compress_level=1)
    except (OSError, ValueError, SyntaxError) as error:
        raise InvalidInputError(f"the Pillow image cannot be encoded: {error}") from None
    return buffer.getvalue()


class Parts:
    """Groups items into calls of at most `rows` images and `max_bytes`, in order."""

    def __init__(self, rows: int, max_bytes: int) -> None:
        self._rows, self._max_bytes = rows, max_bytes
        self._items: list[Item] = []
        self._bytes = 0

    def add(self, item: Item) -> list[Item]:
        """The call that is complete now, without this item; empty if none is."""
        full: list[Item] = []
        if self._items and (len(self._items) >= self._rows or self._bytes + len(item.data) > self._max_bytes):
            full = self.rest()
        self._items.append(item)
        self._bytes += len(item.data)
        return full

    def rest(self) -> list[Item]:
        """What is left."""
        items, self._items, self._bytes = self._items, [], 0
        return items
