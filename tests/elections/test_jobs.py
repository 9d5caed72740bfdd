"""Jobs: what runs while leading, and what becomes of it when it fails. On the mock clock."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tideover
from tests.support import connected
from tideover import (
    Closed,
    Coordinator,
    ElectionMismatch,
    HealthState,
    JobState,
    LeadershipLost,
    Leading,
    while_leader,
)
from tideover.elections.rules.backoff import pause_after
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


async def forever() -> None:
    """Work until cancelled."""
    await anyio.sleep_forever()


def set_down(store: MemoryStore, *, down: bool) -> None:
    """Take all members away, or bring them back."""
    store.down = set(store.members) if down else set()
    store.touch()


# The pause ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_drawn_from_a_second_to_a_growing_limit(failures: int, chance: float) -> None:
    """Each pause lies between 1 s and 2, 4, 8, ... 60 s, all of which can be drawn."""
    most = min(60.0, 2.0 ** min(failures, 6))
    assert pause_after(failures, chance) == pytest.approx(1 + chance * (most - 1))
    assert 1 <= pause_after(failures, chance) <= most


async def test_it_resigns_pauses_and_is_a_candidate_again(caplog: pytest.LogCaptureFixture) -> None:
    """Pauses are full jitter, and longer with each failure in a row, until it has run for a minute."""
    began: list[float] = []
    lengths = iter([0, 0, 0, 0, 0, 0, 0, 90, 0])
    store = MemoryStore()

    async def settle() -> None:
        began.append(anyio.current_time())
        length = next(lengths, None)
        if length is None:
            return
        await anyio.sleep(length)
        raise ZeroDivisionError("secret")

    async with connected(store) as tide:
        assert await tide.run_while_leading("settlement", settle) is None
        pauses = [later - earlier for earlier, later in itertools.pairwise(began)]
        pauses[7] -= 90
        limits = [2, 4, 8, 16, 32, 60, 60, 2, 4]
        assert all(1 <= pause < limit + 0.1 for pause, limit in zip(pauses, limits, strict=True))
        assert len({round(pause, 3) for pause in pauses}) == len(pauses)
        (job,) = tide.status().jobs
    assert (job.state, job.failures, job.again_in) == (JobState.ENDED, 9, None)
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert errors
    assert all(r.exc_info and isinstance(r.exc_info[1], ZeroDivisionError) for r in errors)


async def test_a_healthy_process_takes_over() -> None:
    """The process whose function crashes has it once; then the other one leads, for good."""
    store = MemoryStore()
    crashes = 0
    async with connected(store) as sick, connected(store) as well, anyio.create_task_group() as tasks:

        async def crash() -> None:
            nonlocal crashes
            crashes += 1
            raise ZeroDivisionError

        tasks.start_soon(sick.run_while_leading, "settlement", crash)
        await anyio.sleep(0.5)
        tasks.start_soon(well.run_while_leading, "settlement", forever)
        await anyio.sleep(600)
        assert crashes == 1
        assert [job.state for job in (*sick.status().jobs, *well.status().jobs)] == ["waiting", "leading"]
        tasks.cancel_scope.cancel()


async def test_what_status_shows() -> None:
    """State, failures, class and place of the last error, never its text; also in the sentence and as JSON."""
    async with connected(MemoryStore()) as tide, anyio.create_task_group() as tasks:

        async def settle() -> None:
            await anyio.sleep(5)
            raise ValueError("password=hunter2")

        tasks.start_soon(tide.run_while_leading, "settlement", settle)
        await anyio.sleep(1)
        (job,) = tide.status().jobs
        assert (job.name, job.state, job.failures, job.error) == ("settlement", "leading", 0, None)
        await anyio.sleep(4.5)
        (job,) = tide.status().jobs
        assert (job.state, job.failures) == ("paused", 1)
        assert job.error is not None
        assert job.error.startswith("ValueError at test_jobs.py:")
        assert job.again_in is not None
        assert 0 < job.again_in < 2
        assert "'settlement' has failed (ValueError at" in tide.status().sentence
        assert "hunter2" not in str(tide.status().to_dict())
        await anyio.sleep(2)
        assert tide.status().jobs[0].state == "leading"
        tasks.cancel_scope.cancel()
    assert tide.status().jobs == ()


# Losses, ends, closing ------------------------------------------------------------------------------------------


async def test_a_loss_is_no_failure() -> None:
    """A leadership that is lost ends the function without a count; it runs again when this process leads again."""
    store = MemoryStore()
    runs = 0
    async with connected(store) as tide, anyio.create_task_group() as tasks:

        async def settle() -> None:
            nonlocal runs
            runs += 1
            await anyio.sleep_forever()

        tasks.start_soon(tide.run_while_leading, "settlement", settle)
        await anyio.sleep(1)
        set_down(store, down=True)
        await anyio.sleep(30)
        assert tide.status().jobs[0].state == "waiting"
        set_down(store, down=False)
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(3)
        (job,) = tide.status().jobs
        assert (job.state, job.failures, runs) == ("leading", 0, 2)
        tasks.cancel_scope.cancel()


async def test_a_loss_of_another_election_is_a_failure() -> None:
    """`LeadershipLost` that the function raises for something else is as any other exception."""
    async with connected(MemoryStore()) as tide, anyio.create_task_group() as tasks:

        async def settle() -> None:
            raise LeadershipLost("of another")

        tasks.start_soon(tide.run_while_leading, "settlement", settle)
        await anyio.sleep(0.5)
        assert tide.status().jobs[0].failures == 1
        tasks.cancel_scope.cancel()


async def test_what_returns_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    """The result is returned, the office given up, and the log says that nothing runs any more."""
    caplog.set_level(logging.INFO, "tideover")
    async with connected(MemoryStore()) as tide:

        async def settle() -> str:
            return "settled"

        assert await tide.run_while_leading("settlement", settle) == "settled"
        assert tide.status().jobs[0].state == "ended"
        assert await tide.election("settlement").current() is None
        assert "tideover.job.ended: the job of 'settlement' has returned" in caplog.text
        with anyio.move_on_after(1):
            await tide.run_while_leading("settlement", forever)
        assert tide.status().jobs == ()


@pytest.mark.parametrize("raises", [None, ZeroDivisionError("at the end")])
async def test_closing_cancels_jobs_in_the_background(
    raises: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    """They are cancelled, resign and end before the coordinator is closed; what they raise then is told."""
    store = MemoryStore()
    ended: list[bool] = []
    async with connected(store) as tide:

        async def settle() -> None:
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                ended.append(tide.status().elections[0].token is not None)
                if raises:
                    raise raises from None
                raise

        tide.job("settlement", settle).start()
        await anyio.sleep(1)
    assert len(ended) == 1
    async with connected(store) as other:
        assert await other.election("settlement").current() is None
    assert ("tideover.job.failed" in caplog.text) is (raises is not None)
    assert "tideover.task.failed" not in caplog.text
    with pytest.raises(Closed):
        tide.job("settlement", forever).start()


async def test_closing_ends_who_waits_for_one() -> None:
    """`run_while_leading` in a task of the caller's raises `Closed`."""
    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as tasks:
            async with connected(MemoryStore()) as tide:
                tasks.start_soon(tide.run_while_leading, "settlement", forever)
                await anyio.sleep(1)
    assert caught.group_contains(Closed)


