"""Elections as users see them, on a cluster in memory: bodies, terms, handles, outages, closing."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

import tideover
from tests.support import connected
from tideover import (
    Closed,
    Coordinator,
    ElectionMismatch,
    Leader,
    LeadershipLost,
    RecordCorrupt,
    Standing,
)
from tideover.store.operations import Delete, Put
from tideover.store.transactions import Compare, Txn
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio

KEY = b"/elections/reaper"


@asynccontextmanager
async def two(**options: Any) -> AsyncIterator[tuple[MemoryStore, Coordinator, Coordinator]]:
    """Two processes' coordinators on one cluster."""
    store = MemoryStore()
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(connected(store, **options))
        other = await stack.enter_async_context(connected(store, **options))
        yield store, one, other


def break_(store: MemoryStore) -> None:
    """Take all members away."""
    store.down = set(store.members)
    store.touch()


def mend(store: MemoryStore) -> None:
    """Bring all members back."""
    store.down = set()
    store.touch()


# Bodies ---------------------------------------------------------------------------------------------------------


async def test_one_leads_and_the_next_follows_at_once() -> None:
    """The body runs while leading; when it is left the other one leads within 200 ms, with a larger token."""
    async with two() as (_, one, other):
        left = 0.0
        async with anyio.create_task_group() as tasks:

            async def follow() -> None:
                async with other.leader("reaper") as term:
                    assert anyio.current_time() - left < 0.2
                    assert term.token > first.token

            async with one.leader("reaper") as first:
                assert first.standing is Standing.HELD
                assert 13 < first.remaining <= 13.5
                tasks.start_soon(follow)
                await anyio.sleep(30)
                first.check()
                left = anyio.current_time()
        with pytest.raises(LeadershipLost, match="left"):
            first.check()


async def test_step_down() -> None:
    """Without etcd the body is cancelled at its deadline, not later; leaving it raises, saying why."""
    async with two() as (store, one, _):
        with pytest.raises(
            LeadershipLost, match="'reaper' is not led here any more: it could not be renewed in time"
        ):
            async with one.leader("reaper") as term:
                await anyio.sleep(4.9)
                break_(store)
                try:
                    await anyio.sleep(60)
                finally:
                    assert anyio.current_time() == pytest.approx(13.5, abs=0.1)
                    assert not term.leads
                    for refused in (term.check, term.guard, lambda: term.standing):
                        with pytest.raises(LeadershipLost):
                            refused()


@pytest.mark.parametrize(
    ("alarm", "why"),
    [("NOSPACE", "database quota is used up"), ("CORRUPT", "members' data differ")],
)
async def test_etcd_takes_no_writes(alarm: str, why: str) -> None:
    """Without space, or with damaged data, no renewal is possible: the loss says why; later another is elected."""
    async with two() as (store, one, other):
        with pytest.raises(LeadershipLost, match=f"could not be renewed in time .*{why}") as caught:
            async with one.leader("reaper"):
                store.alarms = {alarm}
                await anyio.sleep(60)
        assert caught.value.__cause__ is None
        store.alarms = set()
        with anyio.fail_after(60):
            async with other.leader("reaper") as term:
                term.check()


async def test_who_stays_does_so_without_space() -> None:
    """A used-up quota is no word on who leads: a leader that stays in an outage stays then, too."""
    async with two() as (store, one, _):
        async with one.leader("reaper", on_outage="stay") as term:
            store.alarms = {"NOSPACE"}
            await anyio.sleep(60)
            stood = [term.standing]
            store.alarms = set()
            await anyio.sleep(10)
            assert [*stood, term.standing] == [Standing.UNCONFIRMED, Standing.HELD]


async def test_a_body_that_ends_in_spite_of_the_loss() -> None:
    """A body that swallows its cancellation and returns is told all the same."""
    async with two() as (store, one, _):
        with pytest.raises(LeadershipLost):
            async with one.leader("reaper"):
                with anyio.CancelScope(shield=True):
                    break_(store)
                    await anyio.sleep(20)


