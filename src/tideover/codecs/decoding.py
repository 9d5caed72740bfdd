"""From the bytes in etcd to a typed value."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, get_origin

from tideover.codecs.forms import identity, name_of, options_of, stripped
from tideover.codecs.libraries import Library, libraries, library_of
from tideover.codecs.one_value import TooMuch, one_value
from tideover.codecs.refusals import Refusal, asking
from tideover.codecs.scalars import Convert, Written, scalar
from tideover.codecs.structures import converter, first_fit

# How many types are remembered.
_REMEMBERED = 1024


class Decoder:
    """Turns stored bytes into values of one type; decoders with the same `identity` decode alike.

    Raises:
        TypeError: The type, or one that it is made of, cannot be decoded.
    """

    def __init__(self, form: object, identity: object) -> None:
        self.identity = identity
        self.name = name_of(form)
        self._decode = _made(form)

    def __call__(self, data: bytes) -> object:
        """Return stored bytes as a value. Raises `Refusal`: they are no value of the type."""
        try:
            return asking(self.name, self._decode, data)
        except Refusal as exc:
            refusal = exc
        # Python's own error, which the refusal came from, may quote the value.
        refusal.__context__ = None
        raise refusal


_known: dict[object, Decoder] = {}


def add_library(library: Library) -> None:
    """Add a library that reads and writes its own types."""
    libraries.append(library)
    _known.clear()


def decoder(form: object) -> Decoder:
    """Return the type's decoder, made once and whole, so that a type that cannot be decoded is found at once.

    Raises:
        TypeError: The type, or one that it is made of, cannot be decoded; the message says which, and where.
        NameError: A type that it is made of has not been defined yet.
    """
    name = identity(form)
    try:
        known = _known.get(name)
    except TypeError:  # no type, but for example a list
        return Decoder(form, name)
    if known is None:
        known = Decoder(form, name)
        if len(_known) >= _REMEMBERED:
            _known.clear()
        _known[name] = known
    return known


def decode(data: bytes, form: object) -> object:
    """Return stored bytes as a value of a type.

    Args:
        form: The type: `str`, `bytes`, `int`, `float`, `bool`, `datetime`, `date`, `timedelta` (`"250ms"`,
            `"1h30m"` or seconds), `Decimal`, `UUID`, `Path`, `IPv4Address` and its kin, an enum, a `Literal`, a
            subclass of `str`, `int` or `float`, a dataclass, a `TypedDict`, a list, tuple, set or dict of these,
            or a union of these.

    Returns:
        The value.

    Raises:
        ValueError: The bytes are no such value; the text does not show them.
        TypeError: The type cannot be decoded.
    """
    return decoder(form)(data)


def _made(form: object) -> Callable[[bytes], object]:
    form, options = stripped(form), options_of(form)
    convert = converter(form)
    if form is bytes:
        return bytes
    if form is str or form is Any or form is object:
        return _text
    if is_scalar(form):
        return partial(_any_text if library_of(form) else _plain_text, convert)
    some = [option for option in options if option not in (None, type(None))]
    if len(some) == 1 and len(options) > 1 and some[0] is not str and is_scalar(some[0]):
        return _optional(_made(some[0]), convert)
    # Plain text is no JSON string: the first scalar that accepts the text wins, though `str` may be another.
    # A type with a library's notes may be stored as text too: a validator may make a list of it.
    as_text = [
        converter(option)
        for option in options
        if is_scalar(option) or option in (Any, object) or get_origin(option) is Annotated
    ]
    return lambda data: _structured(data, convert, first_fit(as_text) if as_text else None, bytes in options)


def _plain_text(convert: Convert, data: bytes) -> object:
    return convert(_text(data))


def _any_text(convert: Convert, data: bytes) -> object:
    """Decode what a library may read as text, as text without white space around it, or as JSON."""
    text = _text(data)
    with one_value(len(data)):
        for each in dict.fromkeys((text, text.strip())):
            try:
                return convert(each)
            except Refusal as exc:
                refusal = exc
        try:
            return convert(parse_json(text))
        except Refusal:
            raise refusal from None


def is_scalar(form: object) -> bool:
    """Whether a type's values are stored as plain text."""
    if (library := library_of(form)) is not None:
        return library.is_scalar(form)
    if isinstance(form, type):
        return issubclass(form, enum.Enum) or scalar(form) is not None
    return get_origin(form) is Literal


def _optional(decode: Callable[[bytes], object], convert: Convert) -> Callable[[bytes], object]:
    """Return what decodes `X | None` as `X` alone; only `null` is None."""

    def optional(data: bytes) -> object:
        if data.strip() == b"null":
            return None
        try:
            return decode(data)
        except Refusal as exc:
            refusal = exc
        try:
            return convert(parse_json(_text(data)))
        except Refusal:
            raise refusal from None

    return optional


def _structured(data: bytes, convert: Convert, as_text: Convert | None, as_bytes: bool) -> object:
    try:
        text = _text(data)
    except Refusal:
        if as_bytes:
            return data
        raise
    try:
        found = parse_json(text)
        with one_value(len(data)):
            return convert(found)
    except TooMuch:
        raise
    except Refusal as exc:
        refusal = exc
    if as_text is None:
        raise refusal
    try:  # `int | str` and the like: text that happens to be JSON is still text
        return as_text(text)
    except Refusal as exc:
        # The error as JSON, if the text is JSON.
        raise (exc if isinstance(refusal, _NotJson) else refusal) from None


class _NotJson(Refusal):
    """Raised when a text is not JSON."""


def parse_json(text: str) -> object:
    """Parse JSON; each number with a fraction keeps its text. Raises `Refusal`: the text is not JSON."""
    try:
        return json.loads(text, parse_float=Written, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise _NotJson(f"not JSON: {exc}") from None


def _no_constant(name: str) -> object:
    raise _NotJson(f"{name} is not JSON")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Refusal("not UTF-8 text") from None
