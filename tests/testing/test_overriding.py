"""`overriding`: other values for one block, wherever configuration is read, and nothing of them afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import anyio
import anyio.to_thread
import pytest

from tests.support import connected, mock_trio, request
from tideover import (
    Closed,
    ConfigKeyError,
    ConfigValueError,
    InvalidRequest,
    NotFollowed,
    Source,
    StalenessLimit,
    TooStale,
    connect,
    with_config,
)
from tideover.coordinator.coordinator import Coordinator
from tideover.testing import MemoryStore, declare_outage, overriding

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()


@dataclass(frozen=True)
class Payments:
    """Settings."""

    timeout: float = 2.0
    hosts: tuple[str, ...] = ()


async def test_every_read_sees_it_and_says_so() -> None:
    """Within the block all ways of reading give the block's value, marked as such; after it etcd's."""

    @with_config(timeout="payments/timeout")
    def injected(*, timeout: float = 0.0) -> float:
        return timeout

    store = MemoryStore(values={"payments/timeout": 1.5})
    async with connected(store) as tide:
        live = tide.config.bind(Payments, prefix="payments/")
        before = tide.config.read("payments/timeout", float)
        with overriding(
            tide, {"payments/timeout": 0.1, "payments/hosts": ["a", "b"], "absent": timedelta(seconds=3)}
        ):
            assert tide.config.get("payments/timeout", float) == injected() == 0.1
            assert (await tide.config.fetch("payments/timeout", float)).source is Source.OVERRIDE
            assert live.value == Payments(0.1, ("a", "b"))
            reading = tide.config.read("absent", timedelta)
            assert (reading.value, reading.present, reading.source) == (
                timedelta(seconds=3),
                True,
                Source.OVERRIDE,
            )
            assert (reading.stale, reading.age, reading.rejected) == (False, 0.0, None)
        after = tide.config.read("payments/timeout", float)
        assert (after.value, after.source, after.revision) == (1.5, Source.LIVE, before.revision)
        assert injected() == 1.5
        assert live.value == Payments(1.5)
        with pytest.raises(ConfigKeyError):
            tide.config.get("absent")


async def test_blocks_nest_and_end_with_an_exception() -> None:
    """The innermost block that has a key decides, and each is put back however it ends."""
    async with connected(MemoryStore(values={"a": "etcd", "b": "etcd"})) as tide:

        def seen() -> tuple[str, str]:
            return tide.config.get("a"), tide.config.get("b")

        with overriding(tide, {"a": "outer", "b": "outer"}):
            with pytest.raises(ZeroDivisionError), overriding(tide, {"a": "inner"}):
                assert seen() == ("inner", "outer")
                raise ZeroDivisionError
            assert seen() == ("outer", "outer")
        assert seen() == ("etcd", "etcd")
        with overriding(tide, {}):
            assert seen() == ("etcd", "etcd")


async def test_followers_hear_of_the_beginning_and_the_end() -> None:
    """`changes()` tells what reads give: the block's value, then etcd's newest, and nothing hidden meanwhile."""
    async with connected(MemoryStore(values={"a": "1"})) as tide:
        changes = tide.config.changes()
        with overriding(tide, {"a": "2", "new": "x"}):
            told = {(change := await anext(changes)).key: change.value for _ in range(2)}
            assert told == {"a": "2", "new": "x"}
            await tide.config.put("a", "3")
            assert tide.config.get("a") == "2"
            await tide.config.put("other", "y")
            assert (await anext(changes)).key == "other"
        told = {(change := await anext(changes)).key: change.value for _ in range(2)}
        assert told == {"a": "3", "new": None}
        assert tide.config.get("a") == "3"


async def test_a_settings_object_sees_the_values_of_a_block_together(caplog: pytest.LogCaptureFixture) -> None:
    """What only fits together is not refused in between, at the block's beginning or end."""

    def fits(payments: Payments) -> None:
        assert payments.timeout == len(payments.hosts)

    async with connected(MemoryStore(values={"p/timeout": 1, "p/hosts": ["a"]})) as tide:
        live = tide.config.bind(Payments, prefix="p/", validate=fits)
        with overriding(tide, {"p/timeout": 2, "p/hosts": ["a", "b"]}):
            assert live.value == Payments(2.0, ("a", "b"))
        assert live.value == Payments(1.0, ("a",))
    assert "rejected" not in caplog.text


async def test_a_bad_value_is_refused_and_spoils_nothing() -> None:
    """What cannot be decoded is an error or the default, bound settings stay, and afterwards all is as before."""
    async with connected(MemoryStore(values={"payments/timeout": 1.5})) as tide:
        live = tide.config.bind(Payments, prefix="payments/")
        tide.config.get("payments/timeout", float)
        with overriding(tide, {"payments/timeout": "soon"}):
            with pytest.raises(ConfigValueError):
                tide.config.get("payments/timeout", float)
            reading = tide.config.read("payments/timeout", float, default=9.0)
            assert (reading.value, reading.source, reading.rejected) == (9.0, Source.DEFAULT, tide_revision(tide))
            assert live.value == Payments(1.5)
            assert live.rejection is not None
        assert tide.config.get("payments/timeout", float) == 1.5
        assert live.rejection is None
        assert tide.status().rejected == ()


