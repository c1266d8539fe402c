"""Requests that differ from an earlier one in nothing but their images are known again by their first bytes.

Protobuf writes raw contents last. A message of a known length that begins with a known head therefore has the known fields, and
its images are what follows the head: nothing is parsed, checked or copied again.
"""

from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError
from resnet_proto.open_inference_pb2 import ModelInferRequest

from resnet_server.endpoints.parameters import Parameters
from resnet_server.engines.api import Images
from resnet_server.errors import InvalidRequestError
from resnet_server.models.served_model import ServedModel

MOST_HEADS = 16
MOST_LENGTHS = 1024


@dataclass(frozen=True)
class Checked:
    """What was found out about a request, but for its images; `shape` is theirs."""

    model: ServedModel
    parameters: Parameters
    identity: str
    top_k: int
    shape: tuple[int, ...]


class KnownRequests:
    """Remembers heads of messages by the length of the whole."""

    def __init__(self) -> None:
        self._heads: dict[int, list[tuple[bytes, Checked]]] = {}

    def recognise(self, message: bytes) -> tuple[Checked, Images] | None:
        """What is known of a message, and its images without a copy; None if it has to be parsed."""
        for head, checked in self._heads.get(len(message), ()):
            if message.startswith(head):
                return checked, np.frombuffer(message, np.uint8, offset=len(head)).reshape(checked.shape)
        return None

    def remember(self, message: bytes, request: ModelInferRequest, checked: Checked) -> None:
        """Know the next message like this one; not those with an id of their own, which do not come again."""
        if request.id or len(request.raw_input_contents) != 1:
            return
        raw = request.raw_input_contents[0]
        head = message[: len(message) - len(raw)]
        if not raw_comes_last(head, request, raw):
            return
        if len(self._heads) >= MOST_LENGTHS:
            self._heads.clear()
        heads = self._heads.setdefault(len(message), [])
        heads.insert(0, (head, checked))
        del heads[MOST_HEADS:]


def raw_comes_last(head: bytes, request: ModelInferRequest, raw: bytes) -> bool:
    """True if `head` is the request without its raw contents, and ends with the announcement of as many bytes of them."""
    announcement = ModelInferRequest(raw_input_contents=(raw,)).SerializeToString()[: -len(raw)]
    if not raw or not head.endswith(announcement):
        return False
    bare = ModelInferRequest()
    bare.CopyFrom(request)
    del bare.raw_input_contents[:]
    try:
        return bool(ModelInferRequest.FromString(head[: -len(announcement)]) == bare)
    except DecodeError:
        return False


def parse(message: bytes) -> ModelInferRequest:
    """Raises InvalidRequestError for what is no ModelInferRequest."""
    try:
        return ModelInferRequest.FromString(message)
    except DecodeError:
        raise InvalidRequestError(f"request: {len(message)} bytes that are no ModelInferRequest") from None
