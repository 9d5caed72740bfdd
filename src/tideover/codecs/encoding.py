"""From a typed value to the bytes in etcd."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import PurePath
from uuid import UUID

from tideover.codecs.libraries import how_to_import, library_of, module_for

_IP = IPv4Address | IPv4Interface | IPv4Network | IPv6Address | IPv6Interface | IPv6Network


def encode(value: object) -> bytes:
    """Return the bytes that `decode` with the value's own type reads.

    Raises:
        TypeError: The value is of a type that cannot be encoded.
        ValueError: No reader would get the value back: NaN, a path with white space around it, or bytes that are
            not UTF-8.
    """
    if isinstance(value, bytes):
        return value
    plain, library = _plain(value), library_of(type(value))
    if isinstance(plain, str) and (library is None or library.is_scalar(type(value))):
        return plain.encode()
    return json.dumps(plain, ensure_ascii=False, allow_nan=False).encode()


def _plain(value: object) -> object:
    """Return a value as JSON would have it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, str | int):
        return value
    if (library := library_of(type(value))) is not None:
        return library.plain(value)
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError("NaN cannot be stored: no reader accepts it")
        return value if math.isfinite(value) else str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal) and value.is_nan():
        raise ValueError("NaN cannot be stored: no reader accepts it")
    if isinstance(value, PurePath) and str(value) != str(value).strip():
        raise ValueError("a path with white space around it cannot be stored: readers leave that out")
    if isinstance(value, Decimal | UUID | PurePath | _IP):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if (module := module_for(type(value))) is not None:
        raise TypeError(f"cannot store a {type(value).__name__} as configuration: {how_to_import(module)}")
    raise TypeError(f"cannot store a {type(value).__name__} as configuration")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    raise ValueError("bytes that are not UTF-8 can only be stored by themselves, not within JSON")


def _key(key: object) -> str:
    plain = _plain(key)
    return plain if isinstance(plain, str) else json.dumps(plain)
