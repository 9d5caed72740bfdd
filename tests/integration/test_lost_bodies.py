"""Bodies of locks, sessions and leaderships that are lost: each ends with its loss, whatever it was awaiting."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import anyio
import pytest

import tideover
from tests.awaits import NAMES, Awaits, in_fail_after, in_group, in_timeout, never_answered, plain
from tideover import LeadershipLost, LockLost, SessionLost
from tideover.coordinator.coordinator import Coordinator
from tideover.store.faults import StoreFault
from tideover.store.leases import LeaseRevoke
from tideover.store.operations import Delete, Range
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio

# Bodies at once.
COUNT = 100

Block = AbstractAsyncContextManager[object]
BLOCKS: dict[str, tuple[Callable[[Coordinator, int], Block], type[Exception]]] = {
    "lock": (lambda tide, n: tide.lock(f"job/{n}"), LockLost),
    "session": (lambda tide, n: tide.session(ttl=15), SessionLost),
    "leader": (lambda tide, n: tide.leader(f"job{n}"), LeadershipLost),
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What is awaited here belongs to asyncio."""
    return "asyncio"


@pytest.fixture(scope="module")
async def awaits() -> AsyncIterator[Awaits]:
    """What bodies wait for."""
    async with never_answered() as found:
        yield found


@pytest.fixture
async def store() -> MemoryStore:
    """A fake cluster."""
    return MemoryStore()


@pytest.fixture
async def tide(store: MemoryStore) -> AsyncIterator[Coordinator]:
    """A coordinator, which has nothing to say of each of a hundred losses."""
    logger = logging.getLogger("tideover")
    logger.setLevel(logging.CRITICAL)
    async with tideover.connect(store=store) as entered:
        yield entered
    logger.setLevel(logging.NOTSET)


async def take_away(store: MemoryStore) -> None:
    """Do what an operator may: end all leases, and delete the records of the elections."""
    (member, *_) = store.members
    for lease in list(store.leases):
        with contextlib.suppress(StoreFault):  # closed meanwhile
            await store.call(LeaseRevoke(lease), member=member, timeout=1)
    found = await store.call(Range(b"\0", b"\0"), member=member, timeout=1)
    for key in found.entries:
        if b"/election" in key:
            await store.call(Delete(key), member=member, timeout=1)


class Bodies:
    """A hundred bodies of one kind, each in a task."""

    def __init__(self, tide: Coordinator, kind: str, wait: Callable[[], Awaitable[None]]) -> None:
        self.make, self.error = BLOCKS[kind]
        self.inside = 0
        self._tide = tide
        self._wait = wait
        self.tasks = [asyncio.create_task(self._hold(n)) for n in range(COUNT)]

    async def _hold(self, n: int) -> None:
        async with self.make(self._tide, n):
            self.inside += 1
            await self._wait()

    async def entered(self) -> None:
        """Wait until all are inside, and have begun to wait."""
        with anyio.fail_after(20):
            while self.inside < COUNT:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)

    async def ends(self) -> Counter[type]:
        """Return how they end."""
        with anyio.fail_after(20):
            found = await asyncio.gather(*self.tasks, return_exceptions=True)
        return Counter(map(type, found))


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("name", NAMES)
async def test_the_loss_comes_out(
    store: MemoryStore, tide: Coordinator, awaits: Awaits, kind: str, name: str
) -> None:
    """A hundred of a hundred bodies end with the loss, and none counts as cancelled."""
    bodies = Bodies(tide, kind, lambda: plain(awaits[name]))
    await bodies.entered()
    await take_away(store)
    assert await bodies.ends() == {bodies.error: COUNT}


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("within", [in_timeout, in_fail_after, in_group])
async def test_the_loss_comes_out_of_what_is_within(
    store: MemoryStore, tide: Coordinator, awaits: Awaits, kind: str, within: Callable[..., Awaitable[None]]
) -> None:
    """The same where the bodies await a grpc.aio call within a timeout or a group of their own."""
    bodies = Bodies(tide, kind, lambda: within(awaits["unary"]))
    await bodies.entered()
    await take_away(store)
    assert await bodies.ends() == {bodies.error: COUNT}


@pytest.mark.parametrize("kind", BLOCKS)
async def test_a_cancellation_from_outside_is_never_swallowed(
    store: MemoryStore, tide: Coordinator, awaits: Awaits, kind: str
) -> None:
    """Whoever is cancelled while the losses come, before, during or after its own, ends as cancelled."""
    bodies = Bodies(tide, kind, lambda: plain(awaits["unary"]))
    await bodies.entered()
    taken = asyncio.create_task(take_away(store))
    cancelled = 0
    for task in bodies.tasks:
        await asyncio.sleep(0)
        # False if it has ended already.
        cancelled += task.cancel()
    await taken
    assert cancelled > 0
    assert (await bodies.ends())[asyncio.CancelledError] == cancelled


async def test_decorated_functions(store: MemoryStore, tide: Coordinator, awaits: Awaits) -> None:
    """`@locked` raises the loss of its lock while a grpc.aio call is awaited; `@while_leader` begins again."""
    terms: list[int] = []

    @tideover.locked("job")
    async def work() -> None:
        await awaits["unary"]()

    @tideover.while_leader("reaper", ttl=5)
    async def reap() -> str:
        terms.append(len(terms))
        if len(terms) < 2:
            await awaits["unary"]()
        return "done"

    tasks = [asyncio.create_task(work()), asyncio.create_task(reap())]
    with anyio.fail_after(20):
        while not (terms and tide.status().locks):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        await take_away(store)
        with pytest.raises(LockLost):
            await tasks[0]
        assert await tasks[1] == "done"
