"""What the locks of one coordinator share: made before all of them, and handed down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tideover.client.client import Client
from tideover.client.lifecycle import Lifecycle
from tideover.errors import CircuitOpen
from tideover.locks.host_queue import Hosts
from tideover.locks.journal import LockJournal
from tideover.locks.warm_places import WarmPlaces
from tideover.locks.watchdog import Watchdog
from tideover.sessions.pool import SessionPool
from tideover.store.operations import Lane


@dataclass(slots=True, eq=False)
class LockContext:
    """What cohorts, contenders and grants work with.

    Attributes:
        record_names: Whether spans may name locks.
        lifecycle: Whether locks are given; closed later than the coordinator, whose bodies may still take locks.
        is_closed: Whether there is nothing to give back any more, because the sessions end.
    """

    client: Client
    pool: SessionPool
    hosts: Hosts
    journal: LockJournal
    watchdog: Watchdog
    warm: WarmPlaces
    record_names: bool
    process_name: Callable[[], str]
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    is_closed: bool = False

    def refusal(self) -> CircuitOpen | None:
        """Return why calls are refused now, None if they are not; raise `AuthenticationFailed` or `Closed`."""
        self.lifecycle.check()
        if self.client.state.health.quorum.closed:
            return None
        try:
            self.client.calls.admit(Lane.QUORUM)
        except CircuitOpen as exc:
            return exc
        return None

    async def recovery(self) -> None:
        """Wait until no outage is declared, or the coordinator is closed."""
        while self.client.state.health.outage_declared and self.lifecycle.is_open:
            await self.client.state.changed.wait()
