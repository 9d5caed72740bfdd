"""What a candidate writes into an election's record, and the options that decide it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tideover.holders import process_name
from tideover.shown import quoted

OnOutage = Literal["step_down", "stay", "peers"]

# Bytes: the record is written every ttl / 3.
_MAX_VALUE = 65_536


@dataclass(frozen=True, slots=True)
class CandidateClaim:
    """What a candidate writes into the record when it holds it.

    Raises:
        TypeError: Address or value is not a string.
        ValueError: Address or value is too long to be written again and again.
    """

    policy: str  # what a holder does in an outage; all candidates must say the same
    address: str = ""
    value: str = ""
    name: Callable[[], str] = process_name
    stays: bool = False  # whether the holder leads on beyond the deadline, until it sees another record
    peer: str = ""  # where the other candidates reach this one, if they ask each other in an outage
    limit: float = 0.0  # seconds for which they may then confirm the holder without a renewal; else 0

    def __post_init__(self) -> None:
        for what, text in (("address", self.address), ("value", self.value)):
            if not isinstance(text, str):
                raise TypeError(f"{what} must be a string, not {quoted(text)}")
            if len(text.encode()) > _MAX_VALUE:
                raise ValueError(f"{what} must have at most {_MAX_VALUE} bytes, not {len(text.encode())}")


@dataclass(frozen=True, slots=True)
class LeaderOptions:
    """The options of a candidacy, as `Coordinator.leader` documents them."""

    ttl: float = 15.0
    on_outage: OnOutage | None = None
    address: str = ""
    value: str = ""


def check_name(name: str) -> None:
    """Reject a malformed name, and one whose record would be another election's token."""
    if not isinstance(name, str):
        raise TypeError(f"an election's name must be a string, not {quoted(name)}")
    parts = name.split("/")
    if "\0" in name or "" in parts or (len(parts) > 1 and parts[-1] == "token"):
        raise ValueError(
            f"an election's name must be like 'reaper' or 'a/b', and not end in '/token': {quoted(name)}"
        )


def key_of(namespace: str, name: str) -> bytes:
    """Return the key of an election's record."""
    return f"{namespace}/elections/{name}".encode()
