"""`@while_leader`: a coroutine function that runs while this process leads."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import anyio.lowlevel

from tideover.callables import is_async
from tideover.decorators.signatures import show
from tideover.elections.claim import OnOutage
from tideover.elections.leading import Decoration, remember
from tideover.errors import LeadershipLost
from tideover.functions import leader

P = ParamSpec("P")
T = TypeVar("T")


def while_leader(
    name: str, *, ttl: float = 15.0, on_outage: OnOutage | None = None, address: str = "", value: str = ""
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Run a coroutine function while this process leads, and again whenever it is elected.

        @while_leader("reaper")
        async def reap() -> None:
            while True:
                ...

    Awaiting it campaigns, runs the function, cancels it when the leadership is lost, and begins again. What the
    function returns or raises ends it, a `LeadershipLost` of another election too; the process resigns then.
    `Coordinator.run_while_leading` and `TideoverMiddleware(while_leading=...)` run it again after an error.

    Args:
        name: The election.
        ttl: Seconds after which a leader that cannot renew leads no more.
        on_outage: `"step_down"`, `"peers"` or `"stay"`, as `Coordinator.leader` has them; `"peers"` needs
            `connect(failsafe=...)`. None means as the profile says, `"peers"` if there is a failsafe.
        address: Where this process can be reached.
        value: What else others are to see.

    Returns:
        The decorator.

    Raises:
        TypeError: When decorating: the function is not a coroutine function, or no name is given, as in
            `@while_leader` without parentheses.
        NotConnected: When calling: no coordinator is open.
        ElectionMismatch: When calling: the election's record says another `on_outage`.

    When degraded:
        As `Coordinator.leader`: it waits until a leader can be elected.
    """
    if not isinstance(name, str):
        raise TypeError(f"while_leader: write @while_leader('reaper'), with a name, and not {name!r}")

    def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        if not is_async(function):
            raise TypeError(f"while_leader({name!r}) decorates coroutine functions, not {function!r}")

        @functools.wraps(function)
        async def lead(*args: P.args, **kwargs: P.kwargs) -> T:
            while True:
                leadership = leader(name, ttl=ttl, on_outage=on_outage, address=address, value=value)
                try:
                    async with leadership:
                        return await function(*args, **kwargs)
                except LeadershipLost:
                    # Of this one, and not of another election that the function had to do with.
                    if not leadership.loss:
                        raise
                await anyio.lowlevel.checkpoint()

        show(lead, function)
        how = {"ttl": ttl, "on_outage": on_outage, "address": address, "value": value}
        remember(lead, Decoration(name, function, how))
        return lead

    return decorate
