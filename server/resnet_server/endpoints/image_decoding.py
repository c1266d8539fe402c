"""From an encoded image to the rows a network takes."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from resnet_proto.manifest_pb2 import Input

from resnet_server.errors import InvalidRequestError

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is one for all; `decode_image` checks the server's before decoding
FORMATS = ("JPEG", "PNG", "WEBP")
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def decode_image(data: bytes, spec: Input, max_pixels: int, field: str) -> NDArray[np.uint8]:
    """Decode JPEG, PNG or WebP to UINT8 [height, width, 3] as the manifest's input says.

    EXIF orientation is honoured; the shorter side is resized, then the centre is cropped, as torchvision's
    `Resize` and `CenterCrop` do. Raises InvalidRequestError, naming `field`, for bytes that are not such an image
    and, before decoding, for one of more than `max_pixels` pixels (a decompression bomb).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata that do not touch the pixels
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_size(image.width, image.height, max_pixels, field)
            return _to_rows(_upright_rgb(image), spec, max_pixels, field)
    except InvalidRequestError:
        raise
    except Exception as error:  # Pillow's decoders raise many types on damaged bytes
        reason = str(error) if str(error) and "BytesIO" not in str(error) else "not a JPEG, PNG or WebP image"
        raise InvalidRequestError(f"{field}: {len(data)} bytes cannot be decoded: {reason}; expected JPEG, PNG or WebP") from None


def _check_size(width: int, height: int, max_pixels: int, field: str) -> None:
    if width * height > max_pixels:
        raise InvalidRequestError(f"{field}: {width}x{height} pixels; expected at most {max_pixels}")


def _upright_rgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey: convert("RGB") would clip instead of scaling
        image = Image.fromarray((np.asarray(image, np.uint32) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _to_rows(image: Image.Image, spec: Input, max_pixels: int, field: str) -> NDArray[np.uint8]:
    width, height = image.size
    scale = spec.resize_shorter_side / min(width, height)
    resized = (max(spec.width, int(width * scale)), max(spec.height, int(height * scale)))
    _check_size(*resized, max_pixels, f"{field}: resized")
    if resized != image.size:
        image = image.resize(resized, RESAMPLING[spec.interpolation])
    left, top = round((resized[0] - spec.width) / 2), round((resized[1] - spec.height) / 2)
    return np.asarray(image.crop((left, top, left + spec.width, top + spec.height)))
