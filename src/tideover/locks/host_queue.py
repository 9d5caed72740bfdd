"""Waiting for the host lock of a name, without blocking the event loop."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Protocol

import anyio

# Seconds between two looks at a lock that another process has: doubling, full jitter above a half.
_FIRST = 0.002
_LONGEST = 0.05


class HostLocking(Protocol):
    """Locks names among the processes of one machine; `HostLocks` does, and a fake."""

    def take(self, name: str) -> bool:
        """Take a name if it is free; return whether it was."""
        ...

    def give(self, name: str) -> None:
        """Give a taken name back."""
        ...

    def close(self) -> None:
        """Give all names back."""
        ...


class MemoryHostLocks:
    """Host locks of a fake cluster: only coordinators on the same fake contend."""

    def __init__(self, cluster: object, namespace: str) -> None:
        self._taken = _of_fakes.setdefault(cluster, set())
        self._namespace = namespace
        self._own: set[tuple[str, str]] = set()

    def take(self, name: str) -> bool:
        """Take a name if it is free; return whether it was."""
        key = self._namespace, name
        if key in self._taken:
            return False
        self._taken.add(key)
        self._own.add(key)
        return True

    def give(self, name: str) -> None:
        """Give a taken name back."""
        key = self._namespace, name
        self._own.discard(key)
        self._taken.discard(key)

    def close(self) -> None:
        """Give all names back."""
        self._taken -= self._own
        self._own.clear()


_of_fakes: MutableMapping[object, set[tuple[str, str]]] = weakref.WeakKeyDictionary()


class Hosts:
    """The host locks of one coordinator, with a queue of waiting tasks for each name."""

    def __init__(self, locks: HostLocking, *, chance: Callable[[], float]) -> None:
        self._locks = locks
        self._chance = chance
        self._lines: dict[str, deque[anyio.Event]] = {}
        self._held: set[str] = set()

    def take_now(self, name: str) -> bool:
        """Take a name if it is free and no task waits for it; return whether it was.

        Raises:
            OSError: There is no place for such locks.
        """
        if name in self._held or name in self._lines or not self._locks.take(name):
            return False
        self._held.add(name)
        return True

    async def take(self, name: str) -> None:
        """Wait for a name.

        Raises:
            OSError: There is no place for such locks.
        """
        if self.take_now(name):
            return
        line = self._lines.setdefault(name, deque())
        turn = anyio.Event()
        line.append(turn)
        try:
            if line[0] is not turn:
                await turn.wait()
            pause = _FIRST
            while name in self._held or not self._locks.take(name):
                await anyio.sleep(pause * (0.5 + 0.5 * self._chance()))
                pause = min(2 * pause, _LONGEST)
            self._held.add(name)
        finally:
            line.remove(turn)
            if line:
                line[0].set()
            else:
                del self._lines[name]

    def give(self, name: str) -> None:
        """Give a name back, if it is held."""
        if name in self._held:
            self._held.discard(name)
            self._locks.give(name)

    def close(self) -> None:
        """Give all names back."""
        self._held.clear()
        self._locks.close()
