"""A thousand sessions, followers and elections through a connection with room for few streams: none may be lost.

Behind nginx's `grpc_pass` a connection has room for 128 streams, behind HAProxy in `mode http` for 100, and at
etcd 3.5.1 over TLS for 250: who opens a stream for each session loses some of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import psutil

import tideover
from tests.etcd.certificates import Authority
from tests.etcd.ways import haproxy, nginx
from tideover import Coordinator, HealthState, SessionState, Source, Standing, TideoverError, Tls
from tideover.sessions.session import Session
from tideover.testing import EtcdServer

Way = Literal["direct", "tls", "nginx", "haproxy"]
# Of docs/how-to/behind-a-proxy.md.
_NGINX = "grpc_pass grpc://{}; client_body_timeout 1h; grpc_read_timeout 1h; grpc_send_timeout 1h;"
_TTL = 15
# Seconds before its deadline that a session of this ttl must have been renewed.
NEAREST = _TTL / 3 + 2
# Seconds between two looks at everything, and between two lines about it.
_LOOK, _TELL = 0.5, 30.0
# How many are begun at once.
_AT_ONCE = 20


@dataclass(frozen=True)
class Size:
    """How much of everything there is.

    Attributes:
        sessions: Sessions with one key each.
        prefixes: Followed prefixes.
        elections: Elections that this process leads.
    """

    sessions: int = 1000
    prefixes: int = 200
    elections: int = 50


@contextmanager
def on_the_way(way: Way) -> Iterator[tuple[str, Tls | None]]:
    """Run an etcd, and what lies before it; give its endpoint and how to connect."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        if way == "tls":
            authority = Authority(folder)
            signed = authority.sign("etcd")
            with EtcdServer(tls=Tls(cert=signed.cert, key=signed.key)) as server:
                yield server.endpoint, Tls(ca=authority.cert)
            return
        with EtcdServer() as server:
            if way == "direct":
                yield server.endpoint, None
            elif way == "nginx":
                with nginx(folder, _NGINX.format(server.endpoint)) as (endpoint,):
                    yield endpoint, None
            else:
                with haproxy(folder, server.endpoint, mode="http") as endpoint:
                    yield endpoint, None


class Crowd:
    """Sessions, followers and elections of one coordinator, and what has become of them.

    Args:
        tide: The coordinator.
        size: How many there are.
        tell: Gets lines for people.

    Attributes:
        wrong: What went wrong, and how often it was seen.
        nearest: Seconds to the deadline, of the session that came nearest to it.
    """

    def __init__(self, tide: Coordinator, size: Size, tell: Callable[[str], None]) -> None:
        self.wrong: Counter[str] = Counter()
        self.nearest = float(_TTL)
        self._tide = tide
        self._size = size
        self._tell = tell
        self._sessions: dict[int, Session] = {}
        self._leading: set[int] = set()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._end = asyncio.Event()

    async def run(self, seconds: float) -> None:
        """Begin with everything, look at it for so long, and end it."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._size.sessions):
                tasks.create_task(self._hold(number))
            for number in range(self._size.elections):
                tasks.create_task(self._lead(number))
            try:
                async with asyncio.timeout(120):
                    while not self._all_there():
                        await asyncio.sleep(0.1)
                self._tell(f"all there after {time.monotonic() - began:.1f} s")
                await self._look(seconds)
            except TimeoutError:
                self.wrong[f"not all there: {len(self._sessions)} sessions, {len(self._leading)} leaders"] += 1
            finally:
                self._end.set()

    def _all_there(self) -> bool:
        there = len(self._sessions) == self._size.sessions and len(self._leading) == self._size.elections
        return bool(self.wrong) or there

    async def _hold(self, number: int) -> None:
        opened = False
        try:
            async with AsyncExitStack() as stack:
                async with self._room:
                    session = await stack.enter_async_context(self._tide.session(ttl=_TTL))
                    opened = True
                    await session.put(f"crowd/{number}")
                self._sessions[number] = session
                stack.callback(self._sessions.pop, number)
                await self._end.wait()
        except TideoverError as exc:
            what = "a session was lost" if opened else "a session did not open"
            self.wrong[f"{what}: {type(exc).__name__}: {_without_id(exc)}"] += 1

    async def _lead(self, number: int) -> None:
        try:
            async with self._tide.leader(f"crowd/{number}", ttl=_TTL):
                self._leading.add(number)
                await self._end.wait()
        except TideoverError as exc:
            self.wrong[f"a leader was lost: {type(exc).__name__}: {exc}"] += 1

    async def _look(self, seconds: float) -> None:
        """Look at everything until the time is over."""
        process, began = psutil.Process(), time.monotonic()
        told_at, used = began, sum(process.cpu_times()[:2])
        while (now := time.monotonic()) < began + seconds:
            self._look_once()
            if now - told_at >= _TELL:
                share = (sum(process.cpu_times()[:2]) - used) / (now - told_at)
                told_at, used = now, sum(process.cpu_times()[:2])
                self._tell(
                    f"{now - began:.0f} s: nearest to its deadline {self.nearest:.1f} s, {share:.0%} of a core, "
                    f"{process.memory_info().rss / 2**20:.0f} MiB, {len(asyncio.all_tasks())} tasks; "
                    f"{dict(self.wrong) or 'nothing wrong'}"
                )
            await asyncio.sleep(_LOOK)

    def _look_once(self) -> None:
        if self._tide.health.state is not HealthState.AVAILABLE:
            self.wrong[f"the state was {self._tide.health.state}"] += 1
        report, boot = self._tide.status(), time.clock_gettime(time.CLOCK_BOOTTIME)
        for followed in report.config:
            if followed.source is not Source.LIVE or followed.error is not None:
                self.wrong[f"a prefix was {followed.source}: {followed.error}"] += 1
        self.nearest = min([self.nearest, *(held.deadline - boot for held in self._sessions.values())])
        # Those of locks and registrations count as well.
        for shown in report.sessions:
            if shown.state is not SessionState.ALIVE:
                self.wrong[f"a session was {shown.state}: {shown.error}"] += 1
        for number in self._leading:
            if self._tide.standing(f"crowd/{number}") is not Standing.HELD:
                self.wrong["a leader was not HELD"] += 1


def _without_id(exc: TideoverError) -> str:
    """Return an error's words without the lease, so that equal losses are counted together."""
    return str(exc).partition(": ")[2] or str(exc)


async def crowd(way: Way, minutes: float, size: Size, tell: Callable[[str], None] = print) -> list[str]:
    """Run a crowd through a way to etcd.

    Args:
        way: What lies before etcd.
        minutes: How long.
        size: How much of everything.
        tell: Gets lines for people.

    Returns:
        Complaints: what was lost or degraded, or how near a session came to its deadline.
    """
    with on_the_way(way) as (endpoint, tls):
        follow = tuple(f"crowd-{number}/" for number in range(size.prefixes))
        async with tideover.connect(
            endpoint,
            tls=tls,
            follow=follow,
            cache_dir=False,
            start_timeout=20,
            # Members would be reached past the proxy.
            sync_members=way == "direct",
        ) as tide:
            here = Crowd(tide, size, tell)
            await here.run(60 * minutes)
    complaints = [f"{what} ({count} times)" for what, count in here.wrong.items()]
    if here.nearest < NEAREST:
        complaints.append(f"a session was {here.nearest:.2f} s before its deadline, nearer than {NEAREST:g} s")
    return complaints
