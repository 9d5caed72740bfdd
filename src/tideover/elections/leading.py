"""A function that runs while leading, and the options of its candidacy."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

from tideover.callables import is_async
from tideover.elections.claim import OnOutage


@dataclass(frozen=True, slots=True)
class Leading:
    """A function that runs while this process leads, and how: for `while_leading=` and `run_while_leading`.

        TideoverMiddleware(app, endpoints=[...], while_leading={"settlement": Leading(settle, ttl=30)})

    Attributes:
        function: A coroutine function that needs no arguments.
        ttl: Seconds after which a leader that cannot renew leads no more.
        on_outage: `"step_down"`, `"stay"` or `"peers"`; None means as the profile says. See `Coordinator.leader`.
        address: Where this process can be reached.
        value: What else observers see.

    Raises:
        TypeError: The function is no coroutine function, or needs arguments, or is decorated with `while_leader`,
            which has its own options.
    """

    function: Callable[[], Awaitable[object]]
    ttl: float = 15.0
    on_outage: OnOutage | None = None
    address: str = ""
    value: str = ""

    def __post_init__(self) -> None:
        function = self.function
        if _decoration_of(function) is not None:
            raise TypeError(
                f"{function!r} is decorated with while_leader, which has said how to lead: give it as it is, or "
                "give Leading() the function without the decorator"
            )
        if not is_async(function):
            raise TypeError(f"only a coroutine function can run while leading, not {function!r}")
        try:
            inspect.signature(function).bind()
        except ValueError:  # a function written in C may have no signature
            return
        except TypeError as exc:
            raise TypeError(
                f"{function!r} is called without arguments while leading, and that fails ({exc}): "
                "functools.partial gives it what it needs"
            ) from None


Work = Leading | Callable[[], Awaitable[object]]


def leading_of(name: str, work: Work) -> Leading:
    """Return the function for an election, with its options; raise if `work` cannot run while leading it."""
    if isinstance(work, Leading):
        return work
    found = _decoration_of(work)
    if found is None:
        return Leading(work)
    if found.name != name:
        raise ValueError(
            f"{work!r} is decorated with while_leader({found.name!r}) and was given for the election {name!r}: "
            "let both say the same"
        )
    return Leading(found.function, **found.how)


@dataclass(frozen=True, slots=True)
class Decoration:
    """The arguments and the function of a `while_leader` decoration; `how` has the other fields of `Leading`."""

    name: str
    function: Callable[..., Awaitable[object]]
    how: Mapping[str, Any]


# Not an attribute of the decorated function: other decorators would copy it.
_decorated: WeakKeyDictionary[Callable[..., Any], Decoration] = WeakKeyDictionary()


def remember(made: Callable[..., Any], decoration: Decoration) -> None:
    """Remember a decoration, so that a job leads once for the function, and not within a leadership."""
    _decorated[made] = decoration


def _decoration_of(function: Any) -> Decoration | None:
    """Return the decoration of a function, also behind `functools.partial` and of a method."""
    if isinstance(function, functools.partial):
        found = _decoration_of(function.func)
        return found and replace(
            found, function=functools.partial(found.function, *function.args, **function.keywords)
        )
    if inspect.ismethod(function):
        found = _decoration_of(function.__func__)
        return found and replace(found, function=MethodType(found.function, function.__self__))
    return _decorated.get(function) if inspect.isfunction(function) else None
