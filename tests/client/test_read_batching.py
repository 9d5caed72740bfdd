"""Concurrent reads of single keys: joined, and yet each as if made alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import anyio.lowlevel
import pytest

from tests.support import connected, mock_clock
from tideover import (
    CircuitOpen,
    Closed,
    DeadlineExceeded,
    HealthState,
    InvalidRequest,
    PermissionDenied,
    Reading,
    Unavailable,
)
from tideover.client.gateway import Gateway
from tideover.client.read_batching import Coalescer
from tideover.cluster.state import ClusterState
from tideover.coordinator.coordinator import Coordinator
from tideover.policies import RetryPolicy
from tideover.store.operations import Op, Put, Range, ReadBatch, Result
from tideover.testing import FaultyStore, MemoryStore
from tideover.types import Entry

R = TypeVar("R", bound=Result)

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def coalescing(store: MemoryStore) -> AsyncIterator[Coalescer]:
    """Run a coalescer on a store, with nobody beside it who would declare an outage."""
    cluster = ClusterState(store.members, clock=mock_clock(), active=store.members[0], random=lambda: 0.5)
    policy = RetryPolicy()
    gateway = Gateway(cluster, policy=policy, namespace="")
    gateway.connect(store)
    coalescer = Coalescer(gateway, policy=policy)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(coalescer.run)
        await anyio.wait_all_tasks_blocked()
        yield coalescer
        tasks.cancel_scope.cancel()


async def fetch_all(tide: Coordinator, keys: Sequence[str]) -> dict[str, Reading[str | None] | Exception]:
    """Fetch all keys at the same moment."""
    outcomes: dict[str, Reading[str | None] | Exception] = {}

    async def fetch(key: str) -> None:
        try:
            outcomes[key] = await tide.config.fetch(key)
        except Exception as exc:
            outcomes[key] = exc

    async with anyio.create_task_group() as tasks:
        for key in keys:
            tasks.start_soon(fetch, key)
    return outcomes


def reads(store: MemoryStore) -> list[ReadBatch | Range]:
    """Return the reads of single keys that reached the cluster, alone or together; not the monitor's."""
    return [
        op
        for _, op in store.calls
        if isinstance(op, ReadBatch) or (isinstance(op, Range) and op.end is None and not op.limit)
    ]


async def test_a_thousand_reads_are_eight_transactions() -> None:
    """1,000 concurrent reads make 8 transactions of at most 128, and each gets its own key's value."""
    store = MemoryStore()
    async with connected(store, follow=("x/",)) as tide:
        for n in range(1000):
            await tide.config.put(f"k{n}", n)
        store.calls.clear()
        outcomes = await fetch_all(tide, [f"k{n}" for n in range(1000)])
        assert all(isinstance(r, Reading) and r.value == k[1:] for k, r in outcomes.items())
        sent = reads(store)
        assert len(sent) == 8
        assert all(isinstance(op, ReadBatch) and len(op.keys) <= 128 for op in sent)


async def test_a_single_read_is_no_transaction() -> None:
    """A read that is alone is sent as a plain range."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.put("a", 1)
        await anyio.sleep(1)
        store.calls.clear()
        await tide.config.fetch("a")
        assert [type(op) for op in reads(store)] == [Range]


async def test_reads_of_one_key_are_asked_once() -> None:
    """Fifty readers of one key and one of another are two reads in one transaction."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.put("a", 1)
        store.calls.clear()
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(tide.config.fetch, "a")
            tasks.start_soon(tide.config.fetch, "b")
        (batch,) = reads(store)
        assert isinstance(batch, ReadBatch)
        assert sorted(batch.keys) == [b"/config/a", b"/config/b"]


async def test_one_refusal_is_not_anothers() -> None:
    """A transaction refused for one key is repeated key by key: only that key's reader is refused."""
    memory = MemoryStore()
    store = FaultyStore(memory)

    def secret(op: Op[Result]) -> bool:
        return b"/config/secret" in (op.keys if isinstance(op, ReadBatch) else (getattr(op, "key", b""),))

    async with connected(store, follow=("x/",)) as tide:
        await tide.config.put("a", 1)
        store.inject("PERMISSION_DENIED", "etcdserver: permission denied", when=secret, times=2)
        outcomes = await fetch_all(tide, ["a", "b", "secret"])
    assert isinstance(outcomes["secret"], PermissionDenied)
    assert isinstance(outcomes["a"], Reading)
    assert outcomes["a"].value == "1"
    assert isinstance(outcomes["b"], Reading)
    assert not outcomes["b"].present


