"""What an image will cost, from its header: bytes in memory at the worst step, and pixels that are gone over."""

from dataclasses import dataclass

from PIL import Image
from resnet_proto.preprocessing import FORMATS, NARROW, WIDE, ImageError, Pieces

MOST_SCANS = 64
"""Of a JPEG. Encoders write about ten; each one costs a pass over all pixels, and a few bytes of the file."""
SCAN = b"\xff\xda"
COEFFICIENTS = 6  # bytes a pixel that libjpeg keeps of a progressive JPEG: 2 for each of three channels
CANVASES = 12  # and libwebp's decoder: three of 4 bytes


@dataclass(frozen=True)
class Cost:
    """`held`: bytes at the worst step; `work`: pixels, times the passes over them."""

    width: int
    height: int
    held: int
    work: int


def cost_of(data: bytes) -> Cost:
    """Reads the header only. Raises ImageError for what is no image of ours, or has more scans or pieces than any has for a reason."""
    scans = data.count(SCAN) if data.startswith(b"\xff\xd8") else 1
    if scans > MOST_SCANS:
        raise ImageError(f"a JPEG of {scans} scans; expected at most {MOST_SCANS}")
    try:
        with Image.open(Pieces(data), formats=FORMATS) as image:
            (width, height), held = image.size, _bytes_a_pixel(image)
    except ImageError:
        raise
    except Exception:  # Pillow's readers raise many types on damaged bytes
        raise ImageError("cannot be decoded: not a JPEG, PNG or WebP image; expected JPEG, PNG or WebP") from None
    return Cost(width, height, width * height * held + len(data), width * height * max(1, scans))


def _bytes_a_pixel(image: Image.Image) -> int:
    """The picture, it turned upright, and its copy in RGB, where it is not RGB before."""
    native = NARROW.get(image.mode, WIDE)
    held = 2 * native + (WIDE if image.mode != "RGB" else 0)
    if image.format == "WEBP":
        return held + CANVASES
    return held + (COEFFICIENTS if image.info.get("progressive") else 0)
