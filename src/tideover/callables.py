"""What is behind a callable: whether calling it gives something to await, to iterate over, or a result."""

from __future__ import annotations

import functools
import gc
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

# References to a function that was just written, and that no one else holds: then no holder is looked for.
_FRESH = 4


def behind(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that does the work: behind `functools.partial`, and an object's `__call__`.

    `inspect.iscoroutinefunction` and its kin know functions and bound methods, and look behind a partial, but not
    at what makes an object callable.
    """
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return behind(type(function).__call__)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call gives something to await."""
    return inspect.iscoroutinefunction(behind(function))


def refuse_endpoint(function: Callable[..., Any], decorator: str) -> None:
    """Refuse to decorate a function that a route calls already: the route would go on calling it as it is.

    Seen are the routes of Starlette and of what is built on it, such as FastAPI.
    """
    if sys.getrefcount(function) <= _FRESH:
        return
    for referrer in gc.get_referrers(function):
        attributes = referrer
        with suppress(AttributeError):
            attributes = object.__getattribute__(referrer, "__dict__")
        if type(attributes) is dict and attributes.get("endpoint") is function and "path" in attributes:
            raise TypeError(
                f"@{decorator} has no effect above the decorator of the route {attributes['path']!r}, which calls "
                f"{getattr(function, '__qualname__', function)} already: put it below that decorator"
            )