async def test_stop() -> None:
    """Stopping waits for the function to end, and another leads at once; again, or before a start, is a no-op."""
    async with connected(MemoryStore()) as tide:
        cleaned = False

        async def settle() -> None:
            nonlocal cleaned
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(3)
                cleaned = True

        job = tide.job("settlement", settle)
        await tide.job("settlement", settle).stop()
        job.start()
        await anyio.sleep(1)
        await job.stop()
        assert cleaned
        await job.stop()
        with anyio.fail_after(0.2):
            async with tide.leader("settlement"):
                pass


async def test_a_job_is_for_one_use() -> None:
    """A second start, and a start after a stop, are refused, and what runs goes on."""
    async with connected(MemoryStore()) as tide:
        job, stopped = tide.job("settlement", forever), tide.job("settlement", forever)
        job.start()
        with pytest.raises(RuntimeError, match="only once"):
            job.start()
        await anyio.sleep(1)
        assert [each.state for each in tide.status().jobs] == ["leading"]
        await job.stop()
        await stopped.stop()
        for each in (job, stopped):
            with pytest.raises(RuntimeError, match="only once"):
                each.start()


async def test_an_election_that_cannot_be_won_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """A refused candidacy, such as one with another policy, is a failure too: told, and tried again."""
    async with connected(MemoryStore()) as tide, anyio.create_task_group() as tasks:
        async with tide.leader("settlement", on_outage="stay"):
            pass
        tasks.start_soon(tide.run_while_leading, "settlement", Leading(forever, on_outage="step_down"))
        await anyio.sleep(10)
        (job,) = tide.status().jobs
        assert job.failures > 1
        assert str(job.error).startswith("cannot be a candidate for 'settlement': ")
        assert "on_outage" in str(job.error)
        assert f"tideover.job.failed: this process {job.error}; this process is" in caplog.text
        tasks.cancel_scope.cancel()