async def test_the_bodys_own_error_is_kept() -> None:
    """An error of the body comes out as it is; the loss becomes a note on it."""
    async with two() as (store, one, _):
        with pytest.raises(ZeroDivisionError) as caught:
            async with one.leader("reaper"):
                with anyio.CancelScope(shield=True):
                    break_(store)
                    await anyio.sleep(20)
                _ = 1 / 0
        assert any("LeadershipLost" in note for note in caught.value.__notes__)
        mend(store)
        with pytest.raises(ZeroDivisionError) as caught:
            async with one.leader("reaper"):
                _ = 1 / 0
        assert not hasattr(caught.value, "__notes__")


async def test_cancelling_from_outside_resigns() -> None:
    """A body cancelled from outside is only cancelled, and the office is free at once."""
    async with two() as (_, one, other):
        with anyio.move_on_after(5) as scope:
            async with one.leader("reaper"):
                await anyio.sleep(60)
        assert scope.cancelled_caught
        began = anyio.current_time()
        async with other.leader("reaper"):
            assert anyio.current_time() - began < 0.1


async def test_a_campaign_that_is_given_up() -> None:
    """A timeout round a campaign that cannot be won ends it; what is left behind harms nobody."""
    async with two() as (_, one, other), one.leader("reaper"):
        with pytest.raises(TimeoutError), anyio.fail_after(3):
            async with other.leader("reaper"):
                pass
        await anyio.sleep(30)
        assert [status.name for status in other.status().elections] == []


@pytest.mark.parametrize("length", [20, 200])
async def test_after_an_outage_the_same_leader_goes_on(length: float) -> None:
    """With `while_leader` a leader that stepped down leads again as soon as etcd is back, with the same token."""
    async with two() as (store, one, other), anyio.create_task_group() as tasks:
        terms: list[tuple[str, int]] = []

        async def lead(tide: Coordinator, name: str) -> None:
            while True:
                try:
                    async with tide.leader("reaper") as term:
                        terms.append((name, term.token))
                        await anyio.sleep_forever()
                except LeadershipLost:
                    pass

        tasks.start_soon(lead, one, "one")
        await anyio.sleep(1)
        tasks.start_soon(lead, other, "other")
        await anyio.sleep(20)
        break_(store)
        await anyio.sleep(length)
        assert len(terms) == 1
        mend(store)
        await anyio.sleep(60)
        assert terms == [terms[0], terms[0]]
        assert terms[0][0] == "one"
        tasks.cancel_scope.cancel()


async def test_stay(caplog: pytest.LogCaptureFixture) -> None:
    """Under "stay" the body goes on through an outage, UNCONFIRMED and said so; afterwards HELD, same token."""
    async with two(profile="availability") as (store, one, other), anyio.create_task_group() as tasks:
        async with one.leader("reaper") as term:
            tasks.start_soon(other.election("reaper").campaign)
            await anyio.sleep(5)
            break_(store)
            await anyio.sleep(200)
            assert str(term.standing) == "unconfirmed"
            assert term.remaining < -100
            term.check()
            assert "'reaper' is led here, unconfirmed." in one.status().sentence
            (status,) = one.status().elections
            assert (status.standing, status.on_outage, status.token) == (Standing.UNCONFIRMED, "stay", term.token)
            assert one._life.instruments.observe_leaders() == {("reaper", "unconfirmed"): 1}
            mend(store)
            await anyio.sleep(60)
            assert term.standing is Standing.HELD
            assert other._life.instruments.observe_leaders() == {}
        assert "unconfirmed" in caplog.text
        assert "confirmed" in caplog.text
        tasks.cancel_scope.cancel()


async def test_staying_ends_when_another_was_elected() -> None:
    """Under "stay" a leader that sees a changed record is cancelled and told who took over."""
    async with two() as (store, one, _):
        with pytest.raises(LeadershipLost, match="deleted"):
            async with one.leader("reaper", on_outage="stay"):
                await store.call(Delete(KEY), member=store.members[0], timeout=1)
                await anyio.sleep(1)
                raise AssertionError("not cancelled")


