"""What a namespace has in etcd, listed a page at a time: for operators, who ask for what no process follows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from tideover.client.client import Client
from tideover.client.pages import pages
from tideover.config.keys import Keys
from tideover.elections.admin import RecordSnapshot, snapshots
from tideover.elections.claim import key_of
from tideover.locks.lines import LockLine, lock_line, lock_lines
from tideover.locks.options import check_name
from tideover.types import Source

# Keys in a page.
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key of the configuration, without its value.

    Attributes:
        key: The key as `get` names it; bytes that are no text are surrogate escapes.
        revision: The revision that last changed it.
        source: Whether a quorum said so, or a surviving member, which may be behind.
    """

    key: str
    revision: int
    source: Source


class Catalog:
    """Lists what one namespace has in etcd.

    Every list is read through the quorum, and once that has no answer from a surviving member, which may be
    behind: each thing says who has told it. What is listed may change meanwhile.
    """

    def __init__(self, client: Client, base: str) -> None:
        self._namespace = client.namespace
        self._keys = Keys(base, ())
        self._gateway = client.calls
        self._home = client.home

    def __repr__(self) -> str:
        """Show the namespace."""
        return f"<Catalog of {self._namespace!r}>"

    async def config(self, prefix: str = "") -> AsyncIterator[ListedKey]:
        """List the keys of the configuration, in the order of their bytes. No value is read.

        Args:
            prefix: Only keys that begin so.

        Raises:
            Unavailable: No member answers.
            PermissionDenied: This user may not read all of them.
            AuthenticationFailed: A quorum refuses the credentials.
            InvalidRequest: The prefix begins with a slash.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            A surviving member's list, labelled so (`MEMBER`).
        """
        self._home.check(self)
        self._keys.check_start("prefix", prefix)
        full = (self._keys.base + prefix).encode(errors="surrogateescape")
        async for page in pages(self._gateway, full, size=_PAGE, keys_only=True):
            for key, entry in page.entries.items():
                yield ListedKey(self._keys.short(key), entry.mod_revision, page.source)

    async def elections(self) -> AsyncIterator[tuple[str, RecordSnapshot]]:
        """List the elections that have a record: each with its name, and what the record says.

        Raises:
            Unavailable: No member answers.
            PermissionDenied: This user may not read all of them.
            AuthenticationFailed: A quorum refuses the credentials.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            A surviving member's list, labelled so (`RecordSnapshot.source`).
        """
        self._home.check(self)
        async for found in snapshots(key_of(self._namespace, ""), self._gateway):
            yield found

    async def locks(self) -> AsyncIterator[LockLine]:
        """List the locks that have a holder or a waiter; of nested names the longer one comes first.

        Raises:
            Unavailable: No member answers.
            PermissionDenied: This user may not read all of them.
            AuthenticationFailed: A quorum refuses the credentials.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            A surviving member's list, labelled so (`LockLine.source`).
        """
        self._home.check(self)
        async for line in lock_lines(f"{self._namespace}/", self._gateway):
            yield line

    async def lock(self, name: str) -> LockLine:
        """Return who stands in the line of a lock, and for how long the leases of the first hundred last.

        Args:
            name: The lock.

        Raises:
            ValueError: That is no name.
            Unavailable: No member answers.
            PermissionDenied: This user may not read it.
            AuthenticationFailed: A quorum refuses the credentials.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            What a surviving member knows, labelled so (`LockLine.source`), and nothing of leases.
        """
        self._home.check(self)
        return await lock_line(f"{self._namespace}/", check_name(name), self._gateway)
