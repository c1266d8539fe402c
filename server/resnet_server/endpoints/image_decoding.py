"""From an encoded image to the rows a network takes, within the server's bounds."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from resnet_proto.manifest_pb2 import Input
from resnet_proto.preprocessing import Bounds, ImageError, preprocess

from resnet_server.errors import InvalidRequestError

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is one for all; `Bounds` are the server's
HELD = 8  # bytes a pixel: the decoded picture and its RGB copy, each 4 at most


def decode_image(data: bytes, spec: Input, max_pixels: int, field: str) -> NDArray[np.uint8]:
    """Decode JPEG, PNG or WebP to UINT8 [height, width, channels] as the manifest's input says.

    Raises InvalidRequestError, naming `field`, for bytes that are not such an image and, before decoding, for one of more than
    `max_pixels` pixels (a decompression bomb).
    """
    try:
        return preprocess(data, spec, Bounds(max_pixels, HELD * max_pixels))
    except ImageError as error:
        told = f"{len(data)} bytes {error}" if str(error).startswith("cannot be decoded") else str(error)
        raise InvalidRequestError(f"{field}: {told}") from None