async def test_a_mismatch_of_the_functions_own_shows_its_place() -> None:
    """What a function raises, also an error of tideover's or in groups, is shown by its first class and place."""
    async with connected(MemoryStore()) as tide, anyio.create_task_group() as tasks:

        async def settle() -> None:
            try:
                raise ElectionMismatch("secret")
            except ElectionMismatch as exc:
                raise ExceptionGroup("", [ExceptionGroup("", [exc]), ValueError()]) from None

        tasks.start_soon(tide.run_while_leading, "settlement", settle)
        await anyio.sleep(0.5)
        assert str(tide.status().jobs[0].error).startswith("ElectionMismatch at test_jobs.py:")
        assert "secret" not in str(tide.status().to_dict())
        tasks.cancel_scope.cancel()


# What is no Exception -----------------------------------------------------------------------------------------


class Panic(BaseException):
    """What extension modules raise, past `except Exception`."""


async def panic() -> None:
    """Fail in a way that is no `Exception`."""
    raise Panic


async def await_cancelled() -> None:
    """Await a task that somebody has cancelled."""
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


async def gather_strays() -> None:
    """Answer a cancellation with one of its own."""
    try:
        await anyio.sleep_forever()
    except asyncio.CancelledError:
        raise asyncio.CancelledError("of its own") from None


async def fails_and_harms_nobody(tide: Coordinator, fail: Callable[[], Any], caplog: Any) -> None:
    """Run something in the background; assert that its failure is told, and that all else goes on."""
    job = tide.job("settlement", fail)
    job.start()
    with anyio.fail_after(5):
        while not tide.status().jobs or tide.status().jobs[0].state != "paused":
            await anyio.sleep(0.01)
    assert "tideover.job.failed" in caplog.text
    (resigned,) = (record for record in caplog.records if "resigned" in record.getMessage())
    assert (resigned.levelname, "because its body raised" in resigned.getMessage()) == ("WARNING", True)
    with anyio.fail_after(5):
        async with tide.leader("settlement"), tide.lock("a", timeout=5):
            await anyio.sleep(0.05)
    await job.stop()
    assert tide.status().restarts == 0


async def test_a_panic_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """What is no `Exception` is a failure as any other, and the coordinator goes on."""
    async with connected(MemoryStore()) as tide:
        await fails_and_harms_nobody(tide, panic, caplog)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("fail", [panic, await_cancelled])