async def test_guard_fences_a_write() -> None:
    """A guarded write and a transaction of one's own succeed while leading, and fail under the next leader."""
    async with two() as (store, one, other):

        async def write() -> bool:
            op = Txn((Compare(guard.key, mod_revision=guard.mod_revision),), then=(Put(b"x", b"1"),))
            return (await store.call(op, member=store.members[0], timeout=1)).succeeded

        async with one.leader("reaper") as term:
            guard = term.guard()
            assert (guard.create_revision, guard.mod_revision) == (None, term.token)
            await anyio.sleep(20)
            assert await write()
            await one.config.put("a", 1, guard=guard)
        async with other.leader("reaper"):
            assert not await write()
        with pytest.raises(LeadershipLost, match="left"):
            await one.config.put("a", 2, guard=guard)
        assert other.config.get("a", int) == 1


async def test_a_refused_write_ends_the_term() -> None:
    """A leader whose guarded write is refused, before it has heard of its successor, is told by that write."""
    async with two() as (store, one, _):
        with pytest.raises(LeadershipLost, match="had changed at a guarded write"):
            async with one.leader("reaper") as term:
                store._apply([Put(KEY + b"/token", b"usurper")], store.members[0])  # and no watch is told
                with anyio.CancelScope(shield=True):
                    with pytest.raises(LeadershipLost, match="'reaper' is not led here any more: its key"):
                        await one.config.put("a", 1, guard=term.guard())
                    with pytest.raises(LeadershipLost):
                        term.check()
        assert b"/config/a" not in store._newest


async def test_a_deleted_token() -> None:
    """A leader whose token was deleted alone is told by its next renewal, and leads anew with a larger one."""
    async with two() as (store, one, _):
        handle = one.election("reaper")
        term = await handle.campaign()
        await store.call(Delete(KEY + b"/token"), member=store.members[0], timeout=1)
        began = anyio.current_time()
        while term.leads:
            await anyio.sleep(0.05)
        assert anyio.current_time() - began < 5.2
        assert "its token was deleted" in term.loss
        again = await handle.campaign()
        assert again.token > term.token
        assert anyio.current_time() - began < 5.5
        await anyio.sleep(30)
        await one.config.put("a", 1, guard=again.guard())


async def test_what_could_be_regained_is_forgotten() -> None:
    """Offices lost by the clock are kept for a ttl, by name: whoever campaigns again may say another value."""
    async with two() as (store, one, other):
        term = await one.election("reaper").campaign(value="a")
        for number in range(5):
            handle = one.election(f"e{number}")
            await handle.campaign()
            break_(store)
            await anyio.sleep(14)
            await handle.resign()
            mend(store)
            await anyio.sleep(5)
        assert len(one._parts.elections._regaining) == 1
        assert not term.leads
        with pytest.raises(LeadershipLost):
            async with one.leader("mails", value="a") as first:
                break_(store)
                await anyio.sleep(20)
        mend(store)
        async with one.leader("mails", value="b") as again:
            assert again.token == first.token
            await other.health.wait_for(tideover.HealthState.AVAILABLE)
            seen = await other.election("mails").current()
            assert seen is not None
            assert seen.value == "b"
        assert len(one._parts.elections._regaining) <= 1


# Refusals -------------------------------------------------------------------------------------------------------


async def test_options_are_checked() -> None:
    """What cannot work is refused when asked for, with what was given in the message."""
    async with two() as (_, one, other):
        for name in ("", "/x", "x/", "a//b", "x/token", "a\0"):
            with pytest.raises(ValueError, match="name"):
                one.leader(name)
        with pytest.raises(ValueError, match="'peers'"):
            one.leader("x", on_outage="peers")
        with pytest.raises(ValueError, match="3 s is not more than"):
            one.leader("x", ttl=3)
        with pytest.raises(ValueError, match="65536"):
            one.leader("x", value="é" * 40_000)
        async with one.leader("reaper", on_outage="stay"):
            with pytest.raises(ElectionMismatch, match="'stay'"):
                async with other.leader("reaper", on_outage="step_down"):
                    pass
        with pytest.raises(ElectionMismatch):
            await other.election("reaper").campaign(on_outage="step_down")


async def test_a_foreign_record_is_reported() -> None:
    """Whatever is asked about a record that is none says so."""
    async with two() as (store, one, _):
        await store.call(Put(KEY, b"something else"), member=store.members[0], timeout=1)
        with pytest.raises(RecordCorrupt):
            async with one.leader("reaper"):
                pass
        with pytest.raises(RecordCorrupt):
            await one.election("reaper").current()
        with pytest.raises(RecordCorrupt):
            async for _ in one.election("reaper").observe():
                pass


