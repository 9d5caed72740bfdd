"""What the locks of one coordinator share, as their cohorts see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from tideover.broadcast import Broadcast
from tideover.clock import Clock
from tideover.errors import CircuitOpen
from tideover.locks.etcd_queue import EtcdQueue
from tideover.locks.grant import Keeper
from tideover.locks.host_queue import Hosts
from tideover.sessions.session import Session


class LockContext(Keeper, Protocol):
    """What a cohort needs.

    Attributes:
        clock: The clocks.
        hosts: The host locks.
        changed: Fires when anything is known anew of etcd.
    """

    clock: Clock
    hosts: Hosts
    changed: Broadcast

    def name(self) -> str:
        """Return the name of this process, for people."""
        ...

    def chance(self) -> float:
        """Draw a number uniformly from [0, 1)."""
        ...

    def queue(self, name: str) -> EtcdQueue:
        """Return etcd's line for a name."""
        ...

    async def session(self, ttl: int) -> Session:
        """Return the session that all locks of a ttl share."""
        ...

    def acquiring(self, name: str) -> AbstractContextManager[object]:
        """Record a wait for etcd, or for this machine."""
        ...

    def outage_declared(self) -> bool:
        """Whether an outage is declared."""
        ...

    def refusal(self) -> CircuitOpen | None:
        """Return why calls are refused now; None if they are not.

        Raises:
            AuthenticationFailed: etcd refuses this client's credentials.
            Closed: The coordinator is closed.
        """
        ...

    async def recovery(self) -> None:
        """Wait until no outage is declared."""
        ...

    def start(self, task: Callable[..., Awaitable[object]], *args: Any) -> bool:
        """Do something in the background; return whether that is still possible."""
        ...

    def host_failed(self, error: OSError) -> None:
        """Take in that this machine has no place for host locks."""
        ...

    def settled(self, cohort: object) -> None:
        """Take in that a cohort has nothing under way any more."""
        ...
