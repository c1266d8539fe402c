"""What a decoder does with a task: image after image, within the bounds of its lane."""

import socket
from dataclasses import dataclass

from PIL import Image
from resnet_proto.manifest_pb2 import Input
from resnet_proto.preprocessing import Bounds, ImageError, preprocess

from resnet_server.endpoints.decoding import messages
from resnet_server.endpoints.decoding.cost import cost_of
from resnet_server.endpoints.decoding.limits import QUICK_BYTES, QUICK_WORK, limit_memory, limit_time

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is one for all; `Bounds` are the server's


@dataclass(frozen=True)
class Task:
    """What all images of a task have in common."""

    lane: int
    spec: Input
    max_pixels: int
    max_bytes: int


class Decoding:
    """Serves one socket, task after task. Raises EOFError when the server has closed it."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def serve(self) -> None:
        """Until the socket's end."""
        while True:
            lane, seconds, spec, count, max_pixels, max_bytes = messages.TASK.unpack(self._read(messages.TASK.size))
            task = Task(lane, Input.FromString(self._read(spec)), max_pixels, max_bytes)
            lengths = [messages.LENGTH.unpack(self._read(messages.LENGTH.size))[0] for _ in range(count)]
            images = [self._read(length) for length in lengths]
            limit_time(seconds)
            while images:
                self._answer(*self._decode(images.pop(0), task))

    def _decode(self, data: bytes, task: Task) -> tuple[bytes, bytes]:
        """The kind of an answer, and the answer."""
        try:
            cost = cost_of(data)
            Bounds(task.max_pixels).check(cost.width, cost.height, cost.held)
            if task.lane == messages.QUICK and (cost.work > QUICK_WORK or cost.held > QUICK_BYTES):
                return messages.HEAVY, b""
            if task.lane == messages.SLOW:
                self._ask_for(cost.held, task.max_bytes)
                limit_memory(max(cost.held, QUICK_BYTES))
            bounds = Bounds(task.max_pixels, task.max_bytes)
            return messages.ROWS, preprocess(data, task.spec, bounds).tobytes()
        except ImageError as error:
            return messages.WRONG, str(error).encode()[: messages.LONGEST_TEXT]
        except MemoryError:
            return messages.WRONG, b"cannot be decoded: it takes more memory than its header says"

    def _ask_for(self, count: int, most: int) -> None:
        """Wait until the server has that many bytes."""
        if count > most:
            raise ImageError(f"takes {count} bytes to decode; expected at most {most}")
        self._answer(messages.NEEDS, messages.LENGTH.pack(count))
        self._read(len(messages.GRANT))

    def _answer(self, kind: bytes, answer: bytes) -> None:
        self._channel.sendall(messages.ANSWER.pack(kind, len(answer)) + answer)

    def _read(self, count: int) -> bytes:
        data, filled = bytearray(count), 0
        with memoryview(data) as view:
            while filled < count:
                received = self._channel.recv_into(view[filled:])
                if not received:
                    raise EOFError
                filled += received
        return bytes(data)