async def test_a_leadership_is_used_once() -> None:
    """Entering the same context manager again is an error, and so is everything outside of the coordinator."""
    async with two() as (_, one, _):
        leadership = one.leader("reaper")
        async with leadership:
            pass
        with pytest.raises(RuntimeError, match="only once"):
            async with leadership:
                pass
    with pytest.raises(Closed):
        async with one.leader("reaper"):
            pass
    with pytest.raises(Closed):
        await one.election("reaper").current()


# Closing --------------------------------------------------------------------------------------------------------


async def test_closing_hands_over_at_once() -> None:
    """A coordinator that closes resigns what is led in any task, ends its bodies, and the next leads in 200 ms."""
    store = MemoryStore()
    async with connected(store) as other, anyio.create_task_group() as tasks:
        ended: list[str] = []

        async def lead(tide: Coordinator) -> None:
            try:
                async with tide.leader("reaper"):
                    await anyio.sleep_forever()
            except LeadershipLost as exc:
                ended.append(str(exc))

        async with connected(store) as one:
            tasks.start_soon(lead, one)
            handle = await one.election("second").campaign()
            await anyio.sleep(1)
        began = anyio.current_time()
        async with other.leader("reaper"), other.leader("second"):
            assert anyio.current_time() - began < 0.2
        assert len(ended) == 1
        assert "the coordinator is closed" in ended[0]
        assert "the coordinator is closed" in handle.loss


async def test_closing_without_etcd_is_bounded() -> None:
    """Closing while etcd is away takes a few seconds at the most, and what was led is led no more."""
    store = MemoryStore()
    async with connected(store) as tide:
        term = await tide.election("reaper").campaign(on_outage="stay")
        break_(store)
        await anyio.sleep(60)
        began = anyio.current_time()
    assert anyio.current_time() - began < 5
    assert not term.leads


# Handles --------------------------------------------------------------------------------------------------------


async def test_a_handles_verbs() -> None:
    """campaign, proclaim, current, resign: the value follows, the token stays, the office falls vacant."""
    async with two() as (_, one, other):
        handle = one.election("reaper")
        with pytest.raises(LeadershipLost, match="campaign first"):
            await handle.proclaim("x")
        term = await handle.campaign(address="http://one", value="a")
        assert await handle.campaign() is term
        seen = await other.election("reaper").current()
        assert seen is not None
        assert (seen.address, seen.value, seen.on_outage, seen.term) == ("http://one", "a", "step_down", 1)
        await handle.proclaim("b")
        seen = await other.election("reaper").current()
        assert seen is not None
        assert seen.value == "b"
        term.check()
        await handle.resign()
        assert not term.leads
        assert await other.election("reaper").current() is None
        again = await handle.campaign()
        assert again.token > term.token


async def test_observing() -> None:
    """Each change of leader and of the published value is seen once; renewals and an outage are not changes."""
    async with two() as (store, one, other), anyio.create_task_group() as tasks:
        seen: list[Leader | None] = []

        async def observe() -> None:
            async for found in other.election("reaper").observe():
                seen.append(found)  # noqa: PERF401  # it does not end

        tasks.start_soon(observe)
        await anyio.sleep(1)
        async with one.leader("reaper", value="a"):
            await anyio.sleep(60)
            break_(store)
            await anyio.sleep(6)
            mend(store)
            await anyio.sleep(60)
        await anyio.sleep(1)
        assert [found and found.value for found in seen] == [None, "a", None]
        tasks.cancel_scope.cancel()


async def test_a_campaign_withdrawn_by_another_task_is_told() -> None:
    """Whoever waits in `campaign` is told at once when its handle resigns, or campaigns anew, in another task."""
    async with two() as (_, one, other):
        await other.election("reaper").campaign()
        handle, heard = one.election("reaper"), []

        async def campaign() -> None:
            try:
                await handle.campaign()
            except LeadershipLost as exc:
                heard.append(str(exc))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(campaign)
            await anyio.sleep(1)
            await handle.resign()
            await anyio.sleep(1)
            assert len(heard) == 1
            tasks.start_soon(campaign)
            await anyio.sleep(1)
            tasks.start_soon(campaign)
            await anyio.sleep(1)
            assert len(heard) == 2
            assert "withdrawn" in heard[1]
            assert len(one.status().elections) == 1
            await handle.resign()
        assert len(heard) == 3
        assert one.status().elections == ()


