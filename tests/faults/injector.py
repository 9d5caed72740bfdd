"""Random faults put into a real cluster, one after the other, the same ones for the same seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import anyio
import anyio.to_thread

from tideover.testing import EtcdCluster, EtcdServer

# What happens how often.
_WEIGHTS = {
    "kill": 30,  # SIGKILL of one member
    "kill two": 6,  # of a majority
    "kill all": 4,
    "short pause": 15,  # SIGSTOP of one member, too short for an election
    "long pause": 15,  # long enough for one, and for everybody to go elsewhere
    "compact": 15,  # the history up to now
    "pause and compact": 15,  # the history that a frozen member has not told
}
_SECONDS = {
    "kill": (0.1, 1.5),
    "kill two": (0.5, 3.0),
    "kill all": (0.5, 2.0),
    "short pause": (0.02, 0.4),
    "long pause": (1.0, 3.5),
    "compact": (0.0, 0.1),
    "pause and compact": (1.0, 3.0),
}
# Seconds between two faults.
_BETWEEN = (0.1, 1.5)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: What.
        victims: Indexes of the members it strikes.
        seconds: How long.
        pause: Seconds of peace after it.
    """

    kind: str
    victims: tuple[int, ...]
    seconds: float
    pause: float


def plan(chance: random.Random, count: int, *, members: int = 3) -> Iterator[Fault]:
    """Draw faults: each kind once, in any order, and then as the weights say.

    Args:
        chance: What to draw from.
        count: How many.
        members: How many members there are.
    """
    kinds = chance.sample(list(_WEIGHTS), len(_WEIGHTS))
    kinds += chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=max(0, count - len(kinds)))
    for kind in kinds[:count]:
        size = {"kill two": members // 2 + 1, "kill all": members}.get(kind, 1)
        victims = tuple(chance.sample(range(members), size))
        yield Fault(kind, victims, chance.uniform(*_SECONDS[kind]), chance.uniform(*_BETWEEN))


class Injector:
    """Strikes a cluster.

    Args:
        cluster: The cluster; all its members run before and after each fault.
        on_fault: Told of each fault before it strikes.

    Attributes:
        done: How many faults of each kind there were.
        compactions: How often a compaction succeeded.
    """

    def __init__(self, cluster: EtcdCluster, *, on_fault: Callable[[Fault], None] = lambda fault: None) -> None:
        self.done: Counter[str] = Counter()
        self.compactions = 0
        self._cluster = cluster
        self._on_fault = on_fault

    def __repr__(self) -> str:
        """Count the faults."""
        return f"<Injector {dict(self.done)}>"

    async def strike(self, fault: Fault) -> None:
        """Let one fault happen, and wait until it is over."""
        self._on_fault(fault)
        victims = [self._cluster.members[index] for index in fault.victims]
        if fault.kind.startswith("kill"):
            for victim in victims:
                victim.kill()
            await anyio.sleep(fault.seconds)
            for victim in victims:
                victim.start()
        elif fault.kind == "compact":
            await self._compact(self._cluster.members[fault.victims[0]])
            await anyio.sleep(fault.seconds)
        else:
            (victim,) = victims
            victim.pause()
            try:
                await anyio.sleep(fault.seconds / 2)
                if fault.kind == "pause and compact":
                    others = [member for member in self._cluster.members if member is not victim]
                    await self._compact(others[0])
                await anyio.sleep(fault.seconds / 2)
            finally:
                victim.resume()
        self.done[fault.kind] += 1
        await anyio.sleep(fault.pause)

    async def _compact(self, member: EtcdServer) -> None:
        """Compact up to what a member knows now; without a quorum, or a ready member, nothing happens."""

        def compact() -> None:
            fields = member.etcdctl("endpoint", "status", "--write-out=fields", timeout=2)
            (line,) = (line for line in fields.splitlines() if '"Revision"' in line)
            member.etcdctl("compaction", line.partition(":")[2].strip(), timeout=2)

        try:
            await anyio.to_thread.run_sync(compact)
        except (RuntimeError, TimeoutError):
            return
        self.compactions += 1
