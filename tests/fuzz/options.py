"""Names and durations, as an application may hand them on from its own users: none breaks out of `ValueError`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.fuzz.reader import Read, Reader
from tideover import Coordinator, connect
from tideover.discovery.endpoint import check_name
from tideover.errors import InvalidRequest
from tideover.options import Options
from tideover.testing import MemoryStore

NUMBERS: tuple[object, ...] = (
    10**400, -(10**400), 2**63, 2**31, 60, 15, 5, 1, 0, -1, True, None,
    1e308, 1e300, 60.0, 4.5, 1e-320, 0.0, -0.0, float("nan"), float("inf"), -float("inf"), "15", b"15",
)  # fmt: skip


def _name(raw: bytes) -> str:
    """Return text that may have halves of characters in it, as file names and JSON have."""
    return raw.decode(errors="surrogateescape")


def _uses(tide: Coordinator) -> dict[str, Callable[[str], object]]:
    """Return what takes a name."""
    return {
        "lock": tide.lock,
        "leader": tide.leader,
        "election": tide.election,
        "service": check_name,
        "register": lambda name: tide.register(name, "http://h:1", instance=name),
        "url": lambda name: tide.register("api", name),
        "namespace": lambda name: Options(("h:1",), name, ()),
        "follow": lambda name: Options(("h:1",), "/shop", (name,)),
        "address": lambda name: tide.leader("a", address=name, value=name),
    }


def _wishes(tide: Coordinator) -> tuple[Callable[[Any], object], ...]:
    """Return what takes a number."""
    return (
        lambda number: tide.lock("a", ttl=number),
        lambda number: tide.lock("a", timeout=number),
        lambda number: tide.lock("a", lock_delay=number),
        lambda number: tide.leader("a", ttl=number),
        lambda number: tide.register("a", "http://h:1", ttl=number),
        lambda number: tide.register("a", "http://h:1", weight=number),
        lambda number: Options(("h:1",), "", (), start_timeout=number),
    )


@contextmanager
def _names() -> Iterator[Read]:
    tide = connect(store=MemoryStore())
    uses = _uses(tide)

    def read(raw: bytes) -> object:
        name = _name(raw)
        for use in uses.values():
            with suppress(ValueError, InvalidRequest):
                repr(use(name))
        return None

    yield read


@contextmanager
def _numbers() -> Iterator[Read]:
    tide = connect(store=MemoryStore())
    wishes = _wishes(tide)

    def read(raw: bytes) -> object:
        number = NUMBERS[raw[0] % len(NUMBERS)] if raw else None
        for wish in wishes:
            with suppress(ValueError, TypeError):
                repr(wish(number))
        return None

    yield read


NAMES = (Reader("names", _names, (), (b"orders/42", b"/shop", b"http://10.0.0.7:8000", b"a\xff")),)
OPTIONS = (Reader("durations", _numbers, (), tuple(bytes([n]) for n in range(len(NUMBERS)))),)
