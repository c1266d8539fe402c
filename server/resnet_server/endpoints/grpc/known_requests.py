"""Requests that differ from an earlier one in nothing but their images are known again by their first bytes.

Protobuf writes raw contents last. A message of a known length that begins with a known head therefore has the known fields, and
its images are what follows the head: nothing is parsed, checked or copied again.
"""

from dataclasses import dataclass

import numpy as np

from resnet_server.endpoints.infer_message import InferMessage
from resnet_server.endpoints.parameters import Parameters
from resnet_server.endpoints.shared_memory import Place
from resnet_server.engines.api import Images
from resnet_server.models.served_model import ServedModel

MOST_HEADS = 16
"""Of messages of one length: each is compared with all of them."""
LONGEST_HEAD = 1024
MOST_BYTES = 1 << 20
MOST_GLIMPSED = 4096


@dataclass(frozen=True)
class Checked:
    """What was found out about a request, but for its images; `shape` is theirs. It holds for one `generation` of the registry.

    `place`: where the answer's tensor is to be written, if not into the message.
    """

    model: ServedModel
    parameters: Parameters
    identity: str
    top_k: int
    shape: tuple[int, ...]
    generation: int = 0
    place: Place | None = None


class KnownRequests:
    """Remembers heads of messages by the length of the whole: short ones, that came twice, and at most MOST_BYTES of them.

    A head that never comes again, such as one with a trace's number in it, is glimpsed, and evicts nobody.
    """

    def __init__(self) -> None:
        self._heads: dict[int, list[tuple[bytes, Checked]]] = {}
        self._glimpsed: set[int] = set()
        self.held_bytes = 0

    def recognise(self, message: bytes, generation: int = 0) -> tuple[Checked, Images] | None:
        """What is known of a message, and its images without a copy; None if it has to be parsed."""
        for head, checked in self._heads.get(len(message), ()):
            if checked.generation == generation and message.startswith(head):
                return checked, np.frombuffer(message, np.uint8, offset=len(head)).reshape(checked.shape)
        return None

    def forget(self) -> None:
        """Hold nothing of what was: other models are served now."""
        self._heads = {}
        self.held_bytes = 0

    def remember(self, found: InferMessage, checked: Checked) -> None:
        """Know the next message like this one; not those with an id of their own, which do not come again."""
        head = found.head()
        if found.request.id or not 0 < len(head) <= LONGEST_HEAD or not self._came_before(head, len(found.message)):
            return
        if self.held_bytes + len(head) > MOST_BYTES:
            self._heads.clear()
            self.held_bytes = 0
        heads = self._heads.setdefault(len(found.message), [])
        heads.insert(0, (head, checked))
        self.held_bytes += len(head) - sum(len(old) for old, _ in heads[MOST_HEADS:])
        del heads[MOST_HEADS:]

    def _came_before(self, head: bytes, length: int) -> bool:
        mark = hash((head, length))
        if mark in self._glimpsed:
            self._glimpsed.discard(mark)
            return True
        if len(self._glimpsed) >= MOST_GLIMPSED:
            self._glimpsed.clear()
        self._glimpsed.add(mark)
        return False