async def test_nothing_of_a_block_is_served_after_it_though_etcd_has_a_refused_value() -> None:
    """Bound settings go back to what they were before the block, a last good object or the want of one."""
    async with connected(MemoryStore(values={"p/timeout": 1.5})) as tide:
        before = tide.config.bind(Payments, prefix="p/")
        revision = before.revision
        await tide.config.put("p/timeout", "soon")
        with (
            overriding(tide, {"other": 1}),
            overriding(tide, {"p/timeout": 3}),
            overriding(tide, {"p/timeout": 4}),
        ):
            within = tide.config.bind(Payments, prefix="p/")
            instead = tide.config.bind(Payments, prefix="p/", on_invalid="default")
            assert [live.value.timeout for live in (before, within, instead)] == [4.0, 4.0, 4.0]
            await tide.config.put("p/hosts", ["a"])
            assert before.value.hosts == ("a",)
        assert (before.value, before.revision) == (Payments(1.5), revision)
        assert before.rejection is not None
        assert instead.value == Payments(2.0, ("a",))
        with pytest.raises(ConfigValueError, match="timeout"):
            within.value  # noqa: B018
        assert "at revision 0, newer refused" in repr(within)
        await tide.config.put("p/timeout", 5)
        assert before.value == within.value == instead.value == Payments(5.0, ("a",))
        await tide.config.put("p/timeout", "later")
        assert before.value == within.value == Payments(5.0, ("a",))


def tide_revision(tide: Coordinator) -> int:
    """Return the revision that the configuration has reached."""
    return tide.status().config[0].revision


async def test_it_is_not_degraded_in_an_outage() -> None:
    """With etcd away the block's values are no stale ones: no mark, no limit, no metric of a degraded read."""
    limits = {"": StalenessLimit(max_stale=1, on_stale="raise")}
    async with connected(MemoryStore(values={"a": 1, "p/timeout": 1.5}), limits=limits) as tide:
        live = tide.config.bind(Payments, prefix="p/")
        async with declare_outage(tide):
            await anyio.sleep(10)
            with request() as record, overriding(tide, {"a": 2, "p/timeout": 2.5}):
                assert tide.config.get("a", int) == 2
                assert live.value == Payments(2.5)
                assert not record.marks
            with request() as record, overriding(tide, {"b": 2}):
                with pytest.raises(TooStale):
                    tide.config.get("a", int)
                assert not record.marks
        counts = tide._life.instruments.observe_reads()
        assert counts["override", False] == 2
        assert ("override", True) not in counts


async def test_only_what_can_be_stored_and_named() -> None:
    """A value that `put` refuses is refused, as are keys that are none, and coordinators that are not open."""
    async with connected(MemoryStore(), follow=("a/",)) as tide:
        with pytest.raises(TypeError, match="cannot store a object"), overriding(tide, {"a/x": object()}):
            pass
        with pytest.raises(InvalidRequest), overriding(tide, {"/config/a/x": 1}):
            pass
        with overriding(tide, {"a/x": b"\xff", "elsewhere": "here"}):
            assert tide.config.get("a/x", bytes) == b"\xff"
            assert (await tide.config.fetch("elsewhere")).value == "here"
            with pytest.raises(NotFollowed):  # as it is without a test
                tide.config.get("elsewhere")
    with pytest.raises(Closed), overriding(tide, {"a/x": 1}):
        pass


@pytest.fixture
def elsewhere() -> Iterator[tuple[Coordinator, anyio.from_thread.BlockingPortal]]:
    """A coordinator in an event loop of another thread, as under a test client."""
    store = MemoryStore(values={"a": "1"})
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(connect(store=store)) as tide,
    ):
        yield tide, portal


def test_in_another_thread(elsewhere: tuple[Coordinator, anyio.from_thread.BlockingPortal]) -> None:
    """The loop of another thread has the values before the block begins, and none when it is over."""
    tide, portal = elsewhere
    threads: set[int] = set()

    async def follow() -> None:
        async for change in tide.config.changes():
            threads.add(threading.get_ident())
            if change.value == "end":
                return

    def inside() -> str:
        with overriding(tide, {"a": "2"}):
            return tide.config.get("a")

    following = portal.start_task_soon(follow)
    portal.call(anyio.sleep, 0)
    with overriding(tide, {"a": "2"}):
        assert tide.config.get("a") == "2"
    assert tide.config.get("a") == "1"
    assert portal.call(anyio.to_thread.run_sync, inside) == "2"
    with overriding(tide, {"a": "end"}):
        following.result(5)
    assert threads
    assert threading.get_ident() not in threads


def test_a_block_that_could_not_begin_begins_at_no_later_time(
    elsewhere: tuple[Coordinator, anyio.from_thread.BlockingPortal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that is blocked is told of, and finds no values and no outage when it goes on; ends come late."""
    tide, portal = elsewhere
    monkeypatch.setattr("tideover.home._PATIENCE", 0.05)

    def blocked() -> threading.Event:
        begun, go_on = threading.Event(), threading.Event()

        async def block() -> None:
            begun.set()
            go_on.wait(10)

        portal.start_task_soon(block)
        begun.wait(10)
        return go_on

    go_on = blocked()
    with pytest.raises(TimeoutError, match="is blocked"), overriding(tide, {"a": "2"}):
        pass
    with pytest.raises(TimeoutError, match="is blocked"):
        declare_outage(tide)
    go_on.set()
    portal.call(anyio.sleep, 0)
    assert (tide.config.get("a"), tide.health.state) == ("1", "available")

    with pytest.raises(TimeoutError, match="is blocked"), overriding(tide, {"a": "2"}):
        go_on = blocked()
    go_on.set()
    portal.call(anyio.sleep, 0)
    assert tide.config.get("a") == "1"
