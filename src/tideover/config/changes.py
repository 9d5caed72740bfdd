"""Changes of followed keys, as an async iterator that a slow reader cannot make grow without bound."""

from __future__ import annotations

import weakref

from tideover.broadcast import Broadcast
from tideover.client.lifecycle import CLOSED
from tideover.errors import Closed
from tideover.home import Home
from tideover.types import Change


class Changes:
    """The changes of keys under a prefix, from the call on.

    A reader slower than etcd sees the newest change of each key, not every one: at most one change per key waits.
    """

    def __init__(self, prefix: str, home: Home) -> None:
        self.prefix = prefix
        self._home = home
        self._waiting: dict[str, Change] = {}
        self._added = Broadcast()
        self._closed = False

    def __repr__(self) -> str:
        """Show the prefix, and count the waiting changes."""
        return f"<Changes of {self.prefix!r}, {len(self._waiting)} waiting>"

    def add(self, change: Change) -> None:
        """Queue a change for the reader, instead of an earlier one of the same key."""
        # Removed first, so that changes come in the order of their revisions.
        self._waiting.pop(change.key, None)
        self._waiting[change.key] = change
        self._added.fire()

    def close(self) -> None:
        """End the iteration once no change is waiting."""
        self._closed = True
        self._added.fire()

    def __aiter__(self) -> Changes:
        """Return itself."""
        return self

    async def __anext__(self) -> Change:
        """Return the next change.

        Raises:
            StopAsyncIteration: The coordinator was closed.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            While etcd is away there are no changes; those made meanwhile come when it is back.
        """
        self._home.check(self)
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            await self._added.wait()
        return self._waiting.pop(next(iter(self._waiting)))


class Subscriptions:
    """The iterators over changes of one configuration."""

    def __init__(self, home: Home) -> None:
        self._home = home
        # Weakly held: dropping the iterator unsubscribes.
        self._all: weakref.WeakSet[Changes] = weakref.WeakSet()
        self._closed = False

    def open(self, prefix: str) -> Changes:
        """Return the changes under a prefix, from now on."""
        if self._closed:
            raise Closed(CLOSED)
        changes = Changes(prefix, self._home)
        self._all.add(changes)
        return changes

    def publish(self, change: Change) -> None:
        """Pass a change to all iterators of its prefix."""
        for changes in list(self._all):
            if change.key.startswith(changes.prefix):
                changes.add(change)

    def close(self) -> None:
        """End all iterations."""
        self._closed = True
        for changes in list(self._all):
            changes.close()
