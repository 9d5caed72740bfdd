"""From the bytes in etcd to typed values and back.

A scalar is stored as the text a person would type into `etcdctl put`; everything structured is JSON. Decoders are
strict: what cannot be said to be of the type asked for is refused, so that a typo in etcd keeps the last good
value instead of becoming a wrong one.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

import typing_extensions

# A decoder takes the text as stored; a converter takes what JSON made of it.
Convert = Callable[[object], object]

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d)")
_DURATIONS = re.compile(r"-?(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def decode(data: bytes, form: object) -> object:
    """Return stored bytes as a value of a type.

    Args:
        data: The bytes in etcd.
        form: The type: `str`, `bytes`, `int`, `float`, `bool`, `datetime`, `date`, `timedelta` (`"250ms"`,
            `"1h30m"` or seconds), `Decimal`, `UUID`, an enum, a `Literal`, a dataclass, a `TypedDict`, a list,
            tuple, set or dict of these, or a union of these.

    Returns:
        The value.

    Raises:
        ValueError: The bytes are no such value.
        TypeError: The type is none that can be decoded.
    """
    return _decoder(form)(data)


def encode(value: object) -> bytes:
    """Return a value as `decode` with its own type would read it.

    Args:
        value: The value.

    Returns:
        The bytes to store.

    Raises:
        TypeError: The value is of a type that cannot be encoded.
    """
    if isinstance(value, bytes):
        return value
    plain = _plain(value)
    if isinstance(plain, str):
        return plain.encode()
    return json.dumps(plain, ensure_ascii=False, allow_nan=False).encode()


# Decoding ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _decoder(form: object) -> Callable[[bytes], object]:
    form = _stripped(form)
    if form is bytes:
        return bytes
    if form is str or form is Any or form is object:
        return _text
    convert = converter(form)
    if _is_scalar(form):
        return lambda data: convert(_text(data).strip())

    def structured(data: bytes) -> object:
        text = _text(data)
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as exc:
            if not _takes_text(form):
                raise ValueError(f"not JSON: {exc}") from exc
            value = text
        try:
            return convert(value)
        except ValueError:
            # `str | None` and the like: text that happens to be JSON is still text.
            if _takes_text(form):
                return convert(text)
            raise

    return structured


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise ValueError("not UTF-8 text") from exc


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _is_scalar(form: object) -> bool:
    return (
        form in _SCALARS or (isinstance(form, type) and issubclass(form, enum.Enum)) or get_origin(form) is Literal
    )


def _takes_text(form: object) -> bool:
    return any(_is_scalar(option) or option is bytes for option in _options(form))


def _options(form: object) -> tuple[object, ...]:
    """Return what a type may be: the members of a union, else the type alone."""
    form = _stripped(form)
    if get_origin(form) in (Union, types.UnionType):
        return tuple(option for member in get_args(form) for option in _options(member))
    return (form,)


def _stripped(form: object) -> object:
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


@lru_cache(maxsize=4096)
def converter(form: object) -> Convert:
    """Return the function that turns text, or a JSON value, into a value of a type.

    Args:
        form: The type.

    Returns:
        The function; it raises ValueError for a value that is not of the type.

    Raises:
        TypeError: The type is none that can be decoded.
    """
    form = _stripped(form)
    if form is Any or form is object:
        return lambda value: value
    scalar = _SCALARS.get(form) if isinstance(form, type) else None
    if scalar is not None:
        return scalar
    if form is None or form is type(None):
        return _to_none
    origin = get_origin(form)
    if origin is Literal:
        return _literal(get_args(form))
    if origin in (Union, types.UnionType):
        return _union(tuple(get_args(form)))
    if isinstance(form, type) and issubclass(form, enum.Enum):
        return _enum(form)
    if dataclasses.is_dataclass(form) and isinstance(form, type):
        return _dataclass(form)
    if typing_extensions.is_typeddict(form):
        return _typed_dict(form)  # type: ignore[arg-type]
    container = origin or form
    if container in _CONTAINERS:
        return _container(container, get_args(form))
    raise TypeError(f"cannot decode configuration as {form!r}")


def _to_str(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"{value!r} is not text")


def _to_bytes(value: object) -> bytes:
    return _to_str(value).encode()


def _to_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value.lower() in _TRUE:
            return True
        if value.lower() in _FALSE:
            return False
    raise ValueError(f"{value!r} is not a boolean: write true or false")


def _to_int(value: object) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(f"{value!r} is not an integer")
    if isinstance(value, int | float | str):
        try:
            return int(value)
        except (ValueError, OverflowError) as exc:
            raise ValueError(f"{value!r} is not an integer") from exc
    raise ValueError(f"{value!r} is not an integer")


def _to_float(value: object) -> float:
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            number = float(value)
        except (ValueError, OverflowError) as exc:
            raise ValueError(f"{value!r} is not a number") from exc
        if not math.isnan(number):
            return number
    raise ValueError(f"{value!r} is not a number")


def _to_decimal(value: object) -> Decimal:
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            number = Decimal(str(value))
        except ArithmeticError as exc:
            raise ValueError(f"{value!r} is not a decimal number") from exc
        if not number.is_nan():
            return number
    raise ValueError(f"{value!r} is not a decimal number")


def _to_uuid(value: object) -> UUID:
    try:
        return UUID(_to_str(value))
    except ValueError as exc:
        raise ValueError(f"{value!r} is not a UUID") from exc


def _to_datetime(value: object) -> datetime:
    try:
        return datetime.fromisoformat(_to_str(value))
    except ValueError as exc:
        raise ValueError(f"{value!r} is not an ISO 8601 date and time") from exc


def _to_date(value: object) -> date:
    try:
        return date.fromisoformat(_to_str(value))
    except ValueError as exc:
        raise ValueError(f"{value!r} is not an ISO 8601 date") from exc


def _to_timedelta(value: object) -> timedelta:
    try:
        if isinstance(value, str) and _DURATIONS.fullmatch(value):
            seconds = sum(float(m["number"]) * _UNITS[m["unit"]] for m in _DURATION.finditer(value))
            return timedelta(seconds=-seconds if value.startswith("-") else seconds)
        return timedelta(seconds=_to_float(value))
    except (ValueError, OverflowError) as exc:
        raise ValueError(f"{value!r} is not a duration: write seconds, or like 250ms or 1h30m") from exc


def _to_none(value: object) -> None:
    if value is None:
        return
    raise ValueError(f"{value!r} is not null")


_SCALARS: dict[object, Convert] = {
    str: _to_str,
    bytes: _to_bytes,
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    Decimal: _to_decimal,
    UUID: _to_uuid,
    datetime: _to_datetime,
    date: _to_date,
    timedelta: _to_timedelta,
}


def _literal(options: tuple[object, ...]) -> Convert:
    by_text = {str(option): option for option in options}

    def convert(value: object) -> object:
        for option in options:
            if value == option and type(value) is type(option):
                return option
        if isinstance(value, str) and value in by_text:
            return by_text[value]
        raise ValueError(f"{value!r} is none of {', '.join(map(repr, options))}")

    return convert


def _enum(form: type[enum.Enum]) -> Convert:
    by_text = {str(member.value): member for member in form}

    def convert(value: object) -> object:
        for member in form:
            if member.value == value and type(member.value) is type(value):
                return member
        if isinstance(value, str):
            found = by_text.get(value, form.__members__.get(value))
            if found is not None:
                return found
        raise ValueError(f"{value!r} is none of {', '.join(by_text)}")

    return convert


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
        raise ValueError(f"{value!r} is not an object, as {what} needs")
    if unknown := value.keys() - known.keys():
        raise ValueError(f"{what} has no {', '.join(sorted(map(repr, unknown)))}")
    if missing := required - value.keys():
        raise ValueError(f"{what} needs {', '.join(sorted(map(repr, missing)))}")
    converted = {}
    for name, item in value.items():
        try:
            converted[name] = known[name](item)
        except ValueError as exc:
            raise ValueError(f"{name}: {exc}") from exc
    return converted


def _dataclass(form: type) -> Convert:
    hints = typing.get_type_hints(form, include_extras=True)
    fields = [f for f in dataclasses.fields(form) if f.init]
    required = frozenset(f.name for f in fields if not has_default(f))
    known = {f.name: _later(hints[f.name]) for f in fields}

    def convert(value: object) -> object:
        return construct(form, _fields(value, known, required, form.__name__))

    return convert


def has_default(field: dataclasses.Field[Any]) -> bool:
    """Whether a dataclass field may be left out."""
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


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
    except (TypeError, ArithmeticError, AssertionError) as exc:
        raise ValueError(f"{form.__name__} refuses the value: {exc}") from exc


def _typed_dict(form: type) -> Convert:
    hints = typing_extensions.get_type_hints(form, include_extras=True)
    known = {name: _later(hint) for name, hint in hints.items()}
    required = frozenset(getattr(form, "__required_keys__", ()))
    return lambda value: _fields(value, known, required, form.__name__)


def _later(hint: object) -> Convert:
    """Return a converter that is built at its first use, so that a type may contain itself."""
    return lambda value: converter(hint)(value)


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
    item = _later(arguments[0] if arguments else Any)

    def convert(value: object) -> object:
        if not isinstance(value, list):
            raise ValueError(f"{value!r} is not a list")
        try:
            return make(map(item, value))
        except TypeError as exc:  # an unhashable item of a set
            raise ValueError(f"{value!r} cannot be a {make.__name__}: {exc}") from exc

    return convert


def _fixed_tuple(arguments: tuple[object, ...]) -> Convert:
    items = [_later(argument) for argument in arguments]

    def convert(value: object) -> object:
        if not isinstance(value, list) or len(value) != len(items):
            raise ValueError(f"{value!r} is not a list of {len(items)}")
        return tuple(to(item) for to, item in zip(items, value, strict=True))

    return convert


def _dict(arguments: tuple[object, ...]) -> Convert:
    to_key, to_value = _later(arguments[0]), _later(arguments[1])

    def convert(value: object) -> object:
        if not isinstance(value, dict):
            raise ValueError(f"{value!r} is not an object")
        return {to_key(key): to_value(item) for key, item in value.items()}

    return convert


# Encoding ------------------------------------------------------------------------------------------------------


def _plain(value: object) -> object:
    """Return a value as JSON would have it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    raise TypeError(f"cannot store {value!r} of type {type(value).__name__} as configuration")


def _key(key: object) -> str:
    plain = _plain(key)
    return plain if isinstance(plain, str) else json.dumps(plain)
