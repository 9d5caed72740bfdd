"""Many sessions in one process, and how near each came to its deadline while things go wrong.

Three of them are the cause of trouble of their own: the lease of one is revoked by hand, this user loses the right
to one key of another, and a key that the third has given back cannot be deleted. All that trouble together may
cost the others no more than a renewal that is 1.5 s late.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

import anyio.to_thread

from tests.etcd.users import PASSWORD
from tideover import Coordinator, SessionState, TideoverError
from tideover.sessions.session import Session
from tideover.testing import EtcdCluster

TTL = 15
# Seconds before its deadline that each session must have been renewed.
NEAREST = TTL / 3 + 2
# What troubles itself: the number is the session's.
EXPIRED, REFUSED, DEBRIS = 0, 1, 2
_TROUBLED = (EXPIRED, REFUSED, DEBRIS)
_KEYS = {REFUSED: "refused/1", DEBRIS: "debris/2"}
# Seconds between two looks, and how many are opened at once.
_LOOK, _AT_ONCE = 0.1, 16


@contextmanager
def guarded_cluster() -> Iterator[EtcdCluster]:
    """Run three members; the user app has a right of its own to each key that it is to lose."""
    with EtcdCluster(3, args=("--bcrypt-cost=4",)) as cluster:
        prefixes = ("/tideover/", "/kept/", "/config/")
        for command in (
            "user add root:root",
            "user grant-role root root",
            "role add app",
            *(f"role grant-permission --prefix=true app readwrite {prefix}" for prefix in prefixes),
            *(f"role grant-permission app readwrite /{key}" for key in _KEYS.values()),
            f"user add app:{PASSWORD}",
            "user grant-role app app",
            "auth enable",
        ):
            cluster.etcdctl(*command.split())
        yield cluster


@dataclass(frozen=True, slots=True)
class Nearest:
    """The moment at which a session was nearest to its deadline.

    Attributes:
        left: Seconds that were left.
        at: Seconds since the looking began.
        why: What its status said then, and how late the look was.
    """

    left: float
    at: float
    why: str


class Sessions:
    """So many sessions of one coordinator.

    Args:
        tide: The coordinator.
        count: How many.

    Attributes:
        nearest: By number, when each was nearest to its deadline.
        losses: By number, how those ended that did not last.
    """

    def __init__(self, tide: Coordinator, count: int) -> None:
        self.nearest: dict[int, Nearest] = {}
        self.losses: dict[int, str] = {}
        self._tide = tide
        self._count = count
        self._open: dict[int, Session] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._end = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Open them all, each with a key of its own."""
        self._tasks = [asyncio.create_task(self._hold(number)) for number in range(self._count)]
        async with asyncio.timeout(120):
            while len(self._open) + len(self.losses) < self._count:
                await asyncio.sleep(0.05)

    async def _hold(self, number: int) -> None:
        try:
            async with AsyncExitStack() as stack:
                async with self._room:
                    session = await stack.enter_async_context(self._tide.session(ttl=TTL))
                    await session.put(_KEYS.get(number, f"kept/{number}"))
                self._open[number] = session
                await self._end.wait()
        except TideoverError as exc:
            self.losses[number] = f"{type(exc).__name__}: {exc}"

    async def make_trouble(self, cluster: EtcdCluster) -> None:
        """Revoke one lease, take one right away, and leave debris that cannot be deleted."""
        root = "--user=root:root"
        expired = f"{self._open[EXPIRED].lease_id:x}"
        for command in (
            *(("role", "revoke-permission", "app", f"/{key}") for key in _KEYS.values()),
            ("lease", "revoke", expired),
        ):
            await anyio.to_thread.run_sync(cluster.etcdctl, root, *command)
        await self._open[DEBRIS].delete(_KEYS[DEBRIS])

    async def look(self, seconds: float, strikes: Mapping[str, int]) -> None:
        """Look at all of them for so long.

        Args:
            seconds: How long.
            strikes: What has been done to members so far, to be named beside a near miss.
        """
        began = last = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            boot, late = time.clock_gettime(time.CLOCK_BOOTTIME), now - last - _LOOK
            for number, session in self._open.items():
                if session.state is SessionState.LOST:
                    continue
                left = session.deadline - boot
                known = self.nearest.get(number)
                if known is None or left < known.left:
                    self.nearest[number] = Nearest(left, now - began, self._why(session, left, late, strikes))
            last = now
            await asyncio.sleep(_LOOK)

    @staticmethod
    def _why(session: Session, left: float, late: float, strikes: Mapping[str, int]) -> str:
        if left >= NEAREST:
            return ""
        shown = session.report()
        loop = f", the loop stood still for {late:.1f} s" if late > _LOOK else ""
        return f"{shown.error or 'no renewal has failed'}, at {shown.member}, after {dict(strikes)}{loop}"

    async def close(self) -> None:
        """Leave them all."""
        self._end.set()
        await asyncio.gather(*self._tasks)

    def complaints(self, nearest: float = NEAREST) -> list[str]:
        """Return which of those without trouble of their own were lost, or too near to their deadline, and why.

        Args:
            nearest: Seconds before its deadline that each must have been renewed.
        """
        found = [f"{number} was lost: {why}" for number, why in self.losses.items() if number not in _TROUBLED]
        near = {n: seen for n, seen in self.nearest.items() if n not in _TROUBLED and seen.left < nearest}
        for number, seen in sorted(near.items(), key=lambda item: item[1].left)[:5]:
            found.append(f"{number} had {seen.left:.2f} s left after {seen.at:.1f} s: {seen.why}")
        if near:
            moments = Counter(round(seen.at) for seen in near.values()).most_common(3)
            found.append(f"{len(near)} of {self._count} were nearer than {nearest:g} s, most at {moments}")
        return found
