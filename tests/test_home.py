"""One event loop: whoever calls from another one is refused, and harms nobody; and background tasks that fail."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

import tideover
from tests.entries import ENTRIES, OTHERS, Things, found_entries, things, with_lock
from tests.support import connected, mock_trio
from tideover import (
    Closed,
    Coordinator,
    LeadershipLost,
    LockLost,
    NotFollowed,
    TideoverError,
    WrongLoop,
    connect,
    with_config,
)
from tideover.elections.candidacy import Candidacy
from tideover.elections.record import ElectionRecord
from tideover.home import Home
from tideover.owner_task import OwnerTask
from tideover.request_record import current_coordinator
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio

CALLS = {**ENTRIES, **OTHERS}


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, as servers do."""
    return "asyncio"


def open_one() -> Coordinator:
    """Return a coordinator on a fake cluster, to be entered."""
    return connect(store=MemoryStore(), cache_dir=False)


def refusal_of(call: Callable[[], Awaitable[object]]) -> str:
    """Make a call in an event loop of this thread; return how it was refused."""

    async def make() -> str:
        try:
            with anyio.fail_after(10):
                returned = await call()
        except TideoverError as exc:
            return f"{type(exc).__name__}: {exc}"
        return f"returned {returned!r}"

    return asyncio.run(make())


# One loop -------------------------------------------------------------------------------------------------------


def test_no_entry_is_missing() -> None:
    """Every public method that may wait is in the table that the tests below go through."""
    assert found_entries() == {*ENTRIES, "Coordinator.__aenter__"}


@pytest.mark.parametrize("name", CALLS)
async def test_another_loop_is_refused(name: str) -> None:
    """Each entry raises at once in another event loop, names both loops and the remedy, and harms nothing."""
    async with open_one() as tide, things(tide) as opened:
        here = f"event loop {type(asyncio.get_running_loop()).__name__} at {id(asyncio.get_running_loop()):#x}"
        said = await anyio.to_thread.run_sync(refusal_of, lambda: CALLS[name](opened))
        assert said.startswith("WrongLoop: ")
        assert re.search(r"is used in event loop \w+ at 0x[0-9a-f]+ of thread 'AnyIO worker thread'", said)
        assert f"belongs to {here} of thread 'MainThread'" in said
        assert "anyio.from_thread.run" in said
        await in_order(opened)


async def test_a_trio_loop_is_refused() -> None:
    """The other loop may be trio's, and the coordinator's too."""
    async with open_one() as tide, things(tide) as opened:

        async def call() -> None:
            with pytest.raises(WrongLoop, match="of thread"):
                await opened.session.put("foreign")

        await anyio.to_thread.run_sync(trio.run, call)
        await in_order(opened)


async def test_no_loop_is_refused() -> None:
    """A coroutine that is driven by hand in a thread without an event loop is refused as well."""
    async with open_one() as tide:

        def call() -> None:
            with pytest.raises(WrongLoop, match="where no event loop runs"):
                tide.config.put("a", 1).send(None)
            with pytest.raises(WrongLoop, match="where no event loop runs"):
                tide._parts.registrations.start(tideover.Registration("api", "http://127.0.0.1:1"))

        await anyio.to_thread.run_sync(call)


async def in_order(opened: Things) -> None:
    """See that all is as before: held, led, registered, and nothing was started again."""
    tide = opened.tide
    opened.held.check()
    opened.session.check()
    opened.term.check()
    assert opened.registered.registered
    assert not opened.own.gone
    assert tide.status().restarts == 0
    assert tide.config.get("foreign", default="none") == "none"
    async with tide.lock("another", timeout=5):
        await tide.config.put("written", 1)


async def test_sixteen_loops_in_sixteen_threads() -> None:
    """1,000 rounds of every entry from sixteen loops at once: each call refused, nobody else's fails."""
    begin, rounds = threading.Barrier(16), 63
    async with open_one() as tide, things(tide) as opened:

        async def call_all() -> int:
            refused = 0
            for _ in range(rounds):
                for call in CALLS.values():
                    with pytest.raises(WrongLoop):
                        await call(opened)
                    refused += 1
            return refused

        def run() -> int:
            begin.wait(30)
            return asyncio.run(call_all())

        with ThreadPoolExecutor(16) as pool:
            calls = [asyncio.wrap_future(pool.submit(run)) for _ in range(16)]
            served = 0
            while not all(call.done() for call in calls):
                await in_order(opened)
                served += 1
                await anyio.lowlevel.checkpoint()
        assert [call.result() for call in calls] == [rounds * len(CALLS)] * 16
        assert served > 0
        await in_order(opened)


