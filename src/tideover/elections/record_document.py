"""The content of a record: a JSON document that older and newer versions can share.

Unknown members are kept and written back. A version that changes the meaning of known members raises `needs`;
older versions then refuse to touch the record instead of misreading it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tideover.elections.rules.candidate import LONGEST, margin_of
from tideover.errors import RecordCorrupt
from tideover.foreign_bytes import INT64, Malformed, integer, load_object, number
from tideover.holders import NOBODY, Holder
from tideover.shown import shown

# The newest meaning that this version understands.
FORMAT = 1
# Seconds between a renewal that is sent and the same renewal seen: one attempt at one member.
_ON_ITS_WAY = 1.0
# Characters of a malformed value that are shown.
_QUOTED = 80


@dataclass(frozen=True, slots=True)
class RecordDocument:
    """A record's content."""

    holder: str  # the candidate that holds the record, or held it last; empty if only founded
    term: int  # how often the holder has changed
    policy: str
    ttl: float  # seconds for which a renewal holds
    write: str  # the random word of the write
    vacant: bool = False
    candidates: tuple[str, ...] = ()  # the others to ask in an outage, as `incarnation@host:port`
    address: str = ""
    value: str = ""
    peer: str = ""  # where others reach the holder, as `host:port`; empty if the holder asks none
    limit: float = 0.0  # seconds for which peers may confirm the holder without a renewal; 0 under other policies
    entered: bool = True  # whether the holder leads, or has yet to wait until its own promise has ended
    held_by: Holder = NOBODY  # the name and since when, for people; empty if another version wrote the record
    extra: Mapping[str, object] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the document as etcd holds it."""
        known = {name: getattr(self, name) for name in _TYPES}
        if not self.peer and not self.limit:
            for name in _PEERS:
                del known[name]
        if self.held_by.name:
            # With its candidate: an older version writes unknown members back, also for another holder.
            known[_HELD_BY] = {"holder": self.holder, "name": self.held_by.name, "since": self.held_by.since}
        return json.dumps({**self.extra, "needs": FORMAT, **known}, separators=(",", ":")).encode()

    @property
    def holder_shown(self) -> str:
        """The holder for people: its name and since when it leads, else the candidate; empty if there is none."""
        return str(self.held_by) or shown(self.holder)

    def led_until(self, seen_at: float) -> float:
        """Return until when the holder may be leading, for a follower that first saw this document at `seen_at`.

        The holder trusts its record from when a renewal was *sent*; a follower has *seen* that renewal later, by
        up to one attempt. A follower stops that much earlier: a request after the holder's own deadline would
        reach a process that does not lead any more.

        Returns:
            A time on the same clock; minus infinity if the record names no leader, and infinity if only another
            record ends the term, as under `"stay"`.
        """
        if self.vacant or not self.holder or not self.entered:
            return -math.inf
        if self.policy == "stay":
            return math.inf
        return seen_at + max(self.ttl - margin_of(self.ttl) - _ON_ITS_WAY, self.limit)

    @property
    def listed(self) -> dict[str, str]:
        """The candidates' addresses by their names."""
        parts = (entry.partition("@") for entry in self.candidates)
        return {name: address for name, _, address in parts}


def entry(name: str, address: str) -> str:
    """Return a candidate's member of `candidates`."""
    return f"{name}@{address}"


_TYPES: dict[str, tuple[type, ...]] = {
    "holder": (str,),
    "term": (int,),
    "policy": (str,),
    "ttl": (int, float),
    "write": (str,),
    "vacant": (bool,),
    "candidates": (list, tuple),
    "address": (str,),
    "value": (str,),
    "peer": (str,),
    "limit": (int, float),
    "entered": (bool,),
}
_HELD_BY = "held_by"
_MOMENT = 0.001
# Written only under the policy "peers".
_PEERS = ("peer", "limit", "entered")
_REQUIRED = ("holder", "term", "policy", "ttl", "write")


def decode(raw: bytes, key: bytes) -> RecordDocument:
    """Read a document. Raises `RecordCorrupt`: the value is malformed, or this version is too old for it."""
    name = shown(key)
    try:
        found = load_object(raw)
        problem = _problem(found)
    except Malformed as exc:
        found, problem = {}, str(exc)
    if problem:
        raise RecordCorrupt(
            f"the record {name} cannot be used, because {problem}: '{shown(raw, _QUOTED)}'. It is left alone; if "
            "nobody leads by it, take it away with `tideover election reset`",
            key=name,
        )
    known: dict[str, Any] = {field_: found[field_] for field_ in _TYPES if field_ in found}
    known["candidates"] = tuple(known.get("candidates", ()))
    extra = {field_: value for field_, value in found.items() if field_ not in (*_TYPES, _HELD_BY, "needs")}
    return RecordDocument(**known, held_by=_held_by(found.get(_HELD_BY), found["holder"]), extra=extra)


def _held_by(found: object, holder: str) -> Holder:
    """Return the holder for people, if that was written for the present holder."""
    if not isinstance(found, dict) or found.get("holder") != holder:
        return NOBODY
    name, since = found.get("name"), found.get("since")
    return Holder(name, since) if isinstance(name, str) and isinstance(since, str) else NOBODY


def _problem(found: Mapping[str, Any]) -> str:
    needs = found.get("needs")
    if not isinstance(needs, int) or isinstance(needs, bool):
        return "it says no format ('needs')"
    if needs > FORMAT:
        return f"it needs format {shown(repr(needs))} and this version of tideover knows {FORMAT}"
    for name in _REQUIRED:
        if name not in found:
            return f"it has no {name!r}"
    for name, types in _TYPES.items():
        value = found.get(name)
        if name in found and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            return f"its {name!r} is {shown(repr(value))}"
    integer(found["term"], "its 'term'", most=INT64)
    number(found["ttl"], "its 'ttl'", least=_MOMENT, most=LONGEST)
    number(found.get("limit", 0), "its 'limit'", least=0, most=LONGEST)
    if not all(isinstance(candidate, str) for candidate in found.get("candidates", ())):
        return f"its 'candidates' are {shown(repr(found['candidates']))}"
    return ""
