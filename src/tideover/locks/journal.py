"""What is written down of holds: in metrics, in the log, on the request in which they were asked for, and, if they
touch an outage, in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tideover import telemetry
from tideover.clock import Clock
from tideover.cluster.rules.health import reason_of
from tideover.cluster.state import ClusterState
from tideover.errors import LockConflict, LockLost
from tideover.locks.grant import Grant
from tideover.locks.ledger import Ledger
from tideover.locks.rules.overlaps import Overlap
from tideover.request_record import Mark
from tideover.status import LockConflictStatus, LockStatus
from tideover.types import LockMode


class LockJournal:
    """Keeps the books of one coordinator's holds.

    Args:
        ledger: The memory of outages.
        cluster: How etcd is.
        clock: The clocks.
        outage_id: Returns the id of the present outage; empty if there is none.
    """

    def __init__(
        self, ledger: Ledger, cluster: ClusterState, *, clock: Clock, outage_id: Callable[[], str]
    ) -> None:
        self._ledger = ledger
        self._cluster = cluster
        self._clock = clock
        self._outage_id = outage_id

    def __repr__(self) -> str:
        """Show the ledger."""
        return f"<LockJournal with {self._ledger!r}>"

    def began(self, grant: Grant, *, outage: bool) -> None:
        """Take in a new hold.

        Args:
            grant: The hold.
            outage: Whether an outage is declared.
        """
        telemetry.locks_active(grant.mode, 1)
        if grant.mode is LockMode.LOCAL:
            self._mark(grant)
        if outage:
            self.touched((grant,))

    def touched(self, grants: Iterable[Grant]) -> None:
        """Take in that holds touch an outage."""
        for grant in grants:
            if grant.hold is None:
                grant.hold = self._ledger.begin(grant.name, grant.mode, grant.distributed_token, grant.since)

    def turned(self, grant: Grant, why: str) -> None:
        """Take in that a hold stands on other ground."""
        mode = grant.mode
        other = LockMode.LOCAL if mode is LockMode.DISTRIBUTED else LockMode.DISTRIBUTED
        telemetry.locks_active(other, -1)
        telemetry.locks_active(mode, 1)
        telemetry.lock_turned(grant.name, mode, why)
        if grant.hold is None:
            token = grant.token if other is LockMode.DISTRIBUTED else 0
            grant.hold = self._ledger.begin(grant.name, other, token, grant.mode_since)
        self._ledger.end(grant.hold)
        grant.hold = self._ledger.begin(grant.name, mode, grant.distributed_token, self._clock.boot())
        if mode is LockMode.LOCAL:
            self._mark(grant)

    def lost(self, grant: Grant, error: LockLost | LockConflict) -> None:
        """Take in that a hold was lost while its body runs."""
        if grant.hold is not None:
            self._ledger.end(grant.hold)
            grant.is_written_off = True
        if isinstance(error, LockConflict):
            # Whoever is first may not have entered its body yet; the ledger will tell.
            telemetry.lock_conflict(grant.name, str(error), certain=False)
        else:
            telemetry.lock_lost(grant.name, str(error))

    def ended(self, grant: Grant) -> None:
        """Take in that a body was left."""
        telemetry.locks_active(grant.mode, -1)
        if grant.hold is None:
            self._ledger.remember(grant.name, grant.distributed_token, grant.since)
        elif not grant.is_written_off:
            self._ledger.end(grant.hold)
        seconds = self._clock.boot() - grant.since
        telemetry.lock_released(grant.outcome, seconds, degraded=grant.hold is not None)

    def _mark(self, grant: Grant) -> None:
        """Mark the request in which a lock is held LOCAL."""
        health = self._cluster.health
        mark = Mark(LockMode.LOCAL, 0.0, reason_of(health.state, health.diagnosis), self._outage_id())
        record = grant.record
        if record is None or record.finished:
            telemetry.mark_span(mark, "lock", None)
        elif "lock" not in record.marks:
            record.marks["lock"] = mark
            telemetry.mark_span(mark, "lock", record)

    # What `status()` shows -------------------------------------------------------------------------------------

    def describe(self, grant: Grant, waiting: int) -> LockStatus:
        """Return what is shown of a hold.

        Args:
            grant: The hold.
            waiting: How many wait for it in this process.
        """
        grant.assess()
        now = self._clock.boot()
        return LockStatus(
            grant.name,
            grant.mode,
            grant.distributed_token or None,
            max(0.0, now - grant.since),
            waiting,
            mode_seconds=max(0.0, now - grant.mode_since),
        )

    def conflicts(self) -> tuple[LockConflictStatus, ...]:
        """Return the conflicts in which this process had a part."""
        return tuple(map(self._describe, self._ledger.conflicts.values()))

    async def published_conflicts(self) -> tuple[LockConflictStatus, ...]:
        """Return all conflicts that follow from what all processes have published.

        Raises:
            TideoverError: That cannot be read.
        """
        return tuple(map(self._describe, await self._ledger.published()))

    def _describe(self, found: Overlap) -> LockConflictStatus:
        return LockConflictStatus(
            found.first.name,
            found.certain,
            max(0.0, found.seconds),
            (found.first.where, found.second.where),
            self._clock.elapsed(found.first.until),
        )
