"""A ClassifyRequest, taken apart on the wire: its images are found, not copied, and counted before anything is made of them."""

from dataclasses import dataclass, field

from google.protobuf.message import DecodeError
from resnet_proto.classifier_pb2 import ClassifyRequest

from resnet_server.endpoints.wire import BYTES, MOST_FIELDS, WireError, WireReader
from resnet_server.errors import InvalidRequestError

IMAGES = ClassifyRequest.DESCRIPTOR.fields_by_name["images"].number
LONGEST_REST = 1 << 16  # bytes beside the images: names and numbers


@dataclass(slots=True)
class ClassifyMessage:
    """`request` has all fields but the images, which are parts of the message."""

    request: ClassifyRequest = field(default_factory=ClassifyRequest)
    images: list[memoryview] = field(default_factory=list)


def read_classify(message: bytes) -> ClassifyMessage:
    """Raises InvalidRequestError for what is no ClassifyRequest, or more than one may be."""
    found, view, rest, kept, at = ClassifyMessage(), memoryview(message), bytearray(), 0, 0
    try:
        for number, kind, start, stop in WireReader(message, MOST_FIELDS).fields(0, len(message)):
            if kind == BYTES and number == IMAGES:
                rest += view[kept:at]
                kept = stop
                found.images.append(view[start:stop])
            at = stop
        if len(rest) + at - kept > LONGEST_REST:
            raise InvalidRequestError(f"request: {len(rest) + at - kept} bytes beside its images; expected at most {LONGEST_REST}")
        found.request.MergeFromString(bytes(rest + view[kept:]))
    except (WireError, DecodeError):
        raise InvalidRequestError(f"request: {len(message)} bytes that are no ClassifyRequest") from None
    return found
