"""A network in memory between the candidates of a test, whose links can be cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import anyio

from tideover.elections.peers.network import Handler, Silent


class Switchboard:
    """Joins lines; each has an address."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.handlers: dict[str, Handler] = {}
        self.cut: set[frozenset[str]] = set()
        self.deaf: set[str] = set()
        self.sent: list[tuple[str, str, bytes]] = []
        self.change: Callable[[bytes], bytes] = lambda body: body

    def line(self) -> Line:
        """Return one process's connection."""
        return Line(self, next(self._numbers))


class Line:
    """A `Network` in memory."""

    def __init__(self, board: Switchboard, number: int) -> None:
        self._board = board
        self.host = f"10.0.0.{number}"
        self.address = f"{self.host}:7000"

    async def listen(self, host: str, port: int) -> int:
        return 7000

    async def serve(self, handler: Handler) -> None:
        self._board.handlers[self.address] = handler
        try:
            await anyio.sleep_forever()
        finally:
            self._board.handlers.pop(self.address, None)

    async def post(self, address: str, body: bytes, *, timeout: float) -> bytes:
        board = self._board
        board.sent.append((self.address, address, body))
        await anyio.sleep(0.001)
        if frozenset({self.address, address}) in board.cut or address in board.deaf:
            await anyio.sleep(timeout)
            raise Silent("cut")
        handler = board.handlers.get(address)
        if handler is None:
            raise Silent("refused", gone=True)
        status, answer = handler(board.change(body))
        await anyio.sleep(0.001)
        if status != 200:
            raise Silent(f"answered with {status}", gone=status == 421)
        return answer

    async def aclose(self) -> None:
        self._board.handlers.pop(self.address, None)
