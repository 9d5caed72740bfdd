"""Concurrent reads of single keys: joined, and yet each as if made alone."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from tests.support import connected
from tideover import CircuitOpen, DeadlineExceeded, HealthState, PermissionDenied, Reading
from tideover.coordinator import Coordinator
from tideover.etcd.store import Op, Put, Range, ReadBatch, Result
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio


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


async def test_read_your_own_writes() -> None:
    """A read made after a write never joins a transaction sent before it."""
    store = MemoryStore()
    store.delay = 0.05
    async with connected(store, follow=("x/",), start_timeout=5) as tide:
        await tide.config.put("a", 0)
        async with anyio.create_task_group() as tasks:
            for n in range(1, 20):
                tasks.start_soon(tide.config.fetch, "a")
                await tide.config.put("a", n)
                assert (await tide.config.fetch("a", int)).value == n


async def test_a_cancelled_reader_harms_nobody() -> None:
    """Readers cancelled at any moment leave the others their answers."""
    store = MemoryStore()
    store.delay = 0.1
    async with connected(store, follow=("x/",), start_timeout=5) as tide:
        await tide.config.put("a", 1)
        for patience in (0.0, 0.05, 0.15):
            async with anyio.create_task_group() as tasks:
                with anyio.move_on_after(patience):
                    tasks.start_soon(tide.config.fetch, "a")
                    await tide.config.fetch("b")
            assert (await tide.config.fetch("a")).value == "1"


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
