"""What has happened to etcd lately, as this process saw it: kept in memory, bounded, written by who sees it.

No task belongs to it: what is older than the window is forgotten when something is added, or asked for. Moments
are monotonic; the wall clock is asked when they are shown, so that setting it moves all of them alike.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import NamedTuple

from tideover.clock import Clock
from tideover.status import LeaderChangeStatus, OutageStatus, TransitionStatus
from tideover.types import Diagnosis, HealthState

# Seconds that it reaches back.
WINDOW = 3600.0
# How many entries of each kind are kept: an outage takes more than 3 s to be declared, so that few hours reach it.
_MOST = 1000


class _Stretch(NamedTuple):
    """A time in one state: until the next one begins."""

    at: float
    state: HealthState
    diagnosis: Diagnosis
    why: str
    outage_id: str


class _LeaderChange(NamedTuple):
    at: float
    seconds: float | None
    raft_term: int


class _Outage(NamedTuple):
    began: _Stretch
    ended_at: float | None = None


class Timeline:
    """The transitions of the health state, the leader changes and the outages of one coordinator.

    `missed` counts the entries that were dropped before their time because there were too many.
    """

    def __init__(self, clock: Clock) -> None:
        self.began_at = clock.monotonic()
        self.missed = 0
        self._clock = clock
        self._stretches: deque[_Stretch] = deque()
        self._leader_changes: deque[_LeaderChange] = deque()
        self._present: _Outage | None = None
        self._last: _Outage | None = None

    def begin(self) -> None:
        """Let recording begin now: the coordinator was entered."""
        self.began_at = self._clock.monotonic()

    def transition(self, state: HealthState, diagnosis: Diagnosis, *, why: str, outage_id: str) -> None:
        """Record that another state has begun; while etcd is available `outage_id` is of the outage before."""
        now, well = self._clock.monotonic(), state is HealthState.AVAILABLE
        stretch = _Stretch(now, state, diagnosis, why, "" if well else outage_id)
        self._forget(now)
        if len(self._stretches) >= _MOST:
            self._stretches.popleft()
            self.missed += 1
        self._stretches.append(stretch)
        if not well and self._present is None:
            self._present = _Outage(stretch)
        elif well and self._present is not None:
            self._last, self._present = _Outage(self._present.began, now), None

    def leader_changed(self, raft_term: int, *, since: float | None) -> None:
        """Record a change of etcd's leader that was no outage; `since` is when the first call failed."""
        now = self._clock.monotonic()
        self._forget(now)
        if len(self._leader_changes) >= _MOST:
            self._leader_changes.popleft()
            self.missed += 1
        self._leader_changes.append(_LeaderChange(now, None if since is None else now - since, raft_term))

    def _forget(self, now: float) -> None:
        begin = now - WINDOW
        # The one that ended within the window may have begun before it.
        while len(self._stretches) > 1 and self._stretches[1].at <= begin:
            self._stretches.popleft()
        while self._leader_changes and self._leader_changes[0].at <= begin:
            self._leader_changes.popleft()

    def transitions(self) -> tuple[TransitionStatus, ...]:
        """Return the stretches of the window, the present one first."""
        now = self._clock.monotonic()
        self._forget(now)
        found: list[TransitionStatus] = []
        end = now
        for stretch in reversed(list(self._stretches)):
            found.append(
                TransitionStatus(
                    at=self._wall(stretch.at),
                    ago=now - stretch.at,
                    state=stretch.state,
                    diagnosis=stretch.diagnosis,
                    why=stretch.why,
                    seconds=end - stretch.at,
                    present=not found,
                    outage_id=stretch.outage_id,
                )
            )
            end = stretch.at
        return tuple(found)

    def leader_changes(self) -> tuple[LeaderChangeStatus, ...]:
        """Return the leader changes of the window that were no outages, the newest first."""
        now = self._clock.monotonic()
        self._forget(now)
        return tuple(
            LeaderChangeStatus(self._wall(each.at), now - each.at, each.seconds, each.raft_term)
            for each in reversed(list(self._leader_changes))
        )

    @property
    def outage(self) -> OutageStatus | None:
        """The present outage; None if there is none."""
        return self._shown(self._present)

    @property
    def last_outage(self) -> OutageStatus | None:
        """The last outage that is over, however long ago; None if there was none."""
        return self._shown(self._last)

    def _shown(self, outage: _Outage | None) -> OutageStatus | None:
        if outage is None:
            return None
        began, ended_at = outage.began, outage.ended_at
        return OutageStatus(
            outage_id=began.outage_id,
            began=self._wall(began.at),
            seconds=(self._clock.monotonic() if ended_at is None else ended_at) - began.at,
            ended=None if ended_at is None else self._wall(ended_at),
            diagnosis=began.diagnosis,
            why=began.why,
            trace_query=f'{{span.tideover.outage_id="{began.outage_id}"}}',
        )

    def _wall(self, at: float) -> datetime:
        ago = self._clock.monotonic() - at
        return datetime.fromtimestamp(self._clock.wall() - ago, UTC)