@pytest.mark.parametrize("bad", [b"", b"k" * 2_200_000])
async def test_one_impossible_key_fails_alone(bad: bytes) -> None:
    """A transaction refused for an empty or a far too long key is repeated: the other readers are answered."""
    store = MemoryStore()
    async with connected(store, follow=("x/",)) as tide:
        await tide.config.put("a", 1)
        outcomes: dict[bytes, object] = {}

        async def read(key: bytes) -> None:
            try:
                outcomes[key] = (await tide._parts.coalescer.read(key))[0]
            except InvalidRequest as exc:
                outcomes[key] = exc

        async with anyio.create_task_group() as tasks:
            for key in (b"/config/a", bad, b"/config/b", bad):
                tasks.start_soon(read, key)
        assert isinstance(outcomes[b"/config/a"], Entry)
        assert outcomes[b"/config/b"] is None
        assert isinstance(outcomes[bad], InvalidRequest)


async def test_an_unexpected_error_reaches_the_readers() -> None:
    """A store that breaks its contract breaks the reads it was asked for, and not those that come after."""

    class BrokenStore(MemoryStore):
        broken = True

        async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
            if self.broken and isinstance(op, ReadBatch):
                raise ZeroDivisionError
            return await super().call(op, member=member, timeout=timeout)

    store = BrokenStore()
    async with connected(store, follow=("x/",)) as tide:
        outcomes = await fetch_all(tide, ["a", "b"])
        assert [type(outcome) for outcome in outcomes.values()] == [ZeroDivisionError] * 2
        store.broken = False
        outcomes = await fetch_all(tide, ["a", "b"])
        assert all(isinstance(outcome, Reading) for outcome in outcomes.values())


async def test_readers_of_a_coordinator_that_closes_are_told() -> None:
    """A read under way when its coordinator closes ends with `Closed`, at once."""
    store = MemoryStore()
    outcome: list[object] = []
    async with anyio.create_task_group() as tasks:
        async with connected(store, follow=("x/",)) as tide:
            store.frozen = set(store.members)

            async def fetch() -> None:
                with pytest.raises(Closed):
                    await tide.config.fetch("a")
                outcome.append(anyio.current_time())

            tasks.start_soon(fetch)
            await anyio.sleep(0.01)
            closing = anyio.current_time()
    assert outcome == [closing]


class SlowAnswers(MemoryStore):
    """Reads as soon as it is asked, and answers late: whoever joins a read under way gets what was before."""

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Answer reads of the key late."""
        result = await super().call(op, member=member, timeout=timeout)
        if b"/config/a" in (op.keys if isinstance(op, ReadBatch) else (getattr(op, "key", b""),)):
            await anyio.sleep(0 if op.writes else 0.1)
        return result


async def test_read_your_own_writes() -> None:
    """A read made after a write never joins a transaction sent before it, however long that takes."""
    store = SlowAnswers()
    async with connected(store, follow=("x/",)) as tide:
        await tide.config.put("a", 0)
        async with anyio.create_task_group() as tasks:
            for n in range(1, 20):
                for _ in range(2):
                    tasks.start_soon(tide.config.fetch, "a")
                    tasks.start_soon(tide.config.fetch, "b")
                    await anyio.sleep(0.01)
                await tide.config.put("a", n)
                assert (await tide.config.fetch("a", int)).value == n


async def test_a_reader_cancelled_at_any_moment_harms_nobody() -> None:
    """Whenever a reader is cancelled, the one beside it gets its answer, and the cancelled one gets none."""
    store = MemoryStore()
    store.delay = 0.1
    async with connected(store, follow=("x/",), start_timeout=5) as tide:
        await tide.config.put("a", 1)
        for patience in (0.0, 0.05, 0.099, 0.15):
            outcomes: dict[str, Reading[str | None]] = {}

            async def fetch(key: str, outcomes: dict[str, Reading[str | None]] = outcomes) -> None:
                outcomes[key] = await tide.config.fetch(key)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fetch, "a")
                with anyio.move_on_after(patience):
                    await fetch("b")
            assert outcomes["a"].value == "1"
            assert ("b" in outcomes) is (patience > store.delay)


@pytest.mark.parametrize("steps", range(12))
async def test_a_reader_cancelled_at_every_await_leaves_nothing(steps: int) -> None:
    """Cancelled after any number of steps, a reader leaves no batch behind, and the next reader is answered."""
    store = MemoryStore()
    async with connected(store, follow=("x/",)) as tide:
        await tide.config.put("a", 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tide.config.fetch, "a")
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert (await tide.config.fetch("a")).value == "1"
        assert repr(tide._parts.coalescer) == "<Coalescer 0 waiting, 0 batches under way>"


async def test_a_call_that_nobody_waits_for_is_given_up() -> None:
    """When the last of a batch's readers is gone, its call is cancelled; not before."""
    store = MemoryStore()
    store.delay = 0.2
    async with connected(store, follow=("x/",), start_timeout=5) as tide:
        await anyio.sleep(1)
        async with anyio.create_task_group() as all_:
            async with anyio.create_task_group() as first:
                all_.start_soon(tide.config.fetch, "a")
                first.start_soon(tide.config.fetch, "b")
                await anyio.sleep(0.1)
                first.cancel_scope.cancel()
            assert repr(tide._parts.coalescer) == "<Coalescer 0 waiting, 1 batches under way>"
            all_.cancel_scope.cancel()
        await anyio.lowlevel.checkpoint()
        assert repr(tide._parts.coalescer) == "<Coalescer 0 waiting, 0 batches under way>"


