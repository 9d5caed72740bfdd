"""A way to etcd that can be cut: a process that goes this way alone is away, while others are well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Link:
    """TCP from a port of loopback to another one, until it is cut; a cut one refuses nothing and carries nothing.

    Attributes:
        endpoint: Where clients connect.
    """

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._up = True
        self._ends: set[asyncio.StreamWriter] = set()
        self.endpoint = ""

    def cut(self) -> None:
        """Break all connections, and whatever comes until `mend`."""
        self._up = False
        for end in self._ends.copy():
            end.transport.abort()

    def mend(self) -> None:
        """Carry again."""
        self._up = True

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        back: asyncio.StreamWriter | None = None
        with suppress(OSError):
            if self._up:
                there, back = await asyncio.open_connection(self._host, self._port)
                self._ends.add(back)
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
        for end in filter(None, (writer, back)):
            self._ends.discard(end)
            end.transport.abort()


@asynccontextmanager
async def linked(target: str) -> AsyncIterator[Link]:
    """Yield a link to an endpoint; it is cut at the end."""
    link = Link(target)
    server = await asyncio.start_server(link._carry, "127.0.0.1", 0)
    link.endpoint = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield link
    finally:
        server.close()
        # One that has just come takes some turns of the loop until it is carried, and some to end.
        for _ in range(10):
            link.cut()
            await asyncio.sleep(0)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()
