"""A hold in the ledger as JSON: a line of the file, a value in etcd."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from tideover.clock import Stamp
from tideover.foreign_bytes import Malformed, integer, load_object, number, text
from tideover.locks.rules.overlaps import Hold
from tideover.shown import shown
from tideover.types import LockMode

# Seconds for which a hold is of interest.
KEPT = 7 * 86_400.0
# How many holds are kept of one process, at the most.
MOST_HOLDS = 20_000
# Bytes of one.
LONGEST_LINE = 65_536

# What is written here stays far below these.
_LONGEST_WORD = 512
_LARGEST_TOKEN = 2**80 - 1
_LARGEST_TIME = 1e12


def published(base: str) -> bytes:
    """Return what the keys of published holds begin with."""
    return f"{base}tideover/ledger/".encode()


def latest(holds: Iterable[Hold]) -> list[Hold]:
    """Return the last one of each id."""
    return list({hold.id: hold for hold in holds}.values())


def encode(hold: Hold) -> bytes:
    """Return a hold as JSON."""
    return json.dumps(asdict(hold), separators=(",", ":")).encode()


def decode(line: bytes) -> Hold:
    """Return the hold in a line of JSON; raise `Malformed` if there is none."""
    found = load_object(line, size=LONGEST_LINE)
    try:
        ended = found["ended"]
        return Hold(
            id=text(found["id"], "'id'", longest=_LONGEST_WORD),
            name=text(found["name"], "'name'"),
            owner=text(found["owner"], "'owner'", longest=_LONGEST_WORD),
            where=shown(text(found["where"], "'where'", longest=_LONGEST_WORD)),
            mode=_mode(found["mode"]),
            token=integer(found["token"], "'token'", most=_LARGEST_TOKEN),
            began=_stamp(found["began"], "'began'"),
            ended=None if ended is None else _stamp(ended, "'ended'"),
            seen=_stamp(found["seen"], "'seen'"),
        )
    except KeyError as exc:
        problem = f"it has no {exc}"
    raise Malformed(problem)


def _mode(found: object) -> LockMode:
    if found not in tuple(LockMode):
        raise Malformed("'mode' is unknown")
    return LockMode(str(found))


def _stamp(found: object, what: str) -> Stamp:
    if not isinstance(found, dict):
        raise Malformed(f"{what} is not an object")
    wall, boot = (
        number(found.get(name), f"{what}: {name}", least=-_LARGEST_TIME, most=_LARGEST_TIME)
        for name in ("wall", "boot")
    )
    return Stamp(wall, boot, text(found.get("boot_id"), f"{what}: boot_id", longest=_LONGEST_WORD))
