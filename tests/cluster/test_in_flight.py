"""Calls that wait: a member that answers small questions is slow, one that does not is silent."""

from __future__ import annotations

from typing import TypeVar

import anyio
import pytest

from tests.support import connected
from tideover.errors import OutcomeUnknown
from tideover.store.operations import Op, Put, Range, ReadBatch, Result
from tideover.testing import MemoryStore
from tideover.types import HealthState

pytestmark = pytest.mark.anyio

R = TypeVar("R", bound=Result)


class LongAnswers(MemoryStore):
    """A cluster whose answers about one key, and whose full reads, take long to arrive.

    Attributes:
        long: Seconds they take.
        large: How often they were asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.long = 0.0
        self.large = 0

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt."""
        if self._is_large(op) and self.long:
            self.large += 1
            with anyio.fail_after(timeout):
                await anyio.sleep(self.long)
        return await super().call(op, member=member, timeout=timeout)

    def _is_large(self, op: Op[R]) -> bool:
        match op:
            case Range():
                return op.limit != 1 and (op.end is not None or b"big" in op.key)
            case ReadBatch(keys):
                return any(b"big" in key for key in keys)
            case Put():
                return b"big" in op.key
            case _:
                return False


async def test_a_large_answer_arrives() -> None:
    """A read that takes 20 s to arrive is asked for once, and its answer is the caller's."""
    store = LongAnswers()
    async with connected(store) as tide:
        await tide.config.put("big", "x")
        store.long = 20.0
        reading = await tide.config.fetch("big", timeout=60)
        assert (reading.value, reading.source) == ("x", "quorum")
        assert store.large == 1
        assert tide.health.state is HealthState.AVAILABLE


async def test_a_large_write_arrives() -> None:
    """A write that takes 20 s to be answered, by a member that lives, is not of unknown outcome."""
    store = LongAnswers()
    async with connected(store) as tide:
        store.long = 20.0
        await tide.config.put("big", "x", timeout=30)
        assert store.large == 1


async def test_the_timeout_bounds_all() -> None:
    """A caller's time is the bound, also of what goes on arriving."""
    store = LongAnswers()
    async with connected(store) as tide:
        await tide.config.put("big", "x")
        store.long = 100.0
        began = anyio.current_time()
        await tide.config.fetch("big", timeout=7, default="d")
        assert 6 <= anyio.current_time() - began <= 7
        began = anyio.current_time()
        with pytest.raises(OutcomeUnknown):
            await tide.config.put("big", "y", timeout=7)
        assert anyio.current_time() - began == pytest.approx(7, abs=0.1)


def _freeze(store: MemoryStore, member: str) -> None:
    store.frozen = {member}


@pytest.mark.parametrize("after", [0.0, 5.0, 5.2, 5.55])
async def test_silence_in_the_middle_is_noticed(after: float) -> None:
    """A member that falls silent while a large answer arrives is left within a second and a half."""
    store = LongAnswers()
    async with connected(store) as tide:
        await tide.config.put("big", "x")
        await anyio.sleep(10)
        store.long = 1000.0
        active = tide._parts.client.state.active
        async with anyio.create_task_group() as tasks:

            async def fetch() -> None:
                assert (await tide.config.fetch("big", timeout=60)).source == "quorum"

            tasks.start_soon(fetch)
            await anyio.sleep(after)
            _freeze(store, active)
            store.long = 0.0
            silent = anyio.current_time()
        assert anyio.current_time() - silent < 1.5
        assert tide._parts.client.state.active != active


async def test_a_silent_write_ends_after_two_seconds() -> None:
    """A write to a member that is silent from the start is given up after 2 s, not at the caller's timeout."""
    store = MemoryStore()
    async with connected(store) as tide:
        await anyio.sleep(10)
        _freeze(store, tide._parts.client.state.active)
        began = anyio.current_time()
        with pytest.raises(OutcomeUnknown):
            await tide.config.put("a", "1", timeout=30)
        assert anyio.current_time() - began == pytest.approx(2.0, abs=0.1)


async def test_many_waiting_calls_cost_one_question() -> None:
    """A thousand reads that wait for one member have it asked once at a time, not a thousand times."""
    store = LongAnswers()
    async with connected(store) as tide:
        for n in range(300):
            await tide.config.put(f"big{n}", "x")
        await anyio.sleep(10)
        store.long = 10.0
        store.calls.clear()

        async def fetch(key: str) -> None:
            await tide.config.fetch(key, timeout=60)

        async with anyio.create_task_group() as tasks:
            for n in range(300):
                tasks.start_soon(fetch, f"big{n}")
        probes = [op for _, op in store.calls if isinstance(op, Range) and op.limit == 1]
        # Each of the monitor's rounds asks three members twice.
        assert len(probes) < 10 / 0.3 * 8
