"""Bytes that others wrote, as values or as one error.

What stands in etcd, in a shared folder or in a message may be of another version, of a program with a fault, or
of an attacker. Every decoder of such bytes uses this module, which guarantees: `Malformed` and
nothing else is raised, whatever the bytes are; sizes, depths and numbers have bounds; text is Unicode that can be
encoded; and no message shows what was read. Bytes that mean two things, because a name occurs twice, are refused.

Not guaranteed: that the value makes sense. That is for the noun to say, with `integer`, `number` and `text`.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

INT64 = 2**63 - 1
UINT64 = 2**64 - 1

# Bytes of one document; etcd holds no more than 1.5 MiB under a key unless it is told otherwise.
SIZE = 2 * 1024 * 1024
# How deep objects and lists may stand in each other, and how many values a document may have.
DEPTH = 32
VALUES = 20_000

# The longest number written here is a fencing token of 80 bits, 24 digits.
_LONGEST_INTEGER = 25
# One that is not closed ends with the bytes: else a search would begin again at each of its quotes.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_HEXADECIMAL = re.compile(r"[0-9a-f]{1,16}")


class Malformed(ValueError):
    """Raised when foreign bytes are not what is asked for."""


def load_json(raw: bytes, *, size: int = SIZE, values: int | None = VALUES) -> object:
    """Return a JSON document.

    Raises:
        Malformed: It is none, or is beyond a bound.
    """
    if len(raw) > size:
        raise Malformed(f"it has more than {size:,} bytes")
    if values is not None and raw.count(b",") > values and _STRING.sub(b"", raw).count(b",") > values:
        # Before they are made: half a million empty lists take a second and 40 MiB.
        raise Malformed(f"it holds more than {values:,} values")
    try:
        found = json.loads(
            raw.decode(),
            parse_int=_parse_integer,
            parse_float=_parse_float,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique,
        )
    except Malformed as exc:
        problem = str(exc)
    except UnicodeDecodeError:
        problem = "it is not JSON: not UTF-8 text"
    except RecursionError:
        problem = "it is not JSON: nested too deeply"
    except ValueError as exc:
        problem = f"it is not JSON: {exc}"
    else:
        _check(found)
        return found
    # Raised outside the handler: a chained error would keep all that was read, secrets included, alive.
    raise Malformed(problem)


def load_object(raw: bytes, *, size: int = SIZE) -> dict[str, Any]:
    """Return a JSON document that is an object; see `load_json`."""
    found = load_json(raw, size=size)
    if not isinstance(found, dict):
        raise Malformed("it is not an object")
    return found


def _parse_integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise Malformed("it holds a number that is too large")
    return int(digits)


def _parse_float(digits: str) -> float:
    found = float(digits)
    if not math.isfinite(found):
        raise Malformed("it holds a number that is too large")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not a number")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("a name occurs twice in one object")
    return found


def _check(document: object) -> None:
    """Look at all values, level by level, so that depth costs no stack."""
    level = [document]
    for _ in range(DEPTH + 1):
        below: list[object] = []
        for value in level:
            if isinstance(value, str):
                _require_text(value)
            elif isinstance(value, list):
                below += value
            elif isinstance(value, dict):
                _require_text("".join(value))
                below += value.values()
        if not below:
            return
        level = below
    raise Malformed("it is not JSON: nested too deeply")


def _require_text(text: str) -> None:
    if not is_text(text):
        raise Malformed("it holds text that is not Unicode")


def is_text(text: str) -> bool:
    """Return whether a text can be encoded and printed: JSON can hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# In the functions below `what` is the value's name in messages.


def integer(value: object, what: str, *, least: int = 0, most: int = INT64) -> int:
    """Return an integer of a document; `true` and `false` are none."""
    if type(value) is not int:
        raise Malformed(f"{what} is not an integer")
    return _within(value, what, least, most)


def number(value: object, what: str, *, least: float, most: float) -> float:
    """Return a number of a document."""
    if type(value) not in (int, float):
        raise Malformed(f"{what} is not a number")
    assert isinstance(value, int | float)
    if not least <= value <= most:
        raise Malformed(f"{what} is out of range")
    return float(value)


def text(value: object, what: str, *, longest: int | None = None) -> str:
    """Return a text of a document, of so many characters at the most."""
    if not isinstance(value, str):
        raise Malformed(f"{what} is not a text")
    if longest is not None and len(value) > longest:
        raise Malformed(f"{what} has more than {longest} characters")
    return value


def decimal(digits: str, what: str, *, least: int = 0, most: int = INT64) -> int:
    """Return the number that ASCII digits spell; no more digits than the largest has are looked at."""
    if not (digits.isascii() and digits.isdigit()) or len(digits) > len(str(most)):
        raise Malformed(f"{what} is not an integer")
    return _within(int(digits), what, least, most)


def hexadecimal(digits: str, what: str, *, most: int = UINT64) -> int:
    """Return the number that lower-case hexadecimal digits spell, as in etcd's ids."""
    if not _HEXADECIMAL.fullmatch(digits):
        raise Malformed(f"{what} is not a hexadecimal number")
    return _within(int(digits, 16), what, 0, most)


def _within(value: int, what: str, least: int, most: int) -> int:
    if not least <= value <= most:
        raise Malformed(f"{what} is out of range")
    return value
