"""What stands under tideover's own keys in etcd without being of it: found by reading all of them.

Each noun meets such a value when it reads its key, does without it, and names it. This is for an operator who
wants to know of all of them, also of those that no process here reads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tideover.client.client import Client
from tideover.discovery import endpoint
from tideover.elections import record_document
from tideover.elections.claim import key_of
from tideover.epoch.marker import marker_key
from tideover.epoch.rules import decode_marker
from tideover.errors import PermissionDenied, RecordCorrupt
from tideover.foreign_bytes import hexadecimal
from tideover.locks import hold_document
from tideover.locks.queue.keys import NO_PLACE, is_place
from tideover.sessions.key import anchors
from tideover.status import MOST, RejectedValue
from tideover.store.operations import Range, RangeResult, prefix_end
from tideover.types import Entry

# Makes a read of etcd; returns None if this user may not make it.
Read = Callable[[Range], Awaitable[RangeResult | None]]
# Raises if an entry is not what its key is for.
_Check = Callable[[bytes, Entry], object]


@dataclass(frozen=True, slots=True)
class Survey:
    """The first foreign values, and how many there are beside these."""

    named: tuple[RejectedValue, ...]
    more: int


async def survey(client: Client, below: str = "") -> Survey:
    """Return what others have written under the keys that tideover reads, as far as this user may read them."""
    client.home.check(client)

    async def read(op: Range) -> RangeResult | None:
        try:
            return (await client.calls.call(op)).result
        except PermissionDenied:
            return None

    return await foreign_values(client.namespace, read, below=below)


async def foreign_values(namespace: str, read: Read, *, below: str = "") -> Survey:
    """Return what others have written under the keys that tideover reads; `read` makes one read."""
    found: list[RejectedValue] = []
    more = 0
    marker, asked = marker_key(namespace), f"{namespace}/{below}".encode()
    checks: dict[bytes, _Check] = {marker: lambda _, entry: decode_marker(entry.value), **_checks(namespace)}
    for prefix, check in checks.items():
        if not (prefix.startswith(asked) or asked.startswith(prefix)):
            continue
        first = max(prefix, asked, key=len)
        answer = await read(Range(first, None if first == marker else prefix_end(first)))
        for key, entry in answer.entries.items() if answer is not None else ():
            why = _refusal(check, key, entry)
            if why and len(found) < MOST:
                found.append(RejectedValue(key.decode(errors="backslashreplace"), entry.mod_revision, why))
            elif why:
                more += 1
    return Survey(tuple(found), more)


def _checks(namespace: str) -> dict[bytes, _Check]:
    """Return what must hold below each prefix."""
    base = f"{namespace}/"
    sessions, elections = anchors(base), key_of(namespace, "")

    def check_session(key: bytes, _: Entry) -> None:
        hexadecimal(key.removeprefix(sessions).decode(), "the name of a session")

    def check_place(key: bytes, _: Entry) -> None:
        if not is_place(key.rpartition(b"/")[2]):
            raise ValueError(f"it stands in the line of a lock, and is {NO_PLACE}")

    def check_record(key: bytes, entry: Entry) -> None:
        if not key.endswith(b"/token"):
            record_document.decode(entry.value, key)

    return {
        hold_document.published(base): lambda _, entry: hold_document.decode(entry.value),
        (base + endpoint.service_prefix("")).encode(): lambda key, entry: endpoint.decode(
            key.removeprefix(base.encode()).decode(), entry.value
        ),
        elections: check_record,
        f"{base}locks/".encode(): check_place,
        sessions: check_session,
    }


def _refusal(check: _Check, key: bytes, entry: Entry) -> str | None:
    try:
        check(key, entry)
    except (ValueError, RecordCorrupt) as exc:
        return str(exc)
    return None
