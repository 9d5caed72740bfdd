"""Links that are slow or long: what takes time arrives, and nothing that answers is declared away."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.etcd.certificates import Authority
from tests.slow_links import SlowLink, slow_link
from tideover import connect
from tideover.coordinator.coordinator import Coordinator
from tideover.testing import EtcdServer
from tideover.types import HealthState

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd, pytest.mark.anyio, pytest.mark.takes(40)]

MBIT = 125_000


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Talk to etcd on asyncio."""
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """An etcd with 600 kB of configuration in 12 keys, and a value of 500 kB beside it."""
    with EtcdServer() as server:
        yield server


async def fill(server: EtcdServer) -> None:
    """Put what is to be read."""
    async with connect(server.endpoint, cache_dir=False, follow=("none/",)) as tide:
        for number in range(12):
            await tide.config.put(f"app/{number:02}", "x" * 50_000)
        await tide.config.put("large", "y" * 500_000)


@asynccontextmanager
async def through(link: SlowLink, follow: str) -> AsyncIterator[tuple[Coordinator, set[HealthState]]]:
    """Connect through a link, and note the states there were."""
    states: set[HealthState] = set()
    async with connect(
        link.endpoint, cache_dir=False, sync_members=False, start_timeout=10, follow=(follow,)
    ) as tide:

        async def note() -> None:
            while True:
                states.add(tide.health.state)
                await anyio.sleep(0.02)

        states.add(tide.health.state)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(note)
            yield tide, states
            tasks.cancel_scope.cancel()


async def until_live(tide: Coordinator, key: str, within: float) -> None:
    """Wait until a key is served live."""
    with anyio.fail_after(within):
        while tide.config.read(key, default="").source != "live":
            await anyio.sleep(0.05)


async def test_a_prefix_that_takes_long_is_read_and_read_again() -> None:
    """600 kB at 1 Mbit/s and 300 ms: followed, and after an outage again, for 1.5 times its bytes at most."""
    with EtcdServer() as server:
        await fill(server)
        link_of = slow_link(server.endpoint, rate=MBIT, rtt=0.3)
        async with link_of as link, through(link, "app/") as (tide, seen):
            await until_live(tide, "app/07", 30)
            assert link.pulled < 0.9e6
            assert seen == {HealthState.AVAILABLE}
            server.kill()
            await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=20)
            server.start()
            await server.ready()
            before = link.pulled
            await until_live(tide, "app/07", 40)
            assert link.pulled - before < 0.9e6
            assert tide.config.get("app/07") == "x" * 50_000


async def test_large_values_take_their_time(server: EtcdServer) -> None:
    """500 kB each way at 1 Mbit/s and 300 ms, 4 s each: read and written in the caller's time, and sent once."""
    await fill(server)
    link_of = slow_link(server.endpoint, rate=MBIT, rtt=0.3)
    async with link_of as link, through(link, "no/") as (tide, seen):
        reading = await tide.config.fetch("large", timeout=60)
        assert (reading.source, len(reading.value or "")) == ("quorum", 500_000)
        assert link.pulled < 0.75e6
        await tide.config.put("written", "z" * 500_000, timeout=60)
        assert link.pushed < 0.75e6
        assert seen == {HealthState.AVAILABLE}


async def test_a_lock_is_kept_behind_large_answers(server: EtcdServer) -> None:
    """Renewals do not wait behind 500 kB that take 3 s: a lock with a ttl of 6 s is held all the while."""
    await fill(server)
    link_of = slow_link(server.endpoint, rate=1.5 * MBIT, rtt=0.1)
    async with link_of as link, through(link, "no/") as (tide, seen):
        async with tide.lock("job", ttl=6) as lock:
            for _ in range(2):
                await tide.config.fetch("large", timeout=60)
            lock.check()
        assert seen == {HealthState.AVAILABLE}


@pytest.mark.parametrize("secure", [False, True])
async def test_a_far_start_waits(secure: bool, tmp_path: Path) -> None:
    """With 50 to 300 ms of round trip, plain and TLS, a start takes its time in `start_timeout`, and is right."""
    tls = Authority(tmp_path)
    shown = tls.sign("etcd")
    with EtcdServer(tls=shown.trusting(tls.cert) if secure else None) as server:
        given = shown.trusting(tls.cert) if secure else None
        async with connect(server.endpoint, cache_dir=False, tls=given) as tide:
            await tide.config.put("a", "1")
        for rtt in (0.05, 0.15, 0.3):
            async with slow_link(server.endpoint, rtt=rtt) as link:
                began = time.monotonic()
                async with connect(
                    link.endpoint,
                    cache_dir=False,
                    sync_members=False,
                    start_timeout=10,
                    require="etcd",
                    tls=given,
                ) as tide:
                    assert time.monotonic() - began < 9
                    assert tide.health.state is HealthState.AVAILABLE
                    assert tide.config.read("a").source == "live"