async def test_a_batch_given_up_before_it_is_sent_is_not_sent() -> None:
    """Readers who leave at once cost no packet, and a reader who comes then does not join what was given up."""
    store = MemoryStore()
    async with connected(store, follow=("x/",)) as tide:
        await anyio.sleep(1)
        store.calls.clear()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await tide.config.fetch("a")
        assert (await tide.config.fetch("b")).present is False
        assert [op.key for op in reads(store) if isinstance(op, Range)] == [b"/config/b"]
        assert len(reads(store)) == 1


async def test_readers_of_different_patience_are_not_held_by_each_other() -> None:
    """Asking at the same moment, each gives up at its own time: the hasty, the usual and the patient one."""
    store = MemoryStore()
    store.frozen = set(store.members)
    ended: dict[float | None, float] = {}
    async with coalescing(store) as coalescer:

        async def read(timeout: float | None) -> None:
            with pytest.raises(Unavailable):
                await coalescer.read(b"a", timeout)
            ended[timeout] = anyio.current_time() - began

        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for timeout in (0.2, None, 60.0, 1.0):
                tasks.start_soon(read, timeout)
    assert ended == {
        0.2: pytest.approx(0.2),
        1.0: pytest.approx(1.0),
        None: pytest.approx(5.0),
        60.0: pytest.approx(60.0),
    }


async def test_a_hasty_reader_shares_the_call_of_the_others() -> None:
    """Readers with a timeout of their own and readers without are one transaction."""
    store = MemoryStore()
    async with coalescing(store) as coalescer:
        async with anyio.create_task_group() as tasks:
            for n, timeout in enumerate((None, 0.5, 5.0, 1.25)):
                tasks.start_soon(coalescer.read, b"%d" % n, timeout)
    assert [type(op) for op in reads(store)] == [ReadBatch]


async def test_a_batch_waits_for_company_while_others_are_under_way() -> None:
    """Beside two that are under way a batch waits to be joined, but not longer than a few milliseconds."""
    store = MemoryStore()
    store.delay = 0.1
    async with coalescing(store) as coalescer, anyio.create_task_group() as tasks:
        for n in range(2):
            tasks.start_soon(coalescer.read, b"%d" % n)
            await anyio.sleep(0.001)
        assert len(reads(store)) == 2
        for n in range(2, 10):
            tasks.start_soon(coalescer.read, b"%d" % n)
            await anyio.sleep(0.0005)
        await anyio.sleep(0.01)
        assert [getattr(op, "keys", None) for op in reads(store)] == [
            None,
            None,
            tuple(b"%d" % n for n in range(2, 10)),
        ]


async def test_each_reader_has_its_own_deadline() -> None:
    """In one transaction that hangs, the impatient reader gives up at its own time, the patient one later."""
    store = MemoryStore()
    async with connected(store, follow=("x/",)) as tide:
        store.frozen = set(store.members)
        ended: dict[float, float] = {}

        async def fetch(timeout: float) -> None:
            began = anyio.current_time()
            with pytest.raises((DeadlineExceeded, CircuitOpen)):
                await tide.config.fetch(f"k{timeout}", timeout=timeout)
            ended[timeout] = anyio.current_time() - began

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fetch, 0.5)
            tasks.start_soon(fetch, 2.0)
        assert ended[0.5] <= 0.501
        assert 0.5 < ended[2.0] <= 2.001


async def test_everybody_hears_of_an_outage() -> None:
    """All readers of a transaction that fails get an error of their own."""
    store = MemoryStore()
    async with connected(store, follow=("x/",)) as tide:
        store.down = set(store.members)
        outcomes = await fetch_all(tide, ["a", "b", "c"])
        assert len({id(outcome) for outcome in outcomes.values()}) == 3
        assert all(isinstance(outcome, Exception) for outcome in outcomes.values())
        store.touch()
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        sent = len(store.calls)
        outcomes = await fetch_all(tide, ["a", "b", "c"])
        assert all(isinstance(outcome, CircuitOpen) for outcome in outcomes.values())
        assert len(store.calls) == sent


async def test_writes_are_not_delayed_by_reads() -> None:
    """A write made beside a thousand reads is sent by itself."""
    store = MemoryStore()
    async with connected(store, follow=("x/",)) as tide:
        async with anyio.create_task_group() as tasks:
            for n in range(1000):
                tasks.start_soon(tide.config.fetch, f"k{n}")
            tasks.start_soon(tide.config.put, "a", 1)
        assert sum(isinstance(op, Put) for _, op in store.calls) == 1
