"""A name server on the loopback that knows one answer, which a test changes while callers run."""

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

HEADER = struct.Struct("!6H")
ANSWER = struct.Struct("!HHHIH")
IPV4, INTERNET, ANSWERED, QUESTION_AT = 1, 1, 0x8580, 0xC00C


class NameServer:
    """Every name has the IPv4 addresses in `addresses`, and nothing else."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = addresses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            message, caller = self._socket.recvfrom(4096)
            if not message:
                return
            self._socket.sendto(self._answer(message), caller)

    def _answer(self, message: bytes) -> bytes:
        number, _, questions, *_ = HEADER.unpack_from(message)
        assert questions == 1
        name_end = message.index(0, HEADER.size) + 1
        (kind,) = struct.unpack_from("!H", message, name_end)
        found = [socket.inet_aton(address) for address in self.addresses] if kind == IPV4 else []
        records = b"".join(ANSWER.pack(QUESTION_AT, IPV4, INTERNET, 0, len(address)) + address for address in found)
        return HEADER.pack(number, ANSWERED, 1, len(found), 0, 0) + message[HEADER.size : name_end + 4] + records


@contextmanager
def running_name_server(addresses: Sequence[str]) -> Iterator[NameServer]:
    server = NameServer(addresses)
    server.start()
    try:
        yield server
    finally:
        server.stop()
