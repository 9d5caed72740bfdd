"""All keys under a prefix, a page at a time: what is listed never stands in memory as a whole.

Each page is as of a moment of its own, so that no compaction interrupts it: a key that is there all the time is
listed once, and one that comes or goes meanwhile perhaps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from tideover.client.gateway import Gateway
from tideover.errors import Unavailable
from tideover.store.operations import Range, prefix_end
from tideover.types import Entry, Source


@dataclass(frozen=True, slots=True)
class Page:
    """Some keys, in their order; a `MEMBER`, unlike the `QUORUM`, may be behind."""

    entries: Mapping[bytes, Entry]
    source: Source


async def pages(gateway: Gateway, prefix: bytes, *, size: int, keys_only: bool = False) -> AsyncIterator[Page]:
    """Read all keys under a prefix: through the quorum, and once that has no answer from a surviving member.

    Yields one page at least, of `size` keys at the most.

    Raises:
        Unavailable: No member answers.
        PermissionDenied: This user may not read the whole of it.
        AuthenticationFailed: A quorum refuses the credentials.
    """
    start, end, source = prefix or b"\0", prefix_end(prefix), Source.QUORUM
    while True:
        op = Range(start, end, serializable=source is Source.MEMBER, limit=size, keys_only=keys_only)
        try:
            found = (await gateway.call(op)).result
        except Unavailable:
            if source is Source.MEMBER:
                raise
            source = Source.MEMBER
            continue
        yield Page(found.entries, source)
        if not (found.more and found.entries):
            return
        start = next(reversed(found.entries)) + b"\0"
