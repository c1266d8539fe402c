"""What hostile callers send: each a method, a message, and how many of it are on their way at once."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from fuzzing import CLASSIFIER, INFERENCE, inference_request
from PIL import Image
from resnet_proto.classifier_pb2 import ClassifyRequest
from resnet_proto.limits import MAX_MESSAGE_BYTES

MEBIBYTE = 1 << 20
MESSAGE = MAX_MESSAGE_BYTES - 64 * 1024
"""The largest that a server takes as it comes, less what is around it."""
SCAN = b"\xff\xda"


@dataclass(frozen=True)
class Attack:
    """`message` is made where it is sent; `seconds` is the deadline that the attacker gives."""

    method: str
    message: Callable[[], bytes]
    at_once: int = 2
    seconds: float = 20.0


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of protobuf's wire format."""
    size, length = len(content), b""
    while size > 127:
        length += bytes((size & 127 | 128,))
        size >>= 7
    return bytes((number << 3 | 2,)) + length + bytes((size,)) + content


def many(part: bytes, size: int = MESSAGE) -> bytes:
    return part * (size // len(part))


def encoded(width: int, height: int, kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    """A picture that compresses well, as a bomb does."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def photograph(width: int = 4000, height: int = 3000) -> bytes:
    """With a photograph's detail."""
    noise = np.random.default_rng(1).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def many_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG that repeats its last scan: a few bytes each, and a pass over all pixels."""
    data = encoded(width, height, progressive=True)
    last = data.rindex(SCAN)
    return data[:-2] + (scans - data.count(SCAN)) * data[last:-2] + data[-2:]


def flood_of_chunks(before: int, kind: bytes = b"prVt", after: int = 0) -> bytes:
    """A PNG with so many empty chunks before its pixels, and after them, each of which Pillow reads in Python."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(8 * 25)))
    return head + before * chunk(kind, b"") + pixels + after * chunk(b"prVt", b"") + chunk(b"IEND", b"")


def padded_markers(count: int) -> bytes:
    """A JPEG with so many bytes of padding before a marker, each of which Pillow reads in Python."""
    data = encoded(8, 8)
    return data[:2] + count * b"\xff" + data[2:]


def classify(*images: bytes) -> bytes:
    return ClassifyRequest(images=images).SerializeToString()


def with_parameter(size: int) -> bytes:
    request = inference_request()
    request.parameters["trace"].string_param = "x" * size
    return request.SerializeToString()


INFER, CLASSIFY = INFERENCE + "ModelInfer", CLASSIFIER + "Classify"
ATTACKS = {
    "8 million empty inputs": Attack(INFER, lambda: many(b"\x2a\x00")),
    "16 million dimensions": Attack(INFER, lambda: field(5, field(3, many(b"\x01")))),
    "16 million typed values": Attack(INFER, lambda: field(5, field(5, field(4, many(b"\x01"))))),
    "3 million parameters": Attack(INFER, lambda: many(field(4, field(1, b"a")))),
    "an ignored parameter of 4 MiB": Attack(INFER, lambda: with_parameter(4 * MEBIBYTE)),
    "16 MiB that are no message": Attack(INFER, lambda: many(b"\xff")),
    "60 MiB, above the limit": Attack(INFER, lambda: many(b"\xff", 60 * MEBIBYTE)),
    "8 million empty images": Attack(CLASSIFY, lambda: many(b"\x1a\x00")),
    "two JPEGs of 3,000 scans": Attack(CLASSIFY, lambda: classify(many_scans(4000, 4000, 3000))),
    "JPEGs of 64 scans": Attack(CLASSIFY, lambda: classify(many_scans(6000, 6000, 64))),
    "a flood of PNG chunks": Attack(CLASSIFY, lambda: classify(flood_of_chunks(1_000_000))),
    "a JPEG of 12 million padding bytes": Attack(CLASSIFY, lambda: classify(padded_markers(12_000_000))),
    "64 PNGs of 49 megapixels": Attack(CLASSIFY, lambda: classify(*[encoded(7000, 7000, "PNG")] * 64)),
    "PNGs of 49 megapixels in 16 bits": Attack(CLASSIFY, lambda: classify(encoded(7000, 7000, "PNG", "I;16"))),
    "150 photographs at once": Attack(CLASSIFY, lambda: classify(photograph()), at_once=150),
}
