"""`@locked`: a coroutine function that runs under a lock."""

from __future__ import annotations

import functools
import inspect
import string
from collections.abc import Callable
from typing import Any, TypeVar, cast

from tideover.callables import is_async, refuse_endpoint
from tideover.decorators.signatures import show
from tideover.functions import lock
from tideover.locks.options import OnOutage, lock_options

F = TypeVar("F", bound=Callable[..., Any])


class Template:
    """The name of a lock, with the parameters of a function in it."""

    def __init__(self, text: str, function: Callable[..., Any]) -> None:
        self._text = text
        self._signature = inspect.signature(function)
        where = getattr(function, "__qualname__", repr(function))
        roots = [_root(field) for _, field, _, _ in string.Formatter().parse(text) if field is not None]
        for root in roots:
            parameter = self._signature.parameters.get(root)
            if parameter is None:
                raise TypeError(f"locked: {text!r} names {root!r}, and {where} has no such parameter")
            if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                raise TypeError(
                    f"locked: {text!r} names {root!r}, which stands for any number of {where}'s arguments"
                )
        self._constant = text.format() if not roots else None

    def fill(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return the name for one call."""
        if self._constant is not None:
            return self._constant
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return string.Formatter().vformat(self._text, (), bound.arguments)


def _root(field: str) -> str:
    root = field.partition(".")[0].partition("[")[0]
    if not root or root.isdigit():
        raise ValueError(f"locked: name the parameters, such as {{order_id}}, not {{{field}}}")
    return root


def locked(
    name: str,
    *,
    ttl: int = 15,
    timeout: float | None = None,
    on_outage: OnOutage | None = None,
    handover: bool = True,
    lock_delay: float = 0.0,
) -> Callable[[F], F]:
    """Run a coroutine function under a lock, named by its arguments.

        @locked("orders/{order_id}", timeout=5)
        async def charge(order_id: int) -> Receipt: ...

    Args:
        name: The lock's name, with the function's parameters in braces; `{order.id}` takes an attribute.
        ttl: As of `lock`.
        timeout: As of `lock`.
        on_outage: As of `lock`.
        handover: As of `lock`.
        lock_delay: As of `lock`.

    Returns:
        A decorator that leaves the signature as it is, with annotations resolved that are strings.

    Raises:
        TypeError: When decorating: the function is not a coroutine function, or has no such parameter; no name is
            given, as in `@locked` without parentheses; the function is already
            a route's endpoint (the route's decorator goes above); or an option is of the wrong type.
        ValueError: When decorating: an option is out of range, or the name is no template. When calling: the name
            cannot be a lock's.
        TideoverError: When calling: as `Coordinator.lock` when entering and leaving.

    When degraded:
        As `Coordinator.lock`.
    """
    if not isinstance(name, str):
        raise TypeError(f"locked: write @locked('orders/{{order_id}}'), with a name, and not {name!r}")
    lock_options(ttl=ttl, timeout=timeout, on_outage=on_outage, handover=handover, lock_delay=lock_delay)

    def decorate(function: F) -> F:
        if not is_async(function):
            raise TypeError(f"locked({name!r}) decorates coroutine functions, not {function!r}")
        refuse_endpoint(function, "locked")
        template = Template(name, function)

        @functools.wraps(function)
        async def run(*args: Any, **kwargs: Any) -> Any:
            holding = lock(
                template.fill(args, kwargs),
                ttl=ttl,
                timeout=timeout,
                on_outage=on_outage,
                handover=handover,
                lock_delay=lock_delay,
            )
            async with holding:
                return await function(*args, **kwargs)

        show(run, function)
        return cast("F", run)

    return decorate