async def test_observing_ends_with_its_coordinator() -> None:
    """Who observes through a coordinator that was closed is told, and does not wait for ever."""
    async with two() as (store, _, _):
        heard: list[str] = []
        async with anyio.create_task_group() as tasks:

            async def observe(tide: Coordinator) -> None:
                with pytest.raises(Closed, match="closed") as caught:
                    async for _ in tide.election("reaper").observe():
                        pass
                heard.append(str(caught.value))

            async with connected(store) as third:
                tasks.start_soon(observe, third)
                await anyio.sleep(1)
            await anyio.sleep(11)
            tasks.cancel_scope.cancel()
        assert heard


async def test_a_fork_and_a_reset_end_what_is_led() -> None:
    """In a forked child nothing is led any more, nor after etcd was found to be in another history."""
    async with two() as (_, one, other):
        term = await one.election("a").campaign(on_outage="stay")
        one._parts.elections.reset("", 0)
        assert "another history" in term.loss
        again = await one.election("b").campaign()
        one._life.poison()
        assert "forked" in again.loss
        with pytest.raises(Closed, match="forked"):
            await one.leader("c").__aenter__()
        assert other.status().elections == ()


async def test_former_names_work_with_a_warning() -> None:
    """For one release `office` is `admin`, and `ground` is `present_standing`; both warn."""
    async with two() as (_, one, _other):
        election = one.election("a")
        term = await election.campaign()
        with pytest.warns(DeprecationWarning, match=r"admin\(\)"):
            snapshot = await election.office().look()
        assert snapshot.token == (await election.admin().look()).token == term.token
        with pytest.warns(DeprecationWarning, match="present_standing"):
            assert term.ground is term.present_standing is tideover.Standing.HELD


# Module-level ---------------------------------------------------------------------------------------------------


async def test_the_decorator() -> None:
    """`while_leader` runs its function while leading, again after a loss, and hands its result out."""
    async with two() as (store, _one, _):
        runs: list[float] = []

        @tideover.while_leader("reaper")
        async def reap(much: int) -> int:
            runs.append(anyio.current_time())
            if len(runs) == 1:
                break_(store)
                await anyio.sleep_forever()
            return much

        with pytest.raises(tideover.AmbiguousCoordinator):
            await reap(1)
    store = MemoryStore()
    async with connected(store), anyio.create_task_group() as tasks:

        async def repair() -> None:
            await anyio.sleep(40)
            mend(store)

        tasks.start_soon(repair)
        assert await reap(7) == 7
        assert len(runs) == 2
    with pytest.raises(TypeError, match="coroutine"):
        tideover.while_leader("x")(lambda: None)  # type: ignore[arg-type, return-value]


async def test_the_decorator_keeps_to_its_own_election() -> None:
    """The loss of another election inside the function ends it, as any error does; both lost: it runs again."""
    store, runs = MemoryStore(), 0
    async with connected(store) as tide, anyio.create_task_group() as tasks:

        @tideover.while_leader("reaper")
        async def reap() -> str:
            nonlocal runs
            runs += 1
            if runs == 3:
                return "done"
            async with tide.leader("inner"):
                if runs == 1:
                    await store.call(Delete(b"/elections/inner"), member=store.members[0], timeout=1)
                else:
                    break_(store)
                    tasks.start_soon(repair)
                await anyio.sleep_forever()
            raise AssertionError("not cancelled")

        async def repair() -> None:
            await anyio.sleep(40)
            mend(store)

        with pytest.raises(LeadershipLost, match="'inner'"):
            await reap()
        assert runs == 1
        assert await reap() == "done"
        assert runs == 3


async def test_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Coming into office and leaving it are one line each, naming the election and the token."""
    caplog.set_level(logging.INFO, "tideover")
    async with two() as (_, one, _):
        async with one.leader("reaper") as term:
            await anyio.sleep(60)
    lines = [r.getMessage() for r in caplog.records if "leadership" in r.getMessage()]
    assert lines == [
        f"tideover.leadership.change: 'reaper', token {term.token}: {w}" for w in ("elected", "resigned")
    ]
