"""A lock is passed on as the line in etcd says, whatever happens to the line and to the members: a trial.

    nox -s faults -- -k passed_on        the long form
    pytest tests/faults/test_passing_on.py --faults-count 200 --faults-seed 7 -s

Keys are deleted by hand, alone and all at once, the history is compacted at the revision of a departure, and a
member that serves a waiter's watch is stopped for longer than a ttl. A witness watches the line at a member that
runs throughout: each hold was the first in line at some revision, and not entered long after that was over.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
import pytest

import tideover
from tideover import Coordinator
from tideover.store.operations import Range, Sort, prefix_end
from tideover.testing import EtcdCluster

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.faults, pytest.mark.takes(20)]

FAST = ("--heartbeat-interval=50", "--election-timeout=500")
LINE = b"/locks/orders/"
TTL = 5
# Seconds after the end of its key within which a body may have been entered: what is believed without a read is no
# older, and a busy machine is allowed for.
STALE = 3.0


@pytest.fixture
def anyio_backend() -> str:
    """The store belongs to asyncio."""
    return "asyncio"


@dataclass
class Witness:
    """What the line was, revision by revision.

    Attributes:
        firsts: Create revisions of the keys that were the first.
        gone: When the end of each key was seen, in monotonic seconds.
    """

    line: dict[bytes, int] = field(default_factory=dict)
    firsts: set[int] = field(default_factory=set)
    gone: dict[int, float] = field(default_factory=dict)

    async def watch(self, tide: Coordinator, member: str) -> None:
        """Watch until cancelled; nothing is missed, because the member runs throughout."""
        store = tide._parts.store
        assert store is not None
        async with store.watch(LINE, prefix_end(LINE), start_revision=0, member=member, timeout=5) as watch:
            while True:
                batch = await watch.receive()
                for n, event in enumerate(batch.events):
                    if event.entry is None:
                        self.gone[self.line.pop(event.key)] = time.monotonic()
                    else:
                        self.line.setdefault(event.key, event.entry.create_revision)
                    last = n + 1 == len(batch.events) or batch.events[n + 1].revision != event.revision
                    if self.line and last:
                        self.firsts.add(min(self.line.values()))


@dataclass
class Trial:
    """Contenders for one lock, and what is done to them."""

    cluster: EtcdCluster
    chance: random.Random
    entered: list[tuple[int, float]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    late: float = 0.0

    async def contend(self, tide: Coordinator) -> None:
        """Take the lock again and again."""
        while True:
            try:
                async with tide.lock("orders", ttl=TTL, handover=False) as held:
                    self.entered.append((held.revision, time.monotonic()))
                    await anyio.sleep(self.chance.uniform(0, 0.02))
            except tideover.TideoverError:
                self.done["refused or lost"] += 1
            if self.chance.random() < 0.1:
                await anyio.sleep(0.02)

    async def strike(self, tide: Coordinator) -> None:
        """Do one thing to the line; wait until that is over."""
        kind = self.chance.choice(("first", "second", "all", "compact"))
        self.done[kind] += 1
        client = tide._parts.client
        found = (await client.calls.call(Range(LINE, prefix_end(LINE), sort=Sort.OLDEST))).result
        keys = [key.decode() for key in found.entries]
        if kind == "all":
            await self.etcdctl("del", "--prefix", LINE.decode())
        elif kind == "compact":
            # At the revision at which a key goes.
            told = await self.etcdctl("del", keys[0], "-w", "fields") if keys else ""
            line = next((line for line in told.splitlines() if line.startswith('"Revision"')), "")
            if line:
                await self.etcdctl("compaction", line.split(":")[1].strip())
        elif keys:
            await self.etcdctl("del", keys[0 if kind == "first" else min(1, len(keys) - 1)])

    async def stop(self, tide: Coordinator, seconds: float) -> None:
        """Stop the member that serves a contender; delete keys by hand meanwhile."""
        self.done["stop"] += 1
        active = tide._parts.client.state.active
        member = next(member for member in self.cluster.members if member.endpoint == active)
        if member is self.cluster.members[-1]:
            return
        member.pause()
        try:
            await anyio.sleep(seconds / 2)
            await self.etcdctl("del", "--prefix", LINE.decode())
            await anyio.sleep(seconds / 2)
        finally:
            member.resume()

    async def etcdctl(self, *args: str) -> str:
        """Run etcdctl at the member that runs throughout."""
        return await anyio.to_thread.run_sync(lambda: self.cluster.members[-1].etcdctl(*args))


async def test_it_is_passed_on_as_the_line_says(pytestconfig: pytest.Config) -> None:
    """Every hold had been the first in line, and none was entered on tidings that were older than two seconds."""
    count, seed = pytestconfig.getoption("faults_count"), pytestconfig.getoption("faults_seed")
    witness = Witness()
    with EtcdCluster(3, args=FAST) as cluster:
        trial = Trial(cluster, random.Random(seed))
        async with AsyncExitStack() as stack:
            tides = [
                await stack.enter_async_context(
                    tideover.connect(*cluster.endpoints, cache_dir=False, follow=(), start_timeout=5)
                )
                for _ in range(4)
            ]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(witness.watch, tides[0], cluster.members[-1].endpoint)
                await anyio.sleep(0.2)
                for tide in tides[1:]:
                    tasks.start_soon(trial.contend, tide)
                for number in range(count):
                    await anyio.sleep(trial.chance.uniform(0.05, 0.3))
                    await trial.strike(tides[0])
                    if number % 20 == 5:
                        await trial.stop(trial.chance.choice(tides[1:]), TTL + 1 if count >= 200 else 1)
                await anyio.sleep(1)
                tasks.cancel_scope.cancel()
    stale = [when - witness.gone[key] for key, when in trial.entered if when > witness.gone.get(key, when)]
    print(
        f"\n{len(trial.entered)} holds, {dict(trial.done)}; entered after its end {max(stale, default=0.0):.3f} s"
    )
    assert len(trial.entered) > count
    assert {key for key, _ in trial.entered} <= witness.firsts
    assert max(stale, default=0.0) < STALE
