"""The lines of an ordinary outage, as `logging` shows them: few, each with its event's name, and no ERROR."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import anyio
import pytest

from tests.support import connected, request
from tests.telemetry.recording import lose, put, recover
from tests.telemetry.test_reference import table
from tideover import HealthState, LeadershipLost, LockLost, LockUnavailable, SessionLost, TideoverError, telemetry
from tideover.coordinator.coordinator import Coordinator
from tideover.store.operations import Op, Result
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio

ID = re.compile(r"\b[0-9a-f]{14,16}\b")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[logging.LogRecord]]:
    """Return a function that gives what was logged so far."""
    caplog.set_level(logging.INFO, "tideover")
    return lambda: [record for record in caplog.records if record.name == "tideover"]


async def held(tide: Coordinator) -> None:
    """Hold a lock, as long as that goes."""
    try:
        async with tide.lock("orders/42"):
            await anyio.sleep_forever()
    except LockLost:
        pass


async def led(tide: Coordinator) -> None:
    """Lead whenever that is possible."""
    while True:
        try:
            async with tide.leader("reaper"):
                await anyio.sleep_forever()
        except LeadershipLost:
            continue


async def with_a_session(tide: Coordinator) -> None:
    """Keep a session with a key, as long as that goes."""
    try:
        async with tide.session() as session:
            await session.put("rooms/7", b"me")
            await anyio.sleep_forever()
    except SessionLost:
        pass


@pytest.mark.parametrize("profile", ["safety", "availability"])
@pytest.mark.parametrize("down", [2, 3])
async def test_an_ordinary_outage(profile: str, down: int, lines: Callable[[], list[logging.LogRecord]]) -> None:
    """With everything in use, an outage of minutes, and closing in another one: each line begins with an event of
    the reference, none is an ERROR, no lease's id is without what it belongs to, and there are at most 30."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    async with connected(store, profile=profile, discover=["billing"]) as tide:
        async with tide.register("billing", "http://10.0.0.7:8000"), anyio.create_task_group() as tasks:
            for task in (held, led, with_a_session):
                tasks.start_soon(task, tide)
            await anyio.sleep(10)
            lose(store, down)
            await anyio.sleep(60)
            recover(store)
            await put(store, "/config/rate", b"6")
            await anyio.sleep(20)
            lose(store, down)
            await anyio.sleep(20)
            tasks.cancel_scope.cancel()
    found = [(record.levelname, record.getMessage()) for record in lines()]
    known = table("Events")
    for level, text in found:
        name = text.partition(": ")[0]
        assert name in known, text
        assert level in known[name].cells[0], text
        assert level != "ERROR", text
        assert not ID.search(text) or re.search("orders/42|reaper|billing|rooms/7", text), text
    assert len(found) <= 30


async def serve(tide: Coordinator, number: int) -> None:
    """Serve a request: settings, and by turns a lock, a call that may fail, a write, and a read from etcd."""
    with request() as record, suppress(TideoverError):
        tide.config.get("rate", int)
        match number % 4:
            case 0:
                async with tide.lock(f"orders/{number}", timeout=5):
                    pass
            case 1:
                view = tide.discover("billing")
                view.report(view.pick(), number % 7 != 0)
            case 2:
                await tide.config.put("seen", number)
            case _:
                await tide.config.fetch(f"orders/{number}", default="")
    telemetry.finish_request(record)


