"""A TCP proxy that is a slow or long link: so many bytes a second, so many seconds each way, and a queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

# Bytes that are handed over at once: a few packets.
_PIECE = 4096


@dataclass
class _Direction:
    """What all connections share that go this way."""

    rate: float | None
    delay: float
    queue: float
    carried: int = 0
    _free_at: float = 0.0
    _opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def carry(self, size: int) -> float:
        """Wait until there is room in the queue for so many bytes, and return when they arrive."""
        loop = asyncio.get_running_loop()
        await self._opened.wait()
        if self.rate is not None:
            # First come, first served, as in a router: what is small waits behind what is large.
            while self._free_at - loop.time() > self.queue:
                await asyncio.sleep(self._free_at - loop.time() - self.queue)
            self._free_at = max(self._free_at, loop.time()) + size / self.rate
        self.carried += size
        return max(loop.time(), self._free_at) + self.delay


class SlowLink:
    """The link; bytes and whether anything passes can be looked at and changed while it is used.

    Args:
        port: Where the server listens, on this host.
        rate: Bytes a second, in each direction; None for any number.
        rtt: Seconds for the way there and back.
        queue: Seconds that a byte waits in the queue of the slower end at the most.

    Attributes:
        endpoint: Where clients connect.
    """

    def __init__(self, port: int, *, rate: float | None = None, rtt: float = 0.0, queue: float = 0.3) -> None:
        self._port = port
        self._up, self._down = (_Direction(rate, rtt / 2, queue) for _ in range(2))
        self._rtt = rtt
        # In the order in which they came.
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.endpoint = ""
        self.connections = 0

    @property
    def pulled(self) -> int:
        """Bytes carried towards the client."""
        return self._down.carried

    @property
    def pushed(self) -> int:
        """Bytes carried towards the server."""
        return self._up.carried

    def silence(self, *, silent: bool) -> None:
        """Let nothing pass, and nobody notice; or everything again."""
        for way in (self._up, self._down):
            if silent:
                way._opened.clear()
            else:
                way._opened.set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one more connection."""
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            # As long as a handshake would have taken.
            await asyncio.sleep(self._rtt)
            there, back = await asyncio.open_connection("127.0.0.1", self._port, limit=_PIECE)
            ends.append(back)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, back, self._up.carry))
                both.create_task(_pump(there, writer, self._down.carry))
        except* OSError:
            pass
        finally:
            for end in ends:
                end.close()

    def break_all_but(self, oldest: int) -> int:
        """Break all connections but so many of the oldest; return how many those were."""
        broken = list(self._tasks)[oldest:]
        for task in broken:
            task.cancel()
        return len(broken)

    async def aclose(self) -> None:
        """Break all connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Their transports are closed in the loop's next round.
        await asyncio.sleep(0)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, carry: Callable[[int], Awaitable[float]]
) -> None:
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            at, piece = await under_way.get()
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            if not piece:
                return writer.close()
            writer.write(piece)
            await writer.drain()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(deliver())
        while True:
            piece = await reader.read(_PIECE)
            at = await carry(len(piece))
            under_way.put_nowait((at, piece))
            if not piece:
                return


@asynccontextmanager
async def slow_link(
    endpoint: str, *, rate: float | None = None, rtt: float = 0.0, queue: float = 0.3
) -> AsyncIterator[SlowLink]:
    """Put a slow link in front of a server; see `SlowLink`."""
    link = SlowLink(int(endpoint.rpartition(":")[2]), rate=rate, rtt=rtt, queue=queue)
    link.silence(silent=False)
    server = await asyncio.start_server(link.accept, "127.0.0.1", 0, limit=_PIECE)
    link.endpoint = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield link
    finally:
        server.close()
        await link.aclose()
