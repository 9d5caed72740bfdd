"""What is behind a callable: whether calling it gives something to await, to iterate over, or a result."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def behind(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that does the work: behind `functools.partial`, and an object's `__call__`.

    `inspect.iscoroutinefunction` and its kin know functions and bound methods, and look behind a partial, but not
    at what makes an object callable.

    Args:
        function: Anything that can be called.
    """
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return behind(type(function).__call__)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call gives something to await."""
    return inspect.iscoroutinefunction(behind(function))