async def test_requests_write_no_lines(lines: Callable[[], list[logging.LogRecord]]) -> None:
    """Two minutes without etcd under load: what is affected, since when, and what is done, told once each."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    async with (
        connected(store, discover=["billing"]) as tide,
        tide.register("billing", "http://10.0.0.7:8000"),
        anyio.create_task_group() as tasks,
    ):
        tide.job("reaper", anyio.sleep_forever).start()
        await anyio.sleep(10)
        before = len(lines())
        lose(store)
        for number in range(120 * 10):
            tasks.start_soon(serve, tide, number)
            await anyio.sleep(0.1)
        recover(store)
        await anyio.sleep(30)
        told = [each.getMessage() for each in lines()[before:]]
    patterns = [
        r"tideover\.state\.transition: etcd is unavailable: .*; last in sync \d+ s ago; what is known is served",
        r"tideover\.leadership\.change: 'reaper', token \d+: leads no more: it could not be renewed in time",
        r"tideover\.registration\.change: 'billing', 10.0.0.7:8000: unconfirmed: its key stays in etcd as long as",
        r"tideover\.state\.transition: etcd is available again after \d+ min",
        r"tideover\.config\.recovered: read from etcd again after \d+ min",
        r"tideover\.leadership\.change: 'reaper', token \d+: led again",
        r"tideover\.registration\.change: 'billing', 10.0.0.7:8000: confirmed again",
    ]
    assert [pattern for pattern in patterns if not any(re.match(pattern, line) for line in told)] == []
    assert len(told) < 30, "\n".join(told)


async def test_nothing_is_named_twice(lines: Callable[[], list[logging.LogRecord]]) -> None:
    """A lost lock's line names the lock once, and an outage's line each member's error once."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(held, tide)
            await anyio.sleep(1)
            lose(store)
            await tide.health.wait_for(HealthState.UNAVAILABLE)
            await anyio.sleep(20)
    (lost,) = (r.getMessage() for r in lines() if "lock.lost" in r.getMessage())
    assert lost.startswith("tideover.lock.lost: lock 'orders/42' is lost: session ")
    assert lost.count("orders/42") == 1
    (outage,) = (r.getMessage() for r in lines() if "state.transition" in r.getMessage())
    assert outage.count("failed to connect") == 1
    assert all(member in outage for member in store.members)


async def test_what_etcd_would_not_take_is_an_error(lines: Callable[[], list[logging.LogRecord]]) -> None:
    """A ledger that etcd refuses is an ERROR, one that an outage keeps is none."""
    store = FaultyStore(MemoryStore())

    def ledgers(op: Op[Result]) -> bool:
        return "ledger" in repr(op)

    async with connected(store, profile="availability") as tide:
        store.inject("PERMISSION_DENIED", "etcdserver: permission denied", times=1000, when=ledgers)
        inner = store._store
        assert isinstance(inner, MemoryStore)
        lose(inner)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        async with tide.lock("orders"):
            await anyio.sleep(100)
        assert [r for r in lines() if r.levelno >= logging.ERROR] == []
        recover(inner)
        await anyio.sleep(30)
    (error,) = (r.getMessage() for r in lines() if r.levelno >= logging.ERROR)
    assert error.startswith("tideover.lock.ledger: the ledger cannot be published: ")


async def test_the_ledger_outlives_the_lease_it_was_published_under(
    lines: Callable[[], list[logging.LogRecord]],
) -> None:
    """After an outage in which etcd was rebuilt, the ledger is published under a lease of the new history."""
    store = MemoryStore()
    async with connected(store, profile="availability") as tide:
        for n in range(2):
            lose(store)
            await tide.health.wait_for(HealthState.UNAVAILABLE)
            async with tide.lock(f"orders/{n}"):
                pass
            store.rebuild({})
            recover(store)
            await anyio.sleep(30)
            assert any(key.startswith(b"/tideover/ledger/") for key in store._newest)
    assert [r for r in lines() if r.levelno >= logging.ERROR] == []


async def test_a_refusal_without_a_packet_says_when_the_next_probe_is(
    lines: Callable[[], list[logging.LogRecord]],
) -> None:
    """The text of a refusal has the time until the next probe, or that one is under way; never 0.0 s."""
    store = MemoryStore()
    texts = set()
    async with connected(store) as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        for _ in range(300):
            with pytest.raises(LockUnavailable) as refused:
                async with tide.lock("orders"):
                    raise AssertionError
            texts.add(str(refused.value).rpartition("; ")[2])
            await anyio.sleep(0.013)
    assert "it is being probed now" in texts
    assert any(re.fullmatch(r"next probe in 0\.[1-9] s", text) for text in texts)
    assert not any(" 0.0 s" in text for text in texts)


async def test_a_key_in_a_rejection_is_named_once(lines: Callable[[], list[logging.LogRecord]]) -> None:
    """The line about a settings object that is refused names its prefix once."""
    store = MemoryStore()

    @dataclass(frozen=True)
    class Pool:
        size: int = 5

    def check(pool: Pool) -> None:
        if pool.size < 5:
            raise ValueError("too small")

    async with connected(store) as tide:
        live = tide.config.bind(Pool, prefix="pool/", validate=check)
        await put(store, "/config/pool/size", b"1")
        await anyio.sleep(1)
        assert live.value == Pool()
    (text,) = (r.getMessage() for r in lines() if "config.rejected" in r.getMessage())
    assert text.count("pool/") == 1
