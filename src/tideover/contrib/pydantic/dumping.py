"""JSON for pydantic, of what was decoded; and JSON of pydantic's values, which reads back as the same."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Literal

import pydantic
import pydantic_core

from tideover.codecs.scalars import Written
from tideover.contrib.pydantic.fields import infos_of, is_model, paths_of, set_at

Dump = Callable[[pydantic.TypeAdapter[Any], object], object]


def as_json(value: object) -> str:
    """Return what JSON was made of, without any loss of digits."""
    if isinstance(value, Written):
        return value.text
    if isinstance(value, list):
        return f"[{','.join(map(as_json, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{json.dumps(key)}:{as_json(item)}' for key, item in value.items())}}}"
    return json.dumps(value)


def as_plain(adapter: pydantic.TypeAdapter[Any], value: object) -> object:
    """Return a value as JSON would have it, secrets included, so that reading gives the same value.

    Fields are named by their aliases, by their names, or as they are read: whichever reads back.

    Raises:
        ValueError: Neither reads back as the same; the text does not show the value.
    """
    shown = _public(adapter, value)
    for dump in _DUMPS:
        try:
            plain = pydantic_core.from_json(pydantic_core.to_json(dump(adapter, value)), allow_inf_nan=False)
            back = adapter.validate_json(as_json(plain))
        except ValueError:  # pydantic's errors of both directions are such
            continue
        if _public(adapter, back) == shown:
            return plain
    name = type(value).__name__
    raise ValueError(
        f"cannot store this {name}, which would not read back as the same: it is not what its type says, has NaN "
        "in it, or is written otherwise than it is read"
    )


def _public(adapter: pydantic.TypeAdapter[Any], value: object) -> object:
    """Return what is compared: neither private attributes nor fields that are never written."""
    return adapter.dump_python(value, warnings=False)


def _dump(mode: Literal["json", "python"], by_alias: bool) -> Dump:
    def dump(adapter: pydantic.TypeAdapter[Any], value: object) -> object:
        return _opened(adapter.dump_python(value, mode=mode, by_alias=by_alias, round_trip=True, warnings=False))

    return dump


_DUMPS: tuple[Dump, ...] = (
    _dump("json", True),
    _dump("json", False),
    _dump("python", True),
    _dump("python", False),
    lambda _, value: _opened(value),
)


def _opened(value: Any) -> object:
    """Return the parts of a value: secrets as they are, instead of asterisks, and fields as they are read."""
    if hasattr(value, "get_secret_value"):
        return _opened(value.get_secret_value())
    if isinstance(value, pydantic.RootModel):
        return _opened(value.root)
    if is_model(type(value)):
        fields: dict[str, object] = {}
        for name, info in infos_of(type(value)).items():
            set_at(fields, paths_of(type(value), name, info)[0], _opened(getattr(value, name)))
        return fields
    if isinstance(value, dict):
        return {key: _opened(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_opened(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    return value
