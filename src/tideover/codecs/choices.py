"""Types with a fixed set of values: `Literal` and enums."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from tideover.codecs.encoding import encode
from tideover.codecs.one_value import spend
from tideover.codecs.refusals import Refusal, asking
from tideover.codecs.scalars import SCALARS, Convert, Written


def choice(options: Iterable[tuple[object, object]], names: Iterable[str]) -> Convert:
    """Return the converter for pairs of a stored value and its meaning; `names` is for errors."""
    options = list(options)
    # A table, as there may be many options; the first of two equal ones counts.
    by_stored = {(type(stored), stored): option for stored, option in reversed(options) if _is_plain(stored)}
    # Where a text may mean two options, the one that is a text counts.
    by_text = {
        text: option
        for are_texts in (False, True)
        for stored, option in options
        if isinstance(stored, str) is are_texts
        for text in _texts(stored)
    }
    others = [(stored, option) for stored, option in options if not _is_plain(stored)]
    refusal = f"none of {', '.join(names)}"

    def convert(value: object) -> object:
        value = float(value) if isinstance(value, Written) else value
        if _is_plain(value) and (type(value), value) in by_stored:
            return by_stored[type(value), value]
        for stored, option in others:
            if type(stored) is type(value) and stored == value:
                return option
        if isinstance(value, str):
            for text in (value, value.strip()):
                if text in by_text:
                    return by_text[text]
        raise Refusal(refusal)

    return convert


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _texts(stored: object) -> tuple[str, ...]:
    """Return the texts that an option may be stored as."""
    try:
        return str(stored), encode(stored).decode()
    except (TypeError, ValueError):  # of an enum that can only be written by name
        return (str(stored),)


def enum_choice(form: type[enum.Enum]) -> Convert:
    """Return the converter to a member of an enum, by value or name, or to a combination of flags."""
    by_value = choice([(member.value, member) for member in form], (str(member.value) for member in form))

    def convert(value: object) -> object:
        try:
            return by_value(value)
        except Refusal:
            if isinstance(value, str) and value.strip() in form.__members__:
                return form.__members__[value.strip()]
            if not issubclass(form, enum.Flag):
                raise
        spend(4)
        return asking(form.__name__, form, _flags(value))

    return convert


def _flags(value: object) -> int:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = SCALARS[int](value)
    if isinstance(value, int):
        return int(value)
    raise Refusal("no combination of flags")
