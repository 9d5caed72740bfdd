"""Types, without wrappers and aliases: their parts, and what tells them apart."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typing_extensions

from tideover.codecs.constructors import check_constructor
from tideover.codecs.generics import default_of, fill, hints_of
from tideover.codecs.libraries import Field, library_of

_WRAPPERS = (Annotated, typing.Required, typing.NotRequired, typing_extensions.ReadOnly, typing.Final)
_UNIONS = (Union, types.UnionType)


def stripped(form: object) -> object:
    """Return the type without `Annotated`, `Required` and other wrappers, and without aliases.

    A library's notes on its own types stay: they are part of the type.
    """
    while True:
        if get_origin(form) is Annotated and library_of(form) is not None:
            return form
        if get_origin(form) in _WRAPPERS:
            form = get_args(form)[0]
        elif hasattr(form, "__supertype__"):
            form = form.__supertype__
        elif is_alias(form):
            form = _behind(form)
        else:
            return form


def is_alias(form: object) -> bool:
    """Whether a type is an alias (`type Name = ...`), with or without its parameters."""
    return type(get_origin(form) or form).__name__ == "TypeAliasType"


def _behind(alias: Any) -> object:
    made: Any = get_origin(alias) or alias
    given = dict(zip(made.__type_params__, get_args(alias), strict=False))
    return fill(made.__value__, {each: given.get(each, default_of(each)) for each in made.__type_params__})


def is_union(form: object) -> bool:
    return get_origin(form) in _UNIONS


def options_of(form: object) -> tuple[object, ...]:
    """Return the members of a union, else the type alone."""
    form = stripped(form)
    if is_union(form):
        return tuple(option for member in get_args(form) for option in options_of(member))
    return (form,)


def identity(form: object) -> object:
    """Return a key of a type: two types with the same identity decode alike.

    The type itself is no such key: unions that differ in order are equal, though the first member that fits wins,
    and notes in `Annotated` need not be hashable.
    """
    if isinstance(form, type):
        return form
    if isinstance(form, types.UnionType):  # frequent, and another object at each call
        return (Union, *map(identity, form.__args__))
    while get_origin(form) in _WRAPPERS:
        if get_origin(form) is Annotated and library_of(form) is not None:
            return (Annotated, identity(get_args(form)[0]), *map(_identity_of_note, get_args(form)[1:]))
        form = get_args(form)[0]
    origin, arguments = get_origin(form), get_args(form)
    if not arguments or origin is Literal:
        return form
    return (Union if origin in _UNIONS else origin, *map(identity, arguments))


def _identity_of_note(note: object) -> object:
    """Return a key of a note; a note without a hash, or with one of its own at each call, by its repr."""
    return note if type(note).__eq__ is not object.__eq__ and _has_hash(note) else repr(note)


def _has_hash(form: object) -> bool:
    try:
        hash(form)
    except TypeError:
        return False
    return True


def is_distinct(form: object) -> bool:
    """Whether a type can itself be a key: every equal type decodes alike."""
    return _has_hash(form) and not _has_order(form)


def _has_order(form: object) -> bool:
    members = [member for member in get_args(form) if member not in (None, type(None))]
    return (is_union(form) and len(members) > 1) or any(map(_has_order, members))


def record_of(form: object) -> type | None:
    """Return a type's dataclass, `TypedDict` or library record, without type parameters; None for other types."""
    form = stripped(form)
    made = get_origin(form) or form
    if isinstance(made, type) and (library := library_of(made)) is not None:
        return made if library.is_record(made) else None
    if isinstance(made, type) and (dataclasses.is_dataclass(made) or typing_extensions.is_typeddict(made)):
        return made
    return None


def fields_of(form: object) -> tuple[Field, ...] | None:
    """Return the fields of a dataclass, a `TypedDict` or a library's record; None for any other type."""
    record = record_of(form)
    if record is None:
        return None
    if (library := library_of(record)) is not None:
        return library.fields(record)
    hints = hints_of(stripped(form))
    if dataclasses.is_dataclass(record):
        check_constructor(record, [f.name for f in dataclasses.fields(record) if f.init])
        return tuple(Field(f.name, hints[f.name], _is_required(f)) for f in dataclasses.fields(record) if f.init)
    required: frozenset[str] = getattr(record, "__required_keys__", frozenset())
    return tuple(Field(name, hint, _is_needed(hint, name in required)) for name, hint in hints.items())


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _is_needed(hint: object, otherwise: bool) -> bool:
    """Whether a `TypedDict` needs a key: where annotations are strings, the class itself does not know."""
    while get_origin(hint) in _WRAPPERS:
        if get_origin(hint) is typing.Required:
            return True
        if get_origin(hint) is typing.NotRequired:
            return False
        hint = get_args(hint)[0]
    return otherwise


def name_of(form: object) -> str:
    """Return a type's name for people, without a library's notes, which are too long."""
    if get_origin(form) is Annotated and library_of(form) is not None:
        return name_of(get_args(form)[0])
    return form.__name__ if isinstance(form, type) else str(form)
