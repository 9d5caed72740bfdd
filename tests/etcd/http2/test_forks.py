"""Forks with a transport that has no threads: a child connects for itself, and harms nothing of its parent's."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

import pytest

from tests.etcd.http2.peer import Peer, calling, reply, unary
from tests.etcd.test_forks import play
from tideover.testing import EtcdServer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def in_child(work: Callable[[], bytes]) -> bytes:
    """Do something in a forked child; return what it returned."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.write(writing, work())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        found = said.read()
    assert os.waitpid(pid, 0)[1] == 0
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_child_has_nothing_of_its_parents_connections() -> None:
    """In a child the parent's socket leads to nothing: what is written there is lost, and the parent goes on."""

    async def script(peer: Peer) -> None:
        await peer.begin()
        while True:
            peer.say(reply(await peer.request()))

    async with calling(script) as channel:
        await unary(channel)
        (connection,) = channel._connector._connections
        number = connection.socket_number()

        def look() -> bytes:
            os.write(number, b"junk from a child")
            return os.readlink(f"/proc/self/fd/{number}").encode() if sys.platform == "linux" else b"/dev/null"

        assert in_child(look) == b"/dev/null"
        assert await unary(channel) == b"reply"


@pytest.mark.etcd
@pytest.mark.any_etcd
@pytest.mark.takes(10)
def test_fork_while_connected(etcd_server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children connect beside their parent; what they inherit is refused; the puts of the parent never fail."""
    monkeypatch.setenv("TIDEOVER_TRANSPORT", "http2")
    (said,) = play("while_open", etcd_server.endpoint, "fork")
    *connecting, busy, inherited = said["children"]
    assert connecting == ["available"] * 3
    assert busy == "done"
    assert inherited.startswith("Closed: ")
    assert (said["errors"], said["state"]) == ([], "available")
    assert said["puts"] >= 100


@pytest.mark.etcd
@pytest.mark.any_etcd
def test_grpc_is_not_imported(etcd_server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With this transport chosen, a coordinator that does everything has not loaded grpc."""
    monkeypatch.setenv("TIDEOVER_TRANSPORT", "http2")
    (said,) = play("loaded", etcd_server.endpoint)
    assert said["grpc"] == []
    assert said["state"] == "available"
    assert said["threads"] <= 2


def test_a_loop_that_is_left_open() -> None:
    """A child of a process whose event loop still has connections may run one of its own."""

    async def use() -> bytes:
        async with calling(echo) as channel:
            found: bytes = await unary(channel)
            return found

    async def echo(peer: Peer) -> None:
        await peer.begin()
        while True:
            peer.say(reply(await peer.request()))

    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(use()) == b"reply"
        assert in_child(lambda: asyncio.run(use())) == b"reply"
    finally:
        loop.close()
