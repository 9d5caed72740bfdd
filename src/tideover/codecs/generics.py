"""The types given for the parameters of generic types: `T` in `Box[int]`, also in a base class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar, Union, get_args, get_origin

import typing_extensions


def default_of(parameter: Any) -> object:
    """Return the type of a parameter that was not given: its default, its bound, or `Any`."""
    default = getattr(parameter, "__default__", None)
    if default not in (None, typing_extensions.NoDefault):
        return default
    constraints = getattr(parameter, "__constraints__", ())
    if constraints:
        return Union[constraints]  # noqa: UP007
    return getattr(parameter, "__bound__", None) or Any


def fill(hint: Any, given: Mapping[object, object]) -> object:
    """Return a type with its parameters replaced; one that is not in `given` gets its default."""
    if isinstance(hint, TypeVar):
        return given.get(hint, default_of(hint))
    parameters = getattr(hint, "__parameters__", ()) if get_origin(hint) is not None else ()
    return hint[tuple(given.get(each, default_of(each)) for each in parameters)] if parameters else hint


def hints_of(form: object) -> dict[str, object]:
    """Return the types of the fields of a dataclass or a `TypedDict`, generic or not, inherited ones included."""
    known = _parameters(form)
    record: Any = get_origin(form) or form
    hints = typing_extensions.get_type_hints(record, include_extras=True)
    if not any(known.values()):
        return hints
    # A `TypedDict` has the fields of its bases among its own, and they are not in its `__mro__`.
    order = reversed(known) if typing_extensions.is_typeddict(record) else record.__mro__
    owners = {name: base for base in reversed([*order]) for name in _own_names(base)}
    return {name: fill(hint, known.get(owners.get(name, record), {})) for name, hint in hints.items()}


def _own_names(base: type) -> Iterable[str]:
    return typing_extensions.get_annotations(base, format=typing_extensions.Format.FORWARDREF)


def _parameters(form: Any) -> dict[type, dict[object, object]]:
    """Return the types given for the parameters of a class and of its bases."""
    record = get_origin(form) or form
    if not isinstance(record, type):  # `typing.TypedDict` is a function
        return {}
    names = getattr(record, "__parameters__", ())
    given = dict(zip(names, get_args(form) or map(default_of, names), strict=False))
    known = {record: given}
    for base in vars(record).get("__orig_bases__", record.__bases__):
        if (get_origin(base) or base) not in (Generic, Protocol):
            known |= _parameters(fill(base, given))
    return known
