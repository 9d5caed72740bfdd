"""What others write that httpx is then asked to follow: a `Location`, and the URL of an endpoint.

The connections are httpcore's own, over a network that is in memory.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import anyio
import httpcore
import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.fuzz.reader import Read, Reader
from tideover import Coordinator, connect
from tideover.contrib.httpx import DiscoveryTransport, SyncDiscoveryTransport
from tideover.discovery.endpoint import Endpoint
from tideover.store.operations import Put
from tideover.testing import MemoryStore

GOOD = "http://10.0.0.1:81/base"
_LOCATIONS = (
    b"http://10.0.0.1:81/base/x",
    b"/x",
    b"//h/x?y#z",
    b"http://xn--a/",
    b"http:////[",
    b"https://h:1/",
    b"http:81/base/x",
    b"mailto:x",
)
_URLS = (b"http://10.0.0.2:82/x", b"https://[::1]:1", b"http://h", b"unix:/x", b"http://xn--a/")


class _Wire(httpcore.NetworkStream):
    """A connection on which each request is answered at once."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        self._answer = answer
        self._coming = b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if b"\r\n\r\n" in buffer:
            self._coming = self._answer()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        part, self._coming = self._coming[:max_bytes], self._coming[max_bytes:]
        return part

    def close(self) -> None:
        return

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return self

    def get_extra_info(self, info: str) -> Any:
        return None


class _AsyncWire(httpcore.AsyncNetworkStream):
    """The same for async."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        self._wire = _Wire(answer)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._wire.write(buffer)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._wire.read(max_bytes)

    async def aclose(self) -> None:
        return

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return self

    def get_extra_info(self, info: str) -> Any:
        return None


class _Network:
    """Where everybody can be reached, and redirects everybody to `location`, if there is one."""

    location: bytes | None = None

    def answer(self) -> bytes:
        if self.location is None:
            return b"HTTP/1.1 200 So\r\nContent-Length: 4\r\n\r\nfine"
        return b"HTTP/1.1 302 So\r\nContent-Length: 4\r\nLocation: %b\r\n\r\nbody" % self.location


class _Threads(_Network, httpcore.NetworkBackend):
    def connect_tcp(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        return _Wire(self.answer)


class _Loop(_Network, httpcore.AsyncNetworkBackend):
    async def connect_tcp(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        return _AsyncWire(self.answer)


def _check(pool: httpcore.ConnectionPool | httpcore.AsyncConnectionPool) -> None:
    """No connection is lost: each of the pool's can be used again."""
    assert all(each.is_idle() or each.is_closed() for each in pool.connections), pool
    assert not pool._requests, pool


class _Calls:
    """A service with two endpoints, one of which is foreign, and the clients of both kinds that call it."""

    def __init__(self, tide: Coordinator, store: MemoryStore) -> None:
        self._tide, self._store = tide, store
        self._view = tide.discover("billing")
        self.loop, self.threads = _Loop(), _Threads()
        self._async_pool = httpcore.AsyncConnectionPool(_NO_TLS, max_connections=1, network_backend=self.loop)
        self._pool = httpcore.ConnectionPool(_NO_TLS, max_connections=1, network_backend=self.threads)
        asynchronous, synchronous = httpx.AsyncHTTPTransport(verify=_NO_TLS), httpx.HTTPTransport(verify=_NO_TLS)
        asynchronous._pool, synchronous._pool = self._async_pool, self._pool
        options: dict[str, Any] = {"timeout": httpx.Timeout(5, pool=0.5), "max_redirects": 3}
        self.async_client = httpx.AsyncClient(
            transport=DiscoveryTransport(tide, transport=asynchronous), **options
        )
        self.client = httpx.Client(transport=SyncDiscoveryTransport(tide, transport=synchronous), **options)

    async def register(self, url: str) -> None:
        """Register an endpoint beside the good one, in the place of the one before."""
        foreign = Endpoint(url, 1.0, {}, "1", "one", "billing")
        for each in (Endpoint(GOOD, 1.0, {}, "0", "one", "billing"), foreign):
            put = Put(f"/{each.key}".encode(), each.encode())
            await self._store.call(put, member=self._store.members[0], timeout=1)
        await self._view.wait_for(1, timeout=5)
        with anyio.fail_after(5):
            while {each.url for each in self._view.endpoints} != {GOOD, url}:
                await anyio.sleep(0.001)

    async def call(self, *, follow: bool) -> int:
        """Call with the client for async, and return the status."""
        response = await self.async_client.post("http://billing.service/x?y", follow_redirects=follow)
        return response.status_code

    def call_in_thread(self, *, follow: bool) -> int:
        """Call with the other one."""
        return self.client.post("http://billing.service/x?y", follow_redirects=follow).status_code

    def check(self) -> None:
        """Both pools are as before."""
        _check(self._async_pool)
        _check(self._pool)


_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@contextmanager
def _calls() -> Iterator[tuple[BlockingPortal, _Calls]]:
    with start_blocking_portal() as portal:
        store = MemoryStore()
        with portal.wrap_async_context_manager(connect(store=store, cache_dir=False)) as tide:
            calls = portal.call(_Calls, tide, store)
            portal.call(calls.register, GOOD + "2")
            yield portal, calls
            portal.call(calls.async_client.aclose)
            calls.client.close()


@contextmanager
def _locations() -> Iterator[Read]:
    with _calls() as (portal, calls):

        def read(raw: bytes) -> object:
            calls.loop.location = calls.threads.location = raw.replace(b"\r", b"").replace(b"\n", b"")
            for follow in (False, True):
                for call in (
                    partial(portal.call, partial(calls.call, follow=follow)),
                    partial(calls.call_in_thread, follow=follow),
                ):
                    with suppress(httpx.HTTPError):
                        call()
                    calls.check()
            return None

        yield read


@contextmanager
def _urls() -> Iterator[Read]:
    with _calls() as (portal, calls):

        def read(raw: bytes) -> object:
            portal.call(calls.register, raw.decode(errors="surrogateescape"))
            for _ in range(2):
                assert portal.call(partial(calls.call, follow=False)) == 200
                assert calls.call_in_thread(follow=False) == 200
            calls.check()
            return None

        yield read


TRANSPORTS = (
    Reader("Location", _locations, (), _LOCATIONS, cost=4),
    Reader("registered URL", _urls, (ValueError,), _URLS, cost=4),
)
