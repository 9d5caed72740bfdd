"""Types made of other types: enums, unions, dataclasses, dicts, lists; and what kind of type a type is."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typing_extensions

from tideover.codecs.encoding import encode
from tideover.codecs.scalars import SCALARS, Convert, to_none


def converter(form: object) -> Convert:
    """Return the function that turns text, or a JSON value, into a value of a type.

    Args:
        form: The type.

    Returns:
        The function; it raises ValueError for a value that is not of the type.

    Raises:
        TypeError: The type is none that can be decoded.
    """
    form = stripped(form)
    if form is Any or form is object:
        return lambda value: value
    scalar = SCALARS.get(form) if isinstance(form, type) else None
    if scalar is not None:
        return scalar
    if form is None or form is type(None):
        return to_none
    origin = get_origin(form)
    if origin is Literal:
        return _literal(get_args(form))
    if origin in (Union, types.UnionType):
        return _union(tuple(get_args(form)))
    if isinstance(form, type) and issubclass(form, enum.Enum):
        return _enum(form)
    fields = fields_of(form)
    if fields is not None and isinstance(form, type):
        return _record(form, fields)
    container = origin or form
    if container in _CONTAINERS:
        return _container(container, get_args(form))
    hint = "" if isinstance(form, type) or origin else "; a default is given as default="
    raise TypeError(f"cannot decode configuration as {form!r}{hint}")


def is_scalar(form: object) -> bool:
    """Whether a type's values are stored as plain text."""
    return (
        form in SCALARS or (isinstance(form, type) and issubclass(form, enum.Enum)) or get_origin(form) is Literal
    )


def takes_text(form: object) -> bool:
    """Whether plain text may be a value of a type."""
    return any(is_scalar(option) or option is bytes for option in _options(form))


def takes_bytes(form: object) -> bool:
    """Whether bytes that are no text may be a value of a type."""
    return bytes in _options(form)


def _options(form: object) -> tuple[object, ...]:
    """Return what a type may be: the members of a union, else the type alone."""
    form = stripped(form)
    if get_origin(form) in (Union, types.UnionType):
        return tuple(option for member in get_args(form) for option in _options(member))
    return (form,)


def stripped(form: object) -> object:
    """Return the type without `Annotated`, `Required` and other wrappers, and an alias's own type."""
    while True:
        if get_origin(form) in _WRAPPERS:
            form = get_args(form)[0]
        elif hasattr(form, "__supertype__"):
            form = form.__supertype__
        elif type(form).__name__ == "TypeAliasType":
            form = form.__value__  # type: ignore[attr-defined]
        else:
            return form


_WRAPPERS = (Annotated, typing.Required, typing.NotRequired, typing_extensions.ReadOnly, typing.Final)


def _literal(options: tuple[object, ...]) -> Convert:
    by_text = {text: option for option in options for text in (encode(option).decode(), str(option))}

    def convert(value: object) -> object:
        for option in options:
            if value == option and type(value) is type(option):
                return option
        if isinstance(value, str) and value in by_text:
            return by_text[value]
        raise ValueError(f"none of {', '.join(map(repr, options))}")

    return convert


def _enum(form: type[enum.Enum]) -> Convert:
    by_text = {text: member for member in form for text in (str(member.value), encode(member.value).decode())}

    def convert(value: object) -> object:
        for member in form:
            if member.value == value and type(member.value) is type(value):
                return member
        if isinstance(value, str):
            found = by_text.get(value, form.__members__.get(value))
            if found is not None:
                return found
        if issubclass(form, enum.Flag):
            return form(_flags(value))
        raise ValueError(f"none of {', '.join(str(member.value) for member in form)}")

    return convert


def _flags(value: object) -> int:
    if isinstance(value, int) or (isinstance(value, str) and value.isascii() and value.isdigit()):
        return int(value)
    raise ValueError("no combination of flags")


def _union(options: tuple[object, ...]) -> Convert:
    converters = [(option, converter(option)) for option in options]
    # What JSON has already typed is taken as it is before anything is converted.
    exact = {int: int, float: float, str: str, bool: bool, type(None): type(None)}

    def convert(value: object) -> object:
        for option, _ in converters:
            if exact.get(option) is type(value):  # type: ignore[call-overload]
                return value
        problems = []
        for _, try_convert in converters:
            try:
                return try_convert(value)
            except ValueError as exc:
                problems.append(str(exc))
        raise ValueError("; ".join(problems))

    return convert


