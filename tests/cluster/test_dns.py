"""Names that stand for several addresses."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import anyio
import pytest

from tideover.cluster.dns import Names, system_resolver
from tideover.store.endpoints import Address

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The system's resolver is asked from asyncio."""
    return "asyncio"


class Zone:
    """A name server that knows what it is told."""

    def __init__(self, **hosts: Sequence[str]) -> None:
        self.hosts = hosts

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        await anyio.lowlevel.checkpoint()
        try:
            return self.hosts[host]
        except KeyError:
            raise OSError(f"no such host: {host}") from None


async def test_each_address_becomes_one_that_bears_the_name() -> None:
    """Several addresses, of either family, take the place of the name, and their certificate must bear it."""
    names = Names(["10.0.0.9:1", "etcd:2379", "[::2]:3"], Zone(etcd=["10.0.0.1", "fd00::1"]).resolve)
    await names.look_up(1)
    assert names.addresses == (
        Address("10.0.0.9:1"),
        Address("10.0.0.1:2379", "etcd"),
        Address("[fd00::1]:2379", "etcd"),
        Address("[::2]:3"),
    )


async def test_one_address_is_left_to_grpc() -> None:
    """A name with one address, or with none that can be found, stays a name."""
    names = Names(["one:1", "none:1"], Zone(one=["10.0.0.1"]).resolve)
    await names.look_up(1)
    assert names.addresses == (Address("one:1"), Address("none:1"))


async def test_what_was_apart_stays_apart() -> None:
    """A name that had several addresses and has one left is that one address; found in vain, it is as it was."""
    zone = Zone(etcd=["10.0.0.1", "10.0.0.2"])
    names = Names(["etcd:1"], zone.resolve)
    await names.look_up(1)
    zone.hosts = {"etcd": ["10.0.0.2"]}
    await names.look_up(1)
    assert names.addresses == (Address("10.0.0.2:1", "etcd"),)
    zone.hosts = {}
    await names.look_up(1)
    assert names.addresses == (Address("10.0.0.2:1", "etcd"),)


async def test_an_address_given_twice_is_one() -> None:
    """An address that is given, and stands behind a name as well, is there once, as it came first."""
    names = Names(["10.0.0.1:1", "etcd:1"], Zone(etcd=["10.0.0.1", "10.0.0.2"]).resolve)
    await names.look_up(1)
    assert names.addresses == (Address("10.0.0.1:1"), Address("10.0.0.2:1", "etcd"))


def test_addresses_need_no_looking_up() -> None:
    """Only names make it worth asking anybody."""
    assert not Names(["10.0.0.1:1", "[::1]:1"], Zone().resolve).any
    assert Names(["10.0.0.1:1", "etcd:1"], Zone().resolve).any
    assert not Names(["etcd:1"], None).any


async def test_the_system_knows_this_machine() -> None:
    """The system's resolver finds localhost, and says so when a name does not exist."""
    assert set(await system_resolver("localhost", 2379)) & {"127.0.0.1", "::1"}
    with pytest.raises(OSError):
        await system_resolver("nowhere.invalid", 2379)


async def test_a_hanging_resolver_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the system hangs, the event loop runs, the look-up ends in time, and the name stays as it is."""
    released = threading.Event()

    def hang(*args: object, **kwargs: object) -> list[object]:
        released.wait(10)
        raise OSError("never mind")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    names = Names(["etcd:1"], system_resolver)
    began = time.monotonic()
    await names.look_up(0.1)
    assert time.monotonic() - began < 0.5
    assert names.addresses == (Address("etcd:1"),)
    released.set()


def test_a_hanging_resolver_does_not_keep_the_process() -> None:
    """A process that looks up a name in vain ends when it is done, not when the resolver is."""
    script = (
        "import asyncio, socket, time\n"
        "socket.getaddrinfo = lambda *args, **kwargs: time.sleep(60)\n"
        "from tideover.cluster.dns import Names, system_resolver\n"
        "asyncio.run(Names(['etcd:1'], system_resolver).look_up(0.1))\n"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
    assert time.monotonic() - began < 10
