"""The end of a body is told apart from everybody else's cancellation, whatever the body was awaiting."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest
import trio

from tests.awaits import CASES, ENCLOSURES, Awaits, Enclosure, never_answered
from tideover.body_scope import BodyScope, raise_loss

pytestmark = pytest.mark.anyio


class Lost(Exception):
    """What a body relied on is lost."""


class Body:
    """A body that relies on something."""

    def __init__(self) -> None:
        self.strays: list[str] = []
        self.scope = BodyScope(self.strays.append)

    async def __aenter__(self) -> Body:
        self.scope.enter()
        return self

    async def __aexit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        ended = self.scope.leave(exc)
        if self.strays or ended:
            raise_loss(Lost(), exc, ended=ended)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What is awaited here belongs to asyncio."""
    return "asyncio"


@pytest.fixture(scope="module")
async def awaits() -> AsyncIterator[Awaits]:
    """What bodies wait for."""
    async with never_answered() as found:
        yield found


@pytest.mark.parametrize(("name", "within"), CASES)
async def test_the_loss_comes_out(awaits: Awaits, name: str, within: Enclosure) -> None:
    """Twenty of twenty bodies that are ended raise their loss, and their tasks do not count as cancelled."""

    async def hold(body: Body) -> int:
        task = asyncio.current_task()
        assert task is not None
        try:
            async with body:
                await within(awaits[name])
        except Lost:
            return task.cancelling()
        return -1

    bodies = [Body() for _ in range(20)]
    tasks = [asyncio.create_task(hold(body)) for body in bodies]
    await asyncio.sleep(0.05)
    for body in bodies:
        body.scope.end()
    assert await asyncio.gather(*tasks) == [0] * 20


@pytest.mark.parametrize(("name", "within"), CASES)
@pytest.mark.parametrize("first", ["loss", "cancel"])
async def test_a_cancellation_from_outside_in_the_same_moment_comes_first(
    awaits: Awaits, name: str, within: Enclosure, first: str
) -> None:
    """Twenty of twenty tasks that are cancelled as their bodies are lost count as cancelled."""

    async def hold(body: Body) -> None:
        async with body:
            await within(awaits[name])

    bodies = [Body() for _ in range(20)]
    tasks = [asyncio.create_task(hold(body)) for body in bodies]
    await asyncio.sleep(0.05)
    for body, task in zip(bodies, tasks, strict=True):
        order: list[Callable[[], object]] = [body.scope.end, task.cancel]
        for act in order if first == "loss" else reversed(order):
            act()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert Counter(map(type, found)) == {asyncio.CancelledError: 20}


@pytest.mark.parametrize("around", ENCLOSURES)
async def test_the_loss_passes_what_is_around(awaits: Awaits, around: Enclosure) -> None:
    """A body that awaits a grpc.aio call within a timeout or a group is lost: there the loss arrives, too."""
    bodies: list[Body] = []

    async def hold() -> None:
        bodies.append(Body())
        async with bodies[-1]:
            await awaits["unary"]()

    task = asyncio.create_task(_run(around, hold))
    await asyncio.sleep(0.05)
    bodies[0].scope.end()
    with pytest.raises((Lost, ExceptionGroup)) as caught:
        await task
    errors = caught.value.exceptions if isinstance(caught.value, ExceptionGroup) else (caught.value,)
    assert [type(error) for error in errors] == [Lost]
    assert (len(bodies) > 1) is isinstance(caught.value, ExceptionGroup)


async def _run(around: Enclosure, hold: Callable[[], Awaitable[object]]) -> None:
    await around(hold)


async def test_an_enclosing_scope_keeps_its_cancellation() -> None:
    """A scope around the body is cancelled as the body is lost: that scope ends, and not with the loss."""
    body = Body()
    with anyio.CancelScope() as around:
        async with body:
            body.scope.end()
            around.cancel()
            await anyio.sleep(60)
    assert around.cancelled_caught


async def test_a_timeout_around_that_strikes_in_the_same_moment() -> None:
    """`asyncio.timeout` around the body strikes as the body is lost: TimeoutError, as without the loss."""
    body = Body()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60) as around:
            async with body:
                body.scope.end()
                around.reschedule(0)
                await anyio.sleep(60)


async def test_a_timeout_within_that_strikes_in_the_same_moment() -> None:
    """`asyncio.timeout` within the body strikes as the body is lost: the loss ends it."""
    body = Body()
    with pytest.raises(Lost):
        async with body:
            body.scope.end()
            async with asyncio.timeout(0):
                await anyio.sleep(60)


async def test_a_loss_while_a_cancelled_body_cleans_up() -> None:
    """A body that was cancelled from outside and is lost while it cleans up is cancelled."""
    body = Body()

    async def hold() -> None:
        async with body:
            try:
                await asyncio.sleep(60)
            finally:
                body.scope.end()
                await asyncio.sleep(60)

    task = asyncio.create_task(hold())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_errors_of_the_body_are_kept() -> None:
    """A group with an error of the body's own beside its cancellations is no end by the loss alone."""
    body = Body()
    with pytest.raises(ExceptionGroup) as caught:
        async with body:
            async with asyncio.TaskGroup() as tasks:

                async def fail() -> None:
                    try:
                        await asyncio.sleep(60)
                    finally:
                        _ = 1 / 0

                tasks.create_task(fail())
                await asyncio.sleep(0)
                body.scope.end()
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


async def test_the_task_that_entered_has_ended() -> None:
    """A body whose task has ended runs elsewhere: that is said at once, and raised where it is left."""
    body = Body()
    await asyncio.create_task(body.__aenter__(), name="fixture")
    await asyncio.sleep(0)
    assert "was entered in the task 'fixture', which has ended" in body.strays[0]
    with pytest.raises(Lost):
        await body.__aexit__(None, None, None)
    assert len(body.strays) == 1


async def test_left_in_another_task() -> None:
    """A body left in another task is said to be, and the task that entered is not cancelled for it afterwards."""
    body, left = Body(), asyncio.Event()

    async def enter() -> str:
        await body.__aenter__()
        await left.wait()
        await asyncio.sleep(0.05)
        return "not cancelled"

    task = asyncio.create_task(enter())
    await asyncio.sleep(0)
    with pytest.raises(Lost):
        await body.__aexit__(None, None, None)
    assert "left in another task" in body.strays[0]
    body.scope.end()
    left.set()
    assert await task == "not cancelled"


def test_on_trio_as_on_asyncio() -> None:
    """On trio a body ends with its loss, and with an enclosing scope's cancellation if there is one."""

    async def lose() -> None:
        with pytest.raises(Lost):
            async with Body() as body:
                body.scope.end()
                await trio.sleep(60)
        with trio.CancelScope() as around:
            async with Body() as body:
                body.scope.end()
                around.cancel()
                await trio.sleep(60)
        assert around.cancelled_caught

    trio.run(lose)