def _fields(value: object, known: Mapping[str, Convert], required: frozenset[str], what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"not an object, as {what} needs")
    if unknown := value.keys() - known.keys():
        raise ValueError(f"{what} has no {', '.join(sorted(map(repr, unknown)))}")
    if missing := required - value.keys():
        raise ValueError(f"{what} needs {', '.join(sorted(map(repr, missing)))}")
    converted = {}
    for name, item in value.items():
        try:
            converted[name] = known[name](item)
        except ValueError as exc:
            raise ValueError(f"{name}: {exc}") from None
    return converted


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of a dataclass or a `TypedDict`.

    Attributes:
        name: Its name.
        form: Its type.
        required: Whether it may not be left out.
    """

    name: str
    form: object
    required: bool


def fields_of(form: object) -> tuple[Field, ...] | None:
    """Return the fields of a dataclass or a `TypedDict`; None for any other type."""
    if dataclasses.is_dataclass(form) and isinstance(form, type):
        hints = typing_extensions.get_type_hints(form, include_extras=True)
        return tuple(Field(f.name, hints[f.name], _is_required(f)) for f in dataclasses.fields(form) if f.init)
    if typing_extensions.is_typeddict(form):
        hints = typing_extensions.get_type_hints(form, include_extras=True)
        required: frozenset[str] = getattr(form, "__required_keys__", frozenset())
        return tuple(Field(name, hint, _is_needed(hint, name in required)) for name, hint in hints.items())
    return None


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _is_needed(hint: object, otherwise: bool) -> bool:
    """Whether a `TypedDict` needs a key: it does not know itself where its annotations are strings."""
    while get_origin(hint) in _WRAPPERS:
        if get_origin(hint) is typing.Required:
            return True
        if get_origin(hint) is typing.NotRequired:
            return False
        hint = get_args(hint)[0]
    return otherwise


def _record(form: type, fields: tuple[Field, ...]) -> Convert:
    known = {field.name: _later(field.form) for field in fields}
    required = frozenset(field.name for field in fields if field.required)
    make = partial(construct, form) if dataclasses.is_dataclass(form) else dict
    return lambda value: make(_fields(value, known, required, form.__name__))


def construct(form: type, fields: Mapping[str, object]) -> object:
    """Make a dataclass, whose own checks may refuse the fields.

    Args:
        form: The dataclass.
        fields: Field name to value.

    Returns:
        The object.

    Raises:
        ValueError: Its `__post_init__` refused.
    """
    try:
        return form(**fields)
    except (TypeError, LookupError, AttributeError, ArithmeticError, AssertionError) as exc:
        raise ValueError(f"{form.__name__} refuses the value: {exc}") from exc


def _later(hint: object) -> Convert:
    """Return a converter that is built at its first use, so that a type may contain itself."""
    made: list[Convert] = []

    def convert(value: object) -> object:
        if not made:
            made.append(converter(hint))
        return made[0](value)

    return convert


_CONTAINERS: dict[object, type] = {
    list: list,
    Sequence: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    dict: dict,
    Mapping: dict,
}


def _container(container: object, arguments: tuple[object, ...]) -> Convert:
    make = _CONTAINERS[container]
    if make is dict:
        return _dict(arguments or (str, Any))
    if make is tuple and arguments and arguments[-1] is not Ellipsis:
        return _fixed_tuple(arguments)
    item = converter(arguments[0] if arguments else Any)

    def convert(value: object) -> object:
        if not isinstance(value, list):
            raise ValueError("not a list")
        items = [item(one) for one in value]
        try:
            return make(items)
        except TypeError:  # an unhashable item of a set
            raise ValueError(f"not a {make.__name__}: an item is not hashable") from None

    return convert


def _fixed_tuple(arguments: tuple[object, ...]) -> Convert:
    items = [converter(argument) for argument in arguments]

    def convert(value: object) -> object:
        if not isinstance(value, list) or len(value) != len(items):
            raise ValueError(f"not a list of {len(items)}")
        return tuple(to(item) for to, item in zip(items, value, strict=True))

    return convert


def _dict(arguments: tuple[object, ...]) -> Convert:
    to_key, to_value = converter(arguments[0]), converter(arguments[1])

    def convert(value: object) -> object:
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return {to_key(key): to_value(item) for key, item in value.items()}

    return convert