async def test_the_remedy_works() -> None:
    """From a worker thread of the loop `anyio.from_thread.run` does what was refused."""
    async with open_one() as tide:
        token = current_coordinator.set(tide)

        def endpoint() -> str:
            anyio.from_thread.run(with_lock)
            anyio.from_thread.run(tide.config.put, "key", "new")
            return tide.config.get("key")

        assert await anyio.to_thread.run_sync(endpoint) == "new"
        current_coordinator.reset(token)


@with_config(rate="rate")
async def priced(*, rate: int = 1) -> int:
    """Use a setting."""
    return rate


async def test_reads_are_of_any_loop() -> None:
    """What does not wait is as good in another event loop: reads, injected settings, picks, checks."""
    async with open_one() as tide, things(tide) as opened:
        await tide.config.put("rate", 7)

        async def read() -> tuple[object, ...]:
            opened.held.check()
            opened.session.check()
            opened.term.check()
            return tide.config.get("rate", int), await priced(), opened.view.pick().url, tide.status().restarts

        seen = await anyio.to_thread.run_sync(lambda: asyncio.run(read()))
        assert seen == (7, 7, "http://127.0.0.1:8000", 0)


async def test_a_thread_may_find_out_first() -> None:
    """A `check` in a worker thread that finds the lock lost ends the body in its event loop, at its next await."""
    store = MemoryStore()
    async with connect(store=store, cache_dir=False) as tide:
        with pytest.raises(LockLost):
            async with tide.lock("orders", timeout=5) as held:
                grant = held._grant
                assert grant.place is not None
                grant.place.session._tenure._lease = grant.place.session._tenure._lease.ended("taken away")

                def check() -> None:
                    with pytest.raises(LockLost, match="taken away"):
                        held.check()

                await anyio.to_thread.run_sync(check)
                await anyio.sleep(10)
                raise AssertionError("the body went on")
        assert tide.status().restarts == 0


async def test_a_forked_child_hears_of_the_fork() -> None:
    """What is refused in a forked child names the fork and not the event loop, which is another one there, too."""
    async with open_one() as tide, things(tide) as opened:
        tasks = tide._parts.client.home._tasks
        assert tasks is not None
        tide._parts.client.home.poison("forked")
        for name, call in CALLS.items():
            # A notice knows its event loop only, which a child never has. Leaving the whole does nothing there.
            if not name.startswith("Notice.") and name != "Coordinator.__aexit__":
                with pytest.raises(Closed, match="forked"):
                    await call(opened)
        tide._parts.client.home._refusal = None
        tide._parts.client.home.open(tasks)


# No end by accident ---------------------------------------------------------------------------------------------


class Failing:
    """Fails so many times, then does something else.

    Args:
        times: How often.
        then: What else.
    """

    def __init__(self, times: int, then: Callable[..., Awaitable[object]]) -> None:
        self.left = times
        self._then = then

    async def __call__(self, *args: Any) -> object:
        """Fail, or not."""
        if self.left:
            self.left -= 1
            raise ZeroDivisionError("our own")
        return await self._then(*args)


@pytest.mark.parametrize("anyio_backend", [mock_trio()], ids=["mock"])
async def test_a_task_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    """A task that fails is one log line with its traceback, a count, and another start, until it is done."""
    home = Home(chance=lambda: 1.0, monotonic=trio.current_time)
    done = anyio.Event()

    async def work(event: anyio.Event) -> None:
        event.set()

    async with anyio.create_task_group() as tasks:
        home.enter()
        home.open(tasks)
        assert home.start("write x", Failing(3, work), done)
        await done.wait()
        # 0.1 + 0.2 + 0.4 s of backoff.
        assert trio.current_time() == pytest.approx(0.7)
    assert home.restarts == 3
    lines = [record for record in caplog.records if "'write x' failed unexpectedly" in record.getMessage()]
    assert len(lines) == 1
    assert "ZeroDivisionError: our own" in str(lines[0].exc_text)
    assert lines[0].levelno == logging.ERROR
    home.close()
    assert not home.start("write x", work, done)


@pytest.mark.parametrize("anyio_backend", ["asyncio", mock_trio()], ids=["asyncio", "mock"])
@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, SystemExit])
async def test_a_stray_cancellation_is_a_failure(error: type[BaseException], anyio_backend_name: str) -> None:
    """A task that ends with a cancellation of nobody's is started again; the end of the process is left alone."""
    home, raised = Home(chance=lambda: 0.0, monotonic=anyio.current_time), [error]

    async def work() -> None:
        if raised:
            raise raised.pop()

    if error is asyncio.CancelledError:
        await home._run("write x", False, work)
        assert home.restarts == 1
    else:
        with pytest.raises(error):
            await home._run("write x", False, work)
    with anyio.move_on_after(0.01) as scope:
        await home._run("write x", False, anyio.sleep_forever)
    assert scope.cancelled_caught


