"""Scalars, from text or from a parsed JSON value. No message here shows the value: it may be a secret."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import PurePath
from uuid import UUID

from tideover.codecs.one_value import spend
from tideover.codecs.refusals import Refusal, asking

# Converts text or a JSON value; raises Refusal for a value that is not of the type.
Convert = Callable[[object], object]

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d)")
_DURATIONS = re.compile(r"-?(?:\d++(?:\.\d++)?+(?:ms|s|m|h|d))++")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Written(float):
    """A number in JSON, with its text: a `float` may lose digits."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Written:
        """Keep the text."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def plain(value: object) -> object:
    """Return a JSON value with each number as an ordinary `float`."""
    if isinstance(value, Written):
        return float(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def _to_str(value: object) -> str:
    if isinstance(value, str):
        return value
    raise Refusal("not text")


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
    raise Refusal("not a boolean: write true or false")


def _to_int(value: object) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise Refusal("not an integer")
    if isinstance(value, int | float | str):
        try:
            return int(value)
        except (ValueError, OverflowError):
            raise Refusal("not an integer") from None
    raise Refusal("not an integer")


def _to_float(value: object) -> float:
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise Refusal("not a number") from None
        if not math.isnan(number):
            return number
    raise Refusal("not a number")


def _to_decimal(value: object) -> Decimal:
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            number = Decimal(value.text if isinstance(value, Written) else str(value))
        except ArithmeticError:
            raise Refusal("not a decimal number") from None
        if not number.is_nan():
            return number
    raise Refusal("not a decimal number")


def _to_timedelta(value: object) -> timedelta:
    spend(3)
    try:
        if isinstance(value, str) and _DURATIONS.fullmatch(value):
            seconds = sum(float(m["number"]) * _UNITS[m["unit"]] for m in _DURATION.finditer(value))
            return timedelta(seconds=-seconds if value.startswith("-") else seconds)
        return timedelta(seconds=_to_float(value))
    except (ValueError, OverflowError):
        raise Refusal("not a duration: write seconds, or like 250ms or 1h30m") from None


def _from_text(parse: Callable[[str], object], what: str, points: int = 0) -> Convert:
    def convert(value: object) -> object:
        spend(points)
        try:
            return parse(_to_str(value))
        except ValueError:
            raise Refusal(f"not {what}") from None

    return convert


def to_none(value: object) -> None:
    if value is None:
        return
    raise Refusal("not null")


def stripping(convert: Convert) -> Convert:
    """Return a converter that strips white space: `etcdctl put KEY < file` brings a newline."""
    return lambda value: convert(value.strip() if isinstance(value, str) else value)


_BARE: dict[type, Convert] = {
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    Decimal: _to_decimal,
    UUID: _from_text(UUID, "a UUID"),
    datetime: _from_text(datetime.fromisoformat, "an ISO 8601 date and time"),
    date: _from_text(date.fromisoformat, "an ISO 8601 date"),
    timedelta: _to_timedelta,
    ipaddress.IPv4Address: _from_text(ipaddress.IPv4Address, "an IPv4 address", 3),
    ipaddress.IPv6Address: _from_text(ipaddress.IPv6Address, "an IPv6 address", 4),
    ipaddress.IPv4Interface: _from_text(ipaddress.IPv4Interface, "an IPv4 interface", 10),
    ipaddress.IPv6Interface: _from_text(ipaddress.IPv6Interface, "an IPv6 interface", 10),
    ipaddress.IPv4Network: _from_text(ipaddress.IPv4Network, "an IPv4 network", 9),
    ipaddress.IPv6Network: _from_text(ipaddress.IPv6Network, "an IPv6 network", 9),
}
SCALARS: dict[type, Convert] = {str: _to_str, bytes: _to_bytes} | {
    form: stripping(convert) for form, convert in _BARE.items()
}


# Whether a text of the type has colons, and whether it may have a slash.
_ADDRESSES: dict[object, tuple[bool, bool]] = {
    ipaddress.IPv4Address: (False, False),
    ipaddress.IPv4Interface: (False, True),
    ipaddress.IPv4Network: (False, True),
    ipaddress.IPv6Address: (True, False),
    ipaddress.IPv6Interface: (True, True),
    ipaddress.IPv6Network: (True, True),
}


def shape_of_address(form: object) -> Callable[[object], bool] | None:
    """Return the test for the form of one kind of address, interface or network; None for any other type."""
    if not isinstance(form, type) or form not in _ADDRESSES:
        return None
    colons, slash = _ADDRESSES[form]
    return lambda value: isinstance(value, str) and (":" in value) is colons and (slash or "/" not in value)


def scalar(form: type) -> Convert | None:
    """Return the converter of a scalar type: one of `SCALARS`, a path, a subclass of text or number. Else None."""
    if form in SCALARS:
        return SCALARS[form]
    if issubclass(form, PurePath):
        return stripping(_made(form, _to_path_text))
    base = next((base for base in (str, int, float) if issubclass(form, base)), None)
    return None if base is None else _made(form, SCALARS[base])


def _to_path_text(value: object) -> str:
    spend(2)
    text = _to_str(value)
    if not text or "\0" in text:
        raise Refusal("not a path")
    return text


def _made(form: type, convert: Convert) -> Convert:
    """Return the converter of a foreign class, which may have checks of its own."""
    return lambda value: asking(form.__name__, form, convert(value))
