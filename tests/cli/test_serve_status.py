"""`tideover status --serve`: where it listens, and for whom."""

from __future__ import annotations

import gc
import re
import signal
import socket
import subprocess
import sys
import warnings

import anyio
import click
import httpx
import pytest
from starlette.types import Message, Scope

from tideover import connect
from tideover.asgi.status_page.answers import Answer
from tideover.cli.exit_codes import Exit, Failure
from tideover.cli.serve_status import HostCheck, serve, split_address
from tideover.testing import MemoryStore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("8099", ("127.0.0.1", 8099)),
        (":8099", ("127.0.0.1", 8099)),
        ("0", ("127.0.0.1", 0)),
        ("10.0.7.3:8099", ("10.0.7.3", 8099)),
        ("[::1]:8099", ("::1", 8099)),
        ("shop-2.internal:65535", ("shop-2.internal", 65535)),
    ],
)
def test_an_address_is_read(given: str, address: tuple[str, int]) -> None:
    """`[HOST:]PORT`, loopback by default."""
    assert split_address(given) == address


@pytest.mark.parametrize("given", ["", "shop", "65536", "-1", "8099:", "1e3", "٣", "http://x:1/"])
def test_what_is_no_address_is_refused(given: str) -> None:
    """With a message for people."""
    with pytest.raises(click.BadParameter, match=r"is not \[HOST:\]PORT"):
        split_address(given)


async def status_of(given: str, hosts: list[bytes]) -> int:
    """Ask a check that was told to listen at a host; return the status of the answer."""
    sent: list[Message] = []

    async def page(scope: Scope, receive: object, send: object) -> None:
        await Answer(200, b"page")(scope, send)  # type: ignore[arg-type]

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", host) for host in hosts]
    await HostCheck(page, given)({"type": "http", "method": "GET", "headers": headers}, receive, send)
    status: int = sent[0]["status"]
    return status


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("given", "host", "status"),
    [
        ("127.0.0.1", b"127.0.0.1:8099", 200),
        ("127.0.0.1", b"localhost:8099", 200),
        ("127.0.0.1", b"LOCALHOST", 200),
        ("127.0.0.1", b"[::1]:8099", 200),
        ("127.0.0.1", b"127.9.9.9", 200),
        ("127.0.0.1", b"evil.example:8099", 421),
        ("127.0.0.1", b"127.0.0.1.evil.example", 421),
        ("127.0.0.1", b"localhost.evil.example", 421),
        ("127.0.0.1", b"evil.example@127.0.0.1", 421),
        ("127.0.0.1", b"10.0.7.3", 421),
        ("127.0.0.1", b"", 421),
        ("127.0.0.1", b"[", 421),
        ("127.0.0.1", b"localhost.:8099", 200),
        ("127.0.0.1", b"LocalHost.", 200),
        ("127.0.0.1", b"[::ffff:10.0.7.3]:8099", 421),
        ("127.0.0.1", b"localhost:8099/evil.example", 421),
        ("127.0.0.1", b"localhost evil.example", 421),
        ("127.0.0.1", b"localhost:99999", 421),
        ("127.0.0.1", b"localhost:evil", 421),
        ("127.0.0.1", b"0.0.0.0", 421),
        ("::1", b"[::1]:8099", 200),
        ("::1", b"[0:0:0:0:0:0:0:1]", 200),
        ("::1", b"::1", 421),
        ("::", b"[2001:db8::1]:8099", 200),
        ("::", b"evil.example", 421),
        ("2001:db8::1", b"[2001:DB8::1]:8099", 200),
        ("2001:db8:0::1", b"[2001:db8::1]:8099", 200),
        ("shop-2.internal.", b"shop-2.internal:8099", 200),
        ("10.0.7.3", b"10.0.7.3:8099", 200),
        ("10.0.7.3", b"10.0.7.4:8099", 421),
        ("127.0.0.1", b"\xff", 421),
        ("shop-2.internal", b"Shop-2.internal:8099", 200),
        ("shop-2.internal", b"127.0.0.1", 200),
        ("shop-2.internal", b"shop-3.internal", 421),
        ("0.0.0.0", b"10.0.7.3:8099", 200),
        ("0.0.0.0", b"evil.example:8099", 421),
    ],
)
async def test_a_name_of_others_is_refused(given: str, host: bytes, status: int) -> None:
    """What is neither loopback nor given is refused, so that no website can point its own name here."""
    assert await status_of(given, [host]) == status


@pytest.mark.anyio
async def test_without_a_host_or_with_two_it_is_refused() -> None:
    """Nobody guesses which one is meant."""
    assert await status_of("127.0.0.1", []) == 421
    assert await status_of("127.0.0.1", [b"localhost", b"evil.example"]) == 421


def test_it_serves_until_a_signal() -> None:
    """The address is printed, the page is there with etcd away, and Ctrl-C ends it with an open stream."""
    command = [sys.executable, "-m", "tideover.cli", "status", "--serve", "0", "-e", "127.0.0.1:1"]
    served = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert served.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", served.stdout.readline())
        assert found is not None
        answer = httpx.get(found[0], timeout=10)
        assert (answer.status_code, "unavailable" in answer.text) == (200, True)
        assert httpx.get(found[0], headers={"host": "evil.example"}, timeout=10).status_code == 421
        with httpx.stream("GET", f"{found[0]}events", timeout=30) as events:
            chunks = events.iter_raw()
            next(chunks)
            served.send_signal(signal.SIGINT)
            b"".join(chunks)
        _, errors = served.communicate(timeout=20)
        assert (served.returncode, errors) == (130, "")
    finally:
        served.kill()
        served.wait()


def test_a_port_that_is_taken_is_one_line() -> None:
    """And the exit code of something that did not hold; no socket is left open."""
    with socket.socket() as taken, warnings.catch_warnings(record=True, action="always") as told:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Failure, match=f"^--serve 127.0.0.1:{port}: ") as failed:
            anyio.run(serve, connect(store=MemoryStore(), cache_dir=False), "127.0.0.1", port)
        assert failed.value.code is Exit.FAILED
        assert "\n" not in str(failed.value)
        del failed
        gc.collect()
    assert [str(each.message) for each in told if "socket" in str(each.message)] == []
