"""A server so small that each byte of its answers, and when it is sent, is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Heard:
    """A request as it came.

    Attributes:
        method: Its method.
        path: Its path, with the query.
        headers: Its fields, in lower case.
        body: Its body.
        connection: Which connection it came on, from 0.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


Answer = Callable[[Heard, asyncio.StreamWriter], Awaitable[bool | None]]


@dataclass
class Backend:
    """One server.

    Attributes:
        answer: Answers a request; the connection is closed if it returns False.
        url: Where it is.
        heard: What was asked, in order.
        connections: How many connections there were.
    """

    answer: Answer
    url: str = ""
    heard: list[Heard] = field(default_factory=list)
    connections: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        number, self.connections = self.connections, self.connections + 1
        try:
            while await self.answer(await self._read(reader, number), writer) is not False:
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, number: int) -> Heard:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = lines[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        while headers.get("transfer-encoding") == "chunked":
            size = int((await reader.readline()).strip(), 16)
            body += (await reader.readexactly(size + 2))[:-2]
            if not size:
                break
        self.heard.append(Heard(method, path, headers, body, number))
        return self.heard[-1]


def reply(writer: asyncio.StreamWriter, status: int, body: bytes = b"", **fields: str) -> None:
    """Answer with all at once; an underscore in a field's name stands for a hyphen."""
    headers = {"Content-Length": str(len(body)), **{name.replace("_", "-"): v for name, v in fields.items()}}
    text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {status} So\r\n{text}\r\n".encode() + body)


async def stream(writer: asyncio.StreamWriter, *parts: bytes, pause: float) -> None:
    """Answer with a body that comes in parts."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for part in parts:
        writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        await writer.drain()
        await asyncio.sleep(pause)
    writer.write(b"0\r\n\r\n")


@asynccontextmanager
async def serving(*backends: Backend) -> AsyncIterator[None]:
    """Let servers listen, each on a port of its own."""
    servers = [await asyncio.start_server(backend.handle, "127.0.0.1", 0) for backend in backends]
    for backend, server in zip(backends, servers, strict=True):
        backend.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield
    finally:
        for server in servers:
            server.close()
