"""A relay between a client and a server that counts what passes, and can stop passing it on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Relay:
    """`returned`: bytes from the server; `connections`: how many there were; `closed`: set once the server has closed one."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = self.returned = self.connections = 0
        self.closed = asyncio.Event()
        self._silent = False
        self._writers: list[asyncio.StreamWriter] = []

    def fall_silent(self) -> None:
        """Pass nothing on any more, as a network does that has lost the other side."""
        self._silent = True

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, to_server]
        await asyncio.gather(self._pass(reader, to_server, False), self._pass(from_server, writer, True))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, from_server: bool) -> None:
        try:
            while data := await reader.read(1 << 16):
                self.returned += len(data) * from_server
                if not self._silent:
                    writer.write(data)
        except ConnectionError:
            pass
        if from_server:
            self.closed.set()
        writer.close()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def relaying(target: int) -> AsyncIterator[Relay]:
    """To a port of the loopback."""
    relay = Relay(target)
    server = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        relay.close()
        server.close()
