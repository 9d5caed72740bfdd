"""A server that answers like etcd and is none, and a relay that one day leads to it: it records all they see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc

from tideover.etcd.messages import rpc


class Impostor:
    """Answers as a member with any ids, and records all it is sent.

    Args:
        ids: The ids of the cluster and the member it claims to be.

    Attributes:
        seen: For each call its method, its metadata and its first message, as one text.
        port: Where it listens.
    """

    def __init__(self, ids: tuple[int, int]) -> None:
        self.ids = ids
        self.seen: list[str] = []
        self.port = 0
        self._server: Any = None

    @property
    def secrets(self) -> list[str]:
        """The calls with a token or a password in them."""
        return [call for call in self.seen if "'token'" in call or "Authenticate" in call or "password" in call]

    async def start(self, credentials: Any = None) -> None:
        """Listen on a free port."""
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((_Handler(self),))
        if credentials is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        await self._server.start()

    async def stop(self) -> None:
        """Listen no more."""
        await self._server.stop(None)


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, impostor: Impostor) -> None:
        self._impostor = impostor

    def service(self, call: Any) -> Any:
        """Return what answers a call, whichever it is."""

        async def answer(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for request in requests:
                metadata = dict(context.invocation_metadata() or ())
                self._impostor.seen.append(f"{call.method} {metadata} {request!r}")
                yield self._reply(call.method, request)

        return grpc.stream_stream_rpc_method_handler(answer)

    def _reply(self, method: str, request: bytes) -> bytes:
        cluster_id, member_id = self._impostor.ids
        header = rpc.ResponseHeader(cluster_id=cluster_id, member_id=member_id, revision=5, raft_term=2)
        match method.rpartition("/")[2]:
            case "Watch":
                asked = rpc.WatchRequest.FromString(request).create_request
                reply = rpc.WatchResponse(header=header, created=True, watch_id=asked.watch_id)
            case "Status":
                reply = rpc.StatusResponse(header=header, version="3.5.1")
            case "Authenticate":
                reply = rpc.AuthenticateResponse(header=header, token="stolen.1")
            case _:
                reply = rpc.RangeResponse(header=header)
        message: bytes = reply.SerializeToString()
        return message


class Relay:
    """A TCP relay to a port that may change.

    Args:
        port: The port it leads to.

    Attributes:
        endpoint: Where it listens.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.endpoint = ""
        self._open: set[asyncio.StreamWriter] = set()

    def lead_to(self, port: int) -> None:
        """Lead to another port from now on, and cut the connections there are."""
        self.port = port
        for writer in list(self._open):
            writer.transport.abort()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Relay]:
        """Listen on a free port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.endpoint = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            self.lead_to(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.port)
            self._open |= {writer, there_writer}
            await asyncio.gather(self._copy(reader, there_writer), self._copy(there_reader, writer))
        writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        self._open.discard(writer)
        writer.close()
