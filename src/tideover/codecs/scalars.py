"""Scalars, from text or from what JSON made of it. No message here shows the value: it may be a secret."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

# Takes text, or what JSON made of it; raises ValueError for what is not of the type.
Convert = Callable[[object], object]

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d)")
_DURATIONS = re.compile(r"-?(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _to_str(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError("not text")


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
    raise ValueError("not a boolean: write true or false")


def _to_int(value: object) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError("not an integer")
    if isinstance(value, int | float | str):
        try:
            return int(value)
        except (ValueError, OverflowError):
            raise ValueError("not an integer") from None
    raise ValueError("not an integer")


def _to_float(value: object) -> float:
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise ValueError("not a number") from None
        if not math.isnan(number):
            return number
    raise ValueError("not a number")


def _to_decimal(value: object) -> Decimal:
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            number = Decimal(str(value))
        except ArithmeticError:
            raise ValueError("not a decimal number") from None
        if not number.is_nan():
            return number
    raise ValueError("not a decimal number")


def _to_uuid(value: object) -> UUID:
    try:
        return UUID(_to_str(value))
    except ValueError:
        raise ValueError("not a UUID") from None


def _to_datetime(value: object) -> datetime:
    try:
        return datetime.fromisoformat(_to_str(value))
    except ValueError:
        raise ValueError("not an ISO 8601 date and time") from None


def _to_date(value: object) -> date:
    try:
        return date.fromisoformat(_to_str(value))
    except ValueError:
        raise ValueError("not an ISO 8601 date") from None


def _to_timedelta(value: object) -> timedelta:
    try:
        if isinstance(value, str) and _DURATIONS.fullmatch(value):
            seconds = sum(float(m["number"]) * _UNITS[m["unit"]] for m in _DURATION.finditer(value))
            return timedelta(seconds=-seconds if value.startswith("-") else seconds)
        return timedelta(seconds=_to_float(value))
    except (ValueError, OverflowError):
        raise ValueError("not a duration: write seconds, or like 250ms or 1h30m") from None


def to_none(value: object) -> None:
    if value is None:
        return
    raise ValueError("not null")


SCALARS: dict[object, Convert] = {
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
