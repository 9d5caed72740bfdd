"""The signature that a decorated function shows: resolved where the function was written.

A framework reads it to know what a handler needs, and some evaluate annotations that are strings (`from __future__
import annotations`) in the module of the wrapper, where their names mean nothing.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any


def resolve(function: Callable[..., Any], annotation: object) -> object:
    """Evaluate one annotation where the function was written: its others may exist for type checkers only."""
    innermost = _innermost(function)
    scope = getattr(innermost, "__globals__", None) or vars(sys.modules[type(innermost).__module__])
    carrier = SimpleNamespace(__annotations__={"it": annotation})
    return typing.get_type_hints(carrier, globalns=scope, include_extras=True)["it"]


def show(wrapper: Callable[..., Any], function: Callable[..., Any], *, without: Collection[str] = ()) -> None:
    """Set a wrapper's signature to the function's, `without` some parameters, with annotations resolved."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=_resolved(function, parameter.annotation))
        for name, parameter in signature.parameters.items()
        if name not in without
    ]
    returned = _resolved(function, signature.return_annotation)
    shown: Any = wrapper
    shown.__signature__ = signature.replace(parameters=parameters, return_annotation=returned)
    shown.__annotations__ = {
        name: _resolved(function, annotation)
        for name, annotation in getattr(function, "__annotations__", {}).items()
        if name not in without
    }


def _resolved(function: Callable[..., Any], annotation: object) -> object:
    if annotation is inspect.Signature.empty:
        return annotation
    try:
        return resolve(function, annotation)
    except Exception:  # noqa: BLE001  # a name that is defined later, or only for type checkers
        return annotation


def _innermost(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that was written, behind decorators and `functools.partial`."""
    inner = inspect.unwrap(function)
    return _innermost(inner.func) if isinstance(inner, functools.partial) else inner
