"""Where candidates are asked: the right one, at the right address, or nobody."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.canaries import canary
from tests.elections.peers.switchboard import Switchboard
from tideover import Failsafe
from tideover.elections.peers.http import HttpNetwork
from tideover.elections.peers.listener import PeerListener
from tideover.elections.peers.messages import Keyring, Kind, Message
from tideover.elections.rules.failsafe import Verdict

pytestmark = pytest.mark.anyio

SECRET = canary("listener-secret")
MESSAGE = Message(Kind.ASK, "/elections/x", 1, "L", 3, 1, "n", "C", 15.0)


def listener(towards: tuple[str, ...] = ("127.0.0.1:2379",), **options: Any) -> PeerListener:
    """Return one on a network in memory."""
    return PeerListener(
        Failsafe(SECRET, **options), towards=towards, monotonic=lambda: 0.0, network=Switchboard().line()
    )


def test_whom_a_message_reaches() -> None:
    """It reaches the incarnation that it is for; for any other the answer is 421, and unsigned ones get 403."""
    made, keys = listener(), Keyring([SECRET.encode()])

    def here(message: Message) -> Verdict:
        return Verdict.HERE

    body = keys.request(MESSAGE)
    assert made._handle(body) == (421, b"")
    made.register("C", here)
    status, answer = made._handle(body)
    assert status == 200
    assert keys.read_reply(answer, MESSAGE) == "here"
    assert made._handle(Keyring([b"another secret of sixteen"]).request(MESSAGE)) == (403, b"")
    assert made._handle(b"junk") == (403, b"")
    assert made.rejected == 2
    made.unregister("C", lambda message: Verdict.HERE)
    assert made._handle(body)[0] == 200, "a successor's answer stays"
    made.unregister("C", here)
    assert made._handle(body) == (421, b"")


@pytest.mark.parametrize(
    ("options", "address"),
    [
        ({}, "127.0.0.1:7000"),
        ({"listen": "10.1.2.3:7000"}, "10.1.2.3:7000"),
        ({"listen": "0:7000"}, "127.0.0.1:7000"),
        ({"listen": "[::1]:0"}, "[::1]:7000"),
        ({"advertise": "10.0.0.7"}, "10.0.0.7:7000"),
        ({"advertise": "10.0.0.7:31007"}, "10.0.0.7:31007"),
        ({"advertise": "[fe80::1]"}, "[fe80::1]:7000"),
        ({"advertise": "[fe80::1]:31007"}, "[fe80::1]:31007"),
        ({"advertise": "worker-1.example"}, "worker-1.example:7000"),
    ],
)
async def test_where_it_is(options: dict[str, Any], address: str) -> None:
    """The address is what was given; else that of `listen`; else that by which this machine reaches etcd."""
    made = listener(**options)
    await made.open()
    assert made.address == address


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_port_that_is_taken() -> None:
    """A port of another process is refused with what to do about it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        made = PeerListener(
            Failsafe(SECRET, listen=listen), towards=(), monotonic=lambda: 0.0, network=HttpNetwork()
        )
        with pytest.raises(OSError, match="port 0"):
            await made.open()
