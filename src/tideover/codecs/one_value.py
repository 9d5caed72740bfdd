"""The budget for decoding one value, and the results kept while decoding.

Foreign bytes must not stop the event loop: a short list may make many objects, each of its items may be tried as
each member of a union, and again for each item around it. So each value has a budget, which grows with its bytes,
and each conversion costs about one point a microsecond. Ordinary values need a tenth of the budget. Nothing here
looks at a clock, so that a value is refused everywhere or nowhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from tideover.codecs.refusals import Refusal

# Points for each byte, and for how many bytes a shorter value has them.
_POINTS_A_BYTE = 0.8
_LEAST_BYTES = 64 * 1024
# Points for each member of a union that refuses a value.
REFUSED = 8
# How many different items may have the same hash: each of them is compared with all the others.
_ALIKE = 8


class TooMuch(Refusal):
    """Raised when a value's budget is spent: nothing else is tried."""


@dataclass(slots=True)
class _Work:
    """What is left of the budget, and the results: by type, and by the part's id."""

    left: float
    found: dict[object, dict[int, object]] = field(default_factory=dict)


_work: ContextVar[_Work | None] = ContextVar("work", default=None)


@contextmanager
def one_value(size: int) -> Iterator[None]:
    """Give the block the budget of a value of `size` bytes."""
    token = _work.set(_Work(_POINTS_A_BYTE * max(size, _LEAST_BYTES)))
    try:
        yield
    finally:
        _work.reset(token)


def spend(points: int) -> None:
    """Take points off the budget of the value that is being decoded, if it has one; raise `TooMuch` at its end."""
    work = _work.get()
    if work is not None:
        work.left -= points
        if work.left < 0:
            raise TooMuch("it would take too long to decode: it has too many parts for its type")


def once(convert: Callable[[object], object], name: object) -> Callable[[object], object]:
    """Return a converter that remembers the result for each part, a refusal included.

    A union of types that contain themselves would convert each part twice for each part around it: 2^depth times.
    """

    def convert_once(value: object) -> object:
        work = _work.get()
        assert work is not None
        spend(3)
        found = work.found.setdefault(name, {})
        # The parts live as long as the value is decoded, so that each has its own id.
        if id(value) not in found:
            try:
                found[id(value)] = convert(value)
            except TooMuch:
                raise
            except Refusal as exc:
                # Without the exception's frames and their values; most refusals have the same text.
                found[id(value)] = _Refused(sys.intern(str(exc)), exc.exception)
        result = found[id(value)]
        if isinstance(result, _Refused):
            raise Refusal(result.text, result.exception)
        return result

    return convert_once


@dataclass(frozen=True, slots=True)
class _Refused:
    text: str
    exception: Exception | None


def require_spread(items: list[object]) -> None:
    """Refuse many different items of one hash: the numbers 0, p, 2p ... have that, with p = 2^61 - 1."""
    hashes: dict[int, int] = {}
    for item in items:
        hashes[hash(item)] = hashes.get(hash(item), 0) + 1
    if not any(count > _ALIKE for count in hashes.values()):
        return
    different: dict[int, list[object]] = {}
    for item in items:
        if hashes[hash(item)] > _ALIKE and item not in (known := different.setdefault(hash(item), [])):
            known.append(item)
            if len(known) > _ALIKE:
                raise Refusal(f"more than {_ALIKE} different items have the same hash")
