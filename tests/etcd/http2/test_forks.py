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


@pytest.fixture
def _by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the environment names a transport nor a proxy."""
    for variable in ("TIDEOVER_TRANSPORT", "grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(variable, raising=False)


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
@pytest.mark.takes(15)
@pytest.mark.usefixtures("_by_default")
def test_fork_while_connected(etcd_server: EtcdServer) -> None:
    """Children connect beside their parent; what they inherit is refused; the puts of the parent never fail."""
    (said,) = play("while_open", etcd_server.endpoint, "fork")
    *connecting, busy, inherited = said["children"]
    assert connecting == ["available"] * 3
    assert busy == "done"
    assert inherited.startswith("Closed: ")
    assert (said["errors"], said["state"]) == ([], "available")
    assert said["puts"] >= 100


@pytest.mark.etcd
@pytest.mark.any_etcd
@pytest.mark.usefixtures("_by_default")
def test_fork_after_close(etcd_server: EtcdServer) -> None:
    """Whatever was kept of a closed coordinator each child connects, also by entering what was made before."""
    said, last = play("after_close", etcd_server.endpoint, "kept", "1")
    assert (said["child"], last["kept"] > 0) == ("available", True)
    children, here = play("made_before", etcd_server.endpoint)
    assert [each.split()[:2] for each in (*children["each"], *here["each"])] == [["available", "True"]] * 3


@pytest.mark.etcd
@pytest.mark.any_etcd
@pytest.mark.usefixtures("_by_default")
def test_grpc_is_not_needed(etcd_server: EtcdServer) -> None:
    """A coordinator that does everything neither loads grpc nor needs it to be installed, and starts no thread."""
    (said,) = play("without_grpc", etcd_server.endpoint)
    assert said["grpc"] == ["grpc"]  # which is what makes an import fail
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
