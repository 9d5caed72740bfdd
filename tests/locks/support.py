"""What tests of locks share."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from tests.support import connected, mock_clock
from tideover import Coordinator
from tideover.options import Options
from tideover.store.faults import StoreFault, classify
from tideover.store.operations import Delete, Op, Put, Result
from tideover.store.protocol import KeepAlive, Store, TakeRenewal, Watch, WatchGroup
from tideover.store.transactions import Txn
from tideover.testing import FaultyStore, MemoryStore

R = TypeVar("R", bound=Result)


def lock_keys(store: MemoryStore, name: str = "") -> list[bytes]:
    """Return the keys of locks in etcd, oldest first."""
    found = [(e.create_revision, k) for k, e in store._newest.items() if k.startswith(f"/locks/{name}".encode())]
    return [key for _, key in sorted(found)]


def touches(name: str, kind: type[Put] | type[Delete]) -> Callable[[Op[Result]], bool]:
    """Return whether an operation is a transaction that writes or deletes a key of a lock."""
    prefix = f"/locks/{name}/".encode()

    def matches(op: Op[Result]) -> bool:
        return isinstance(op, Txn) and any(isinstance(s, kind) and s.key.startswith(prefix) for s in op.then)

    return matches


def lose_all(store: MemoryStore) -> None:
    """Let every member refuse connections."""
    store.down = set(store.members)
    store.touch()


def heal(store: MemoryStore) -> None:
    """Let every member be well."""
    store.down = set()
    store.touch()


@asynccontextmanager
async def connected_many(store: Store, count: int, **options: Any) -> AsyncIterator[list[Coordinator]]:
    """Run several coordinators on one store: as if each were a process of its own."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(store, **options)) for _ in range(count)]


async def settle(seconds: float = 0.5) -> None:
    """Let what is under way come to its end."""
    await anyio.sleep(seconds)


@asynccontextmanager
async def connected_on(store: Store, folder: Path, **options: Any) -> AsyncIterator[Coordinator]:
    """Run a coordinator on a machine of its own: that is, with host locks and a ledger in a folder of its own."""
    # Without followed prefixes there are no snapshots: threads do not go well with a clock that jumps.
    made = Options(endpoints=tuple(store.members), cache_dir=folder, follow=(), **options)
    coordinator = Coordinator(made, store=store, clock=mock_clock(), chance=random.Random(7).random)
    async with coordinator as tide:
        yield tide


class LateStore(FaultyStore):
    """A store in which chosen writes fail now and are applied later: when `arrive` is called."""

    def __init__(self, memory: MemoryStore) -> None:
        super().__init__(memory)
        self.memory = memory
        self.late: list[Op[Any]] = []
        self.delay: Callable[[Op[Any]], bool] = lambda op: False

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        if self.delay(op):
            self.late.append(op)
            await anyio.lowlevel.checkpoint()
            raise StoreFault(classify("UNAVAILABLE", "etcdserver: request timed out"))
        return await super().call(op, member=member, timeout=timeout)

    async def arrive(self) -> None:
        """Apply what is late."""
        for op in self.late:
            await self.memory.call(op, member=self.memory.members[0], timeout=1)
        self.late.clear()


class Cuttable(FaultyStore):
    """A way to a cluster that can be cut without harm to the cluster: as `cut` is down, so is the way.

    Args:
        store: The cluster.
        cut: Stands for the way.
    """

    def __init__(self, store: MemoryStore, cut: MemoryStore) -> None:
        super().__init__(store)
        self._cut = cut

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        self._check(member)
        return await super().call(op, member=member, timeout=timeout)

    def _check(self, member: str) -> None:
        if member in self._cut.down:
            raise StoreFault(classify("UNAVAILABLE", "failed to connect to all addresses"))

    @asynccontextmanager
    async def watch(
        self, key: bytes, end: bytes | None, *, start_revision: int, member: str, timeout: float
    ) -> AsyncIterator[Watch]:
        self._check(member)
        async with super().watch(key, end, start_revision=start_revision, member=member, timeout=timeout) as watch:
            yield CuttableWatch(watch, self._cut, member)

    @asynccontextmanager
    async def watch_group(self, *, member: str, timeout: float) -> AsyncIterator[WatchGroup]:
        self._check(member)
        async with super().watch_group(member=member, timeout=timeout) as group:
            yield CuttableGroup(group, self._cut, member)

    @asynccontextmanager
    async def keep_alive(self, *, member: str) -> AsyncIterator[KeepAlive]:
        self._check(member)
        async with super().keep_alive(member=member) as stream:
            yield CuttableStream(stream, self, member)


class CuttableStream(KeepAlive):
    """A stream of renewals that ends with the way."""

    def __init__(self, stream: KeepAlive, way: Cuttable, member: str) -> None:
        self._stream, self._way, self._member = stream, way, member

    async def renew_all(self, leases: Sequence[int], take: TakeRenewal) -> None:
        """Renew leases."""
        self._way._check(self._member)
        await self._stream.renew_all(leases, take)


class CuttableReader:
    """What is received from a member, until the way to it ends."""

    def __init__(self, watch: Any, cut: MemoryStore, member: str) -> None:
        self._watch, self._cut, self._member = watch, cut, member

    async def receive(self) -> Any:
        """Return the next frame, or those of a group."""
        found: list[Any] = []
        async with anyio.create_task_group() as tasks:

            async def until_cut() -> None:
                while self._member not in self._cut.down:
                    await self._cut._changed.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(until_cut)
            found.append(await self._watch.receive())
            tasks.cancel_scope.cancel()
        if not found:
            raise StoreFault(classify("UNAVAILABLE", "Stream removed (Socket closed)"))
        return found[0]


class CuttableWatch(CuttableReader):
    """A watch that ends with the way."""

    def __init__(self, watch: Watch, cut: MemoryStore, member: str) -> None:
        super().__init__(watch, cut, member)
        self.opened_at, self.request_progress = watch.opened_at, watch.request_progress


class CuttableGroup(CuttableReader):
    """A group of watches that ends with the way."""

    def __init__(self, group: WatchGroup, cut: MemoryStore, member: str) -> None:
        super().__init__(group, cut, member)
        self.add, self.drop, self.request_progress = group.add, group.drop, group.request_progress
