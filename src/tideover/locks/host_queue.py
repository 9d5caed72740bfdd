"""Waiting for the host lock of a name, without blocking the event loop."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Protocol

import anyio

from tideover.home import EventLoop
from tideover.ticker import GRAIN, Ticker

# Seconds between two looks at a lock that another process has: doubling, full jitter above a half.
_FIRST = 0.002
_LONGEST = 0.05
# Seconds after which a name that was taken ahead is free again: `Hosts._look` gives it back at the second look.
_LONGEST_TRIAL = 2 * GRAIN


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

    def __init__(self, locks: HostLocking, *, chance: Callable[[], float], ticker: Ticker) -> None:
        self._locks = locks
        self._chance = chance
        # Names that were taken ahead; and those that had been at the last look, which is taken only while there
        # are some.
        self._ahead: dict[HostTrial, None] = {}
        self._looked_at: list[HostTrial] = []
        self._tick = ticker.every(math.inf, self._look)
        self._lines: dict[str, deque[anyio.Event]] = {}
        self._held: set[str] = set()

    def take_now(self, name: str) -> bool:
        """Take a name if it is free and no task waits for it; return whether it was.

        Raises `OSError` if there is no place for such locks.
        """
        if name in self._held or name in self._lines or not self._locks.take(name):
            return False
        self._held.add(name)
        return True

    async def take(self, name: str) -> None:
        """Wait for a name; raise `OSError` if there is no place for such locks."""
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

    async def take_soon(self, name: str) -> bool:
        """Take a name unless it is held for longer than a trial lasts; return whether it was taken.

        Raises `OSError` if there is no place for such locks.
        """
        if name in self._held and not any(trial.name == name for trial in self._ahead):
            return False
        with anyio.move_on_after(_LONGEST_TRIAL):
            await self.take(name)
            return True
        return self.take_now(name)

    def give(self, name: str) -> None:
        """Give a name back, if it is held."""
        if name in self._held:
            self._held.discard(name)
            self._locks.give(name)

    def trial(self, name: str, loop: EventLoop) -> HostTrial:
        """Take a name ahead if it is free, in the loop's next round, for a lock whose request is being sent."""
        trial = HostTrial(self, name)
        loop.later(trial.take)
        return trial

    def began(self, trial: HostTrial) -> None:
        """Give a name that was taken ahead back before long: a reply that is late may be lost."""
        self._ahead[trial] = None
        self._tick.period = GRAIN

    def over(self, trial: HostTrial) -> None:
        """Leave a name that was taken ahead to its holder."""
        self._ahead.pop(trial, None)

    def _look(self) -> None:
        for trial in self._looked_at:
            trial.give()
        self._looked_at = list(self._ahead)
        self._tick.period = GRAIN if self._ahead else math.inf

    def close(self) -> None:
        """Give all names back."""
        self._tick.stop()
        self._held.clear()
        self._locks.close()


class HostTrial:
    """A name that is taken while the reply for its lock is under way: tried once, and not waited for.

    It keeps others of this machine from the name for no longer than it takes the reply, and for 0.2 s at the most.
    """

    __slots__ = ("_hosts", "_is_over", "_taken", "name")

    def __init__(self, hosts: Hosts, name: str) -> None:
        self._hosts = hosts
        self.name = name
        self._taken = False
        self._is_over = False

    def take(self) -> None:
        """Take it if it is free."""
        if self._is_over:
            return
        try:
            self._taken = self._hosts.take_now(self.name)
        except OSError:
            return  # who takes it for good is told
        if self._taken:
            self._hosts.began(self)

    def keep(self) -> bool:
        """Return whether it was taken; from now on it is the caller's to give back."""
        taken, self._taken = self._taken, False
        self._hosts.over(self)
        return taken

    def give(self) -> None:
        """Give it back, if it was taken and not kept."""
        self._is_over = True
        if self.keep():
            self._hosts.give(self.name)