async def test_a_cancellation_that_nobody_wants_is_a_failure(
    fail: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A task that was cancelled and is awaited fails the job, and neither the coordinator nor its locks."""
    async with tideover.connect(store=MemoryStore(), cache_dir=False) as tide:
        await fails_and_harms_nobody(tide, fail, caplog)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("work", [forever, gather_strays])
@pytest.mark.parametrize("how", ["stop", "close", "cancel"])
async def test_a_cancellation_that_is_wanted_is_none(
    how: str, work: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A job that is stopped, closed or cancelled ends without a failure, whatever it makes of its cancellation."""
    async with tideover.connect(store=MemoryStore(), cache_dir=False) as tide:
        job = tide.job("settlement", work)
        task = asyncio.create_task(job.run()) if how == "cancel" else None
        if task is None:
            job.start()
        with anyio.fail_after(5):
            while not tide.status().jobs or tide.status().jobs[0].state != "leading":
                await anyio.sleep(0.01)
        if task is not None:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        if how == "stop":
            await job.stop()
        if how != "close":
            with anyio.fail_after(5):
                async with tide.leader("settlement"):
                    await anyio.sleep(0.05)
        assert tide.status().restarts == 0
    assert "failed" not in caplog.text


@pytest.mark.parametrize("how", ["stop", "scope"])
async def test_a_failure_at_the_end_names_no_next_time(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """A stopped job whose `finally` raises is told, and is no candidate again."""

    async def settle() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ZeroDivisionError

    async with connected(MemoryStore()) as tide, anyio.create_task_group() as tasks:
        job = tide.job("settlement", settle)
        if how == "stop":
            job.start()
        else:
            tasks.start_soon(job.run)
        await anyio.sleep(1)
        await job.stop()
        tasks.cancel_scope.cancel()
    assert "tideover.job.failed" in caplog.text
    assert "candidate again" not in caplog.text


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_that_is_cancelled_and_fails_then_ends() -> None:
    """A native cancellation ends the job, also if the function answers it with another error."""

    async def settle() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ZeroDivisionError

    async with tideover.connect(store=MemoryStore(), cache_dir=False) as tide:
        task = asyncio.create_task(tide.run_while_leading("settlement", settle))
        with anyio.fail_after(5):
            while not tide.status().jobs or tide.status().jobs[0].state != "leading":
                await anyio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


# What can be run ------------------------------------------------------------------------------------------------


async def test_the_coordinator_of_a_job_is_the_current_one() -> None:
    """With two coordinators open the function still acts on that which leads."""
    store = MemoryStore()
    async with connected(store) as one, connected(store):

        async def settle() -> Coordinator:
            return tideover.current()

        assert await one.run_while_leading("settlement", settle) is one


class Bank:
    """Has a decorated method."""

    @while_leader("settlement", ttl=30, value="decorated")
    async def settle(self, *, note: str = "") -> str:
        """Return what it was called with."""
        leader = await tideover.current().election("settlement").current()
        assert leader is not None
        return f"{note} {leader.value}"


async def test_the_decorators_options_count() -> None:
    """A decorated function, method or partial leads once, as its decorator says, and not within a leadership."""
    bank = Bank()
    async with connected(MemoryStore()) as tide:
        with anyio.fail_after(5):
            assert await tide.run_while_leading("settlement", bank.settle) == " decorated"
            assert (
                await tide.run_while_leading("settlement", functools.partial(bank.settle, note="x"))
                == "x decorated"
            )


async def needs(what: str) -> None:
    """Need an argument."""


def plain() -> None:
    """Be no coroutine function."""


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda t: t.job("settlement", plain), TypeError, "coroutine function"),
        (lambda t: t.job("settlement", needs), TypeError, "functools.partial"),
        (lambda t: t.job("settlement", forever()), TypeError, "coroutine function"),
        (lambda t: t.job("other", Bank().settle), ValueError, "'settlement'.*'other'"),
        (lambda t: Leading(Bank().settle, ttl=20), TypeError, "without the decorator"),
        (lambda t: t.job("settlement", Leading(forever, ttl=1)), ValueError, "ttl"),
        (lambda t: t.job("settlement", Leading(forever, on_outage="peers")), ValueError, "failsafe"),
        (lambda t: t.job("", forever), ValueError, "name"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine 'forever' was never awaited")
async def test_mistakes_are_found_at_once(
    make: Callable[[Any], object], error: type[Exception], text: str
) -> None:
    """What cannot be run is refused where it is given, with the remedy."""
    async with connected(MemoryStore()) as tide:
        with pytest.raises(error, match=text):
            make(tide)


async def test_it_needs_an_open_coordinator() -> None:
    """Before the coordinator is entered there is nothing to lead."""
    tide = tideover.connect(store=MemoryStore())
    with pytest.raises(Closed):
        await tide.run_while_leading("settlement", forever)
