"""A broadcast wakes those who wait for it, and those who wait for several at once; an ending comes once."""

from __future__ import annotations

import anyio
import pytest

from tideover.broadcast import Broadcast, Ending

pytestmark = pytest.mark.anyio


async def test_one_that_joined_several_hears_each() -> None:
    """One that joined two fires with either, once for each time, also if it joined one of them twice."""
    first, second, every = Broadcast(), Broadcast(), Broadcast()
    for each in (first, second, first):
        each.join(every)
    for fired in (first, second):
        came = every.next()
        fired.fire()
        with anyio.fail_after(1):
            await came.wait()
    assert not every.next().is_set()


async def test_those_that_joined_one_all_hear_it() -> None:
    """A second one that joins does not take the first one's place."""
    source, one, other = Broadcast(), Broadcast(), Broadcast()
    source.join(one)
    source.join(other)
    came = [one.next(), other.next()]
    source.fire()
    with anyio.fail_after(1):
        for each in came:
            await each.wait()


async def test_an_ending_wakes_all_who_wait_and_lets_later_ones_through() -> None:
    """Each waiter wakes once it has come, also one who asks afterwards; one who has left is no trouble."""
    ending, woken = Ending(), []

    async def wait(name: str) -> None:
        await ending.awaited()
        woken.append(name)

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as left:
            left.cancel()
            await wait("left")
        tasks.start_soon(wait, "first")
        tasks.start_soon(wait, "second")
        await anyio.wait_all_tasks_blocked()
        assert woken == []
        ending.come()
    await wait("later")
    assert sorted(woken[:2]) == ["first", "second"]
    assert woken[2:] == ["later"]
    assert ending.has_come