@pytest.mark.parametrize("anyio_backend", ["asyncio", mock_trio()], ids=["asyncio", "mock"])
async def test_what_ended_the_group_is_raised_where_it_is_closed() -> None:
    """An owner that died of what is no `Exception` says so when it is closed."""

    class Panic(BaseException):
        pass

    async def work() -> None:
        raise Panic

    owner = OwnerTask()
    (await owner.open()).start_soon(work)
    await anyio.sleep(0.01)
    with pytest.raises(BaseExceptionGroup) as caught:
        await owner.aclose()
    assert caught.group_contains(Panic)


def faults(tide: Coordinator) -> dict[str, tuple[object, str]]:
    """Return what can be made to fail, by what runs it: helpers of bodies, of the coordinator, and at the end."""
    return {
        "registration": (tide._parts.registrations._keeper, "_write_out"),
        "locks": (tide._parts.locks._ledger, "look"),
        "discovery": (tide._parts.discovery, "_run"),
        "sessions": (tide._parts.sessions._renewer, "_renew"),
    }


@pytest.mark.parametrize("anyio_backend", [mock_trio()], ids=["mock"])
@pytest.mark.parametrize("which", ["registration", "locks", "discovery", "sessions"])
async def test_no_helper_ends_the_body(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error in any helper task costs a moment: the body goes on, and the helper's work is done."""
    async with connected(MemoryStore()) as tide:
        owner, method = faults(tide)[which]
        failing = Failing(2, getattr(owner, method))
        monkeypatch.setattr(owner, method, failing)
        async with tide.lock("a", timeout=5) as held, tide.register("api", "http://127.0.0.1:1") as here:
            assert await tide.discover("api").wait_for(1, timeout=60)
            await anyio.sleep(120)
            held.check()
            assert here.registered
            here.begin_deregistering()
            await anyio.sleep(120)
        assert failing.left == 0
        assert tide.status().restarts == 2
        assert not tide.status().registrations


@pytest.mark.parametrize("anyio_backend", [mock_trio()], ids=["mock"])
@pytest.mark.parametrize("helper", ["report", "record", "body"])
async def test_no_helper_ends_a_leader(helper: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader's helpers that fail are started again: its body goes on, and still ends when it is lost."""
    owner, method = {
        "report": (Candidacy, "_report"),
        "record": (ElectionRecord, "_expire"),
        "body": (ElectionRecord, "left"),
    }[helper]
    real, fails = inspect.getattr_static(owner, method), [0]
    call: Any = real.fget if isinstance(real, property) else real

    def failing(*args: Any) -> Any:
        if fails[0]:
            fails[0] -= 1
            raise ZeroDivisionError
        return call(*args)

    monkeypatch.setattr(owner, method, property(failing) if isinstance(real, property) else failing)
    store = MemoryStore()
    async with connected(store) as tide:
        fails[0] = 2 if helper == "report" else 0
        with pytest.raises(LeadershipLost):
            async with tide.leader("boss", ttl=6) as term:
                if helper != "report":
                    fails[0] = 2
                await anyio.sleep(60)
                term.check()
                assert fails == [0]
                # Two tasks of one record that fail in one moment are one start.
                assert 1 <= tide.status().restarts <= 2
                store.down = set(store.members)
                store.touch()
                await anyio.sleep(600)
                raise AssertionError("the body outlived its leadership")


@pytest.mark.parametrize("follow", ["discover", "follow_leader"])
async def test_a_worker_thread_of_another_event_loop_starts_nothing_here(
    follow: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is not followed yet is refused there, as in any strange thread; one of this event loop begins it."""

    async def elsewhere() -> None:
        await anyio.to_thread.run_sync(getattr(tide, follow), "billing")

    async with open_one() as tide, tide.leader("reaper") as term:
        with pytest.raises(NotFollowed, match="this thread cannot see to it"):
            await anyio.to_thread.run_sync(anyio.run, elsewhere)
        await anyio.to_thread.run_sync(getattr(tide, follow), "billing")
        await elsewhere()  # it is followed by now
        await anyio.to_thread.run_sync(anyio.run, elsewhere)
        assert term.leads
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []
