"""What is recorded of holds: in metrics, in the log, on the request that asked for them, and in the ledger.

The journal is the only observer of locks: `Locks` and `Grant` report to it, and read what it knows. It decides
nothing about a hold.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable

from tideover import telemetry
from tideover.client.client import Client
from tideover.cluster.rules.health import reason_of
from tideover.errors import LockConflict, LockLost
from tideover.fencing.token import fencing_token
from tideover.locks.ledger import Ledger, Past
from tideover.locks.rules.overlaps import Hold, Overlap
from tideover.request_record import Mark, RequestRecord, current_record
from tideover.status import LockConflictStatus, LockStatus
from tideover.types import LockMode


class Holding(ABC):
    """What the journal knows of one hold; `Grant` adds what is decided about it.

    Attributes:
        mode: DISTRIBUTED or LOCAL, as last worked out.
        stamp: Create revision and handovers of the key of its latest DISTRIBUTED stretch; None if there was none.
        since: When the hold began, in boot-time seconds; `mode_since` when `mode` last changed.
        hold: Its entry in the ledger; None as long as it touches no outage.
        is_written_off: Whether the ledger knows its end.
        outcome: How it went, for metrics, once its body has been left; empty before.
    """

    __slots__ = ("hold", "is_written_off", "mode", "mode_since", "name", "outcome", "record", "since", "stamp")

    def __init__(self, name: str, since: float) -> None:
        self.name = name
        self.mode = LockMode.LOCAL
        self.stamp: tuple[int, int] | None = None
        self.since = self.mode_since = since
        self.hold: Hold | None = None
        self.is_written_off = False
        self.record: RequestRecord | None = current_record.get()
        self.outcome = ""

    @property
    def token(self) -> int:
        """The fencing token of its latest DISTRIBUTED stretch; 0 if there was none."""
        return 0 if self.stamp is None else fencing_token(*self.stamp)

    @abstractmethod
    def assess(self) -> LockLost | LockConflict | None:
        """Work out by the clock what the hold is worth now; return why it is lost, None if it is held."""

    @property
    def distributed_token(self) -> int:
        """Its token if it is DISTRIBUTED, else 0."""
        return self.token if self.mode is LockMode.DISTRIBUTED else 0


class LockJournal:
    """Records the holds of one coordinator.

    Attributes:
        host_error: Why this machine has no place for host locks; None if it has, as far as is known.
        local: The holds that are LOCAL, lost ones among them whose bodies still run.
    """

    def __init__(self, ledger: Ledger, client: Client) -> None:
        self.host_error: str | None = None
        self.local: set[Holding] = set()
        self._ledger = ledger
        self._cluster = client.state
        self._clock = client.clock
        self._outage_id = client.outage_id

    def waited(self, outcome: str, seconds: float) -> None:
        """Record the end of a wait for a lock."""
        telemetry.lock_waited(outcome, seconds, degraded=self._cluster.health.outage_declared)

    def began(self, holding: Holding) -> None:
        """Record a new hold."""
        telemetry.locks_active(holding.mode, 1)
        if holding.mode is LockMode.LOCAL:
            self.local.add(holding)
            self._mark(holding)
        if self._cluster.health.outage_declared:
            self.touched((holding,))

    def touched(self, holdings: Iterable[Holding]) -> None:
        """Record that holds touch an outage."""
        for holding in holdings:
            if holding.hold is None:
                token = holding.distributed_token
                holding.hold = self._ledger.begin(holding.name, holding.mode, token, holding.since)

    def turned(self, holding: Holding, why: str) -> None:
        """Record that a hold changed mode: one entry in the ledger ends, and another begins."""
        mode = holding.mode
        other = LockMode.LOCAL if mode is LockMode.DISTRIBUTED else LockMode.DISTRIBUTED
        telemetry.locks_active(other, -1)
        telemetry.locks_active(mode, 1)
        telemetry.lock_turned(holding.name, mode, why)
        if holding.hold is None:
            token = holding.token if other is LockMode.DISTRIBUTED else 0
            holding.hold = self._ledger.begin(holding.name, other, token, holding.mode_since)
        self._ledger.end(holding.hold)
        now = self._clock.boot()
        holding.hold = self._ledger.begin(holding.name, mode, holding.distributed_token, now)
        holding.mode_since = now
        self.local.discard(holding)
        if mode is LockMode.LOCAL:
            self.local.add(holding)
            self._mark(holding)

    def lost(self, holding: Holding, error: LockLost | LockConflict) -> None:
        """Record that a hold was lost while its body runs."""
        if holding.hold is not None:
            self._ledger.end(holding.hold)
            holding.is_written_off = True
        if isinstance(error, LockConflict):
            # The other holder may not have entered its body yet; the ledger will tell.
            telemetry.lock_conflict(holding.name, str(error), certain=False)
        else:
            telemetry.lock_lost(holding.name, str(error))

    def ended(self, holding: Holding) -> None:
        """Record that a body was left."""
        now = self._clock.boot()
        telemetry.locks_active(holding.mode, -1)
        self.local.discard(holding)
        if holding.hold is None:
            stamp = holding.stamp if holding.mode is LockMode.DISTRIBUTED else None
            self._ledger.past.append(Past(holding.name, holding.since, now, stamp))
        elif not holding.is_written_off:
            self._ledger.end(holding.hold)
        telemetry.lock_released(holding.outcome, now - holding.since, degraded=holding.hold is not None)

    def host_failed(self, error: OSError) -> None:
        """Record that this machine has no place for host locks."""
        text = f"host locks do not work, so that no lock can be LOCAL here: {error}"
        if self.host_error != text:
            telemetry.locks_unhosted(f"host locks do not work: {error}", level=logging.ERROR)
        self.host_error = text

    def _mark(self, holding: Holding) -> None:
        """Mark the request in which a lock is held LOCAL."""
        health = self._cluster.health
        mark = Mark(LockMode.LOCAL, 0.0, reason_of(health.state, health.diagnosis), self._outage_id())
        record = holding.record
        if record is None or record.finished:
            telemetry.mark_span(mark, "lock", None)
        elif "lock" not in record.marks:
            record.marks["lock"] = mark
            telemetry.mark_span(mark, "lock", record)

    @property
    def error(self) -> str | None:
        """What does not work at present; None if all does."""
        return self.host_error or self._ledger.error

    def describe(self, holding: Holding, waiting: int) -> LockStatus:
        """Return what is shown of a hold that so many of this process wait for."""
        now = self._clock.boot()
        return LockStatus(
            holding.name,
            holding.mode,
            holding.distributed_token or None,
            max(0.0, now - holding.since),
            waiting,
            mode_seconds=max(0.0, now - holding.mode_since),
        )

    def conflicts(self) -> tuple[LockConflictStatus, ...]:
        """Return the conflicts in which this process had a part."""
        return tuple(map(self._describe, self._ledger.conflicts.values()))

    async def published_conflicts(self) -> tuple[LockConflictStatus, ...]:
        """Return the conflicts in what all processes have published; raise `TideoverError` if it is unreadable."""
        return tuple(map(self._describe, await self._ledger.published()))

    def _describe(self, found: Overlap) -> LockConflictStatus:
        return LockConflictStatus(
            found.first.name,
            found.certain,
            max(0.0, found.seconds),
            (found.first.where, found.second.where),
            self._clock.elapsed(found.first.until),
        )
