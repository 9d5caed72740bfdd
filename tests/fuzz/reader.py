"""A reader: what turns bytes of others into a value, or raises the one error that it declares."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

Read = Callable[[bytes], object]


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        name: What it reads.
        open: Returns what reads, for as long as the context lasts.
        errors: What it may raise; anything else is a fault.
        seeds: Bytes that it takes, to begin with.
        cost: How many times dearer than the cheap ones it is.
    """

    name: str
    open: Callable[[], AbstractContextManager[Read]]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]
    cost: int = 1


def plain(name: str, read: Read, errors: type[Exception] | tuple[type[Exception], ...], *seeds: bytes) -> Reader:
    """Return a reader that is a function."""
    return Reader(name, lambda: nullcontext(read), errors if isinstance(errors, tuple) else (errors,), seeds)
