"""From the bytes in etcd to a typed value."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from tideover.codecs.structures import converter, is_scalar, stripped, takes_bytes, takes_text


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


def _decoder(form: object) -> Callable[[bytes], object]:
    try:
        hash(form)
    except TypeError:  # `Annotated` may carry anything
        return _make_decoder(form)
    # With its text, because unions in another order are equal and yet decode differently.
    return _known_decoder(form, repr(form))


@lru_cache(maxsize=1024)
def _known_decoder(form: object, _: str) -> Callable[[bytes], object]:
    return _make_decoder(form)


def _make_decoder(form: object) -> Callable[[bytes], object]:
    form = stripped(form)
    if form is bytes:
        return bytes
    if form is str or form is Any or form is object:
        return _text
    convert = converter(form)
    if is_scalar(form):
        return lambda data: convert(_text(data).strip())

    def structured(data: bytes) -> object:
        try:
            text = _text(data)
        except ValueError:
            if takes_bytes(form):
                return data
            raise
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as exc:
            if not takes_text(form):
                raise ValueError(f"not JSON: {exc}") from None
            value = text
        try:
            return convert(value)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        except ValueError:
            # `str | None` and the like: text that happens to be JSON is still text.
            if takes_text(form):
                return convert(text)
            raise

    return structured


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
