"""One registration as a desired state: its endpoint, its key in etcd, and its reports.

Guarantee: the endpoint returns to etcd after every loss, until its owner ends the registration.

1. Wait until etcd answers. After an outage, or a lost lease, wait for a share of a few seconds more, because all
   clients return at the same time.
2. Write the key under the session that the registrations of its ttl share; write it again when the endpoint
   changes or the key was deleted.
3. When the session is lost, start again. Only the owner ends this.
4. At the end mark the endpoint as leaving, and then delete the key: followers hold a key that just vanishes in
   their lists for a while, because its owner may only have been slow.

An outage needs no action: etcd keeps leases while it has no leader, and then grants them their full time again.
The watch on the key reports its loss; a check each minute finds what the watch may have missed.

Not guaranteed: that the key is gone after the end. Without etcd it stays until its lease ends.

The key ends in the incarnation, a random name, and every delete compares its revision. So an old process deletes
nothing of its successor's.

No task waits for a single registration: `keeper` does each of these steps when it is due.
"""

from __future__ import annotations

import logging
import math
import secrets
from dataclasses import replace
from enum import Enum

import anyio

from tideover import telemetry
from tideover.broadcast import Broadcast
from tideover.client.client import Client
from tideover.discovery.endpoint import Endpoint
from tideover.errors import Closed, OutcomeUnknown, SessionLost, TideoverError, Unavailable
from tideover.registration.registration import Registration
from tideover.registration.rules import Comeback, Failure, share_of
from tideover.registration.shared import SharedSession
from tideover.sessions.key import LeasedKey, Notice
from tideover.status import RegistrationStatus
from tideover.types import RegistrationState

# Seconds by which etcd may end a lease late: it looks twice a second, and a former leader has clocks of its own.
_LEASE_LATENESS = 1.5
# Errors that may pass at the next try. Every other error is a definite no.
PASSING = (Unavailable, OutcomeUnknown, SessionLost)


class Stage(Enum):
    """The keeper's work on a registration.

    Attributes:
        RESTING: None: the key is in etcd, or the work has not begun.
        AWAY: The registration waits for the end of the outage.
        PLANNED: The next try has its time.
        OPENING: The registration waits for its session.
        WRITING: A task writes the key.
    """

    RESTING = "resting"
    AWAY = "away"
    PLANNED = "planned"
    OPENING = "opening"
    WRITING = "writing"


class Publisher:
    """One endpoint, desired and present.

    Many attributes: the endpoint wanted and written, the session and the key, and the state that `status()` shows.

    Attributes:
        alone: Whether the registration has a session of its own, because etcd has refused its key before.
        own: The key, as far as it is known to be in etcd.
        due: When the next try is planned, on the monotonic clock.
        settled: Set after the first try, or when it must wait.
        error: Why etcd does not have the endpoint; None while it has.
        comebacks: How often the key was written again after a loss.
    """

    def __init__(
        self,
        registration: Registration,
        client: Client,
    ) -> None:
        self.endpoint = registration.endpoint(_draw())
        self.ttl = registration.ttl
        self.alone = False
        self.shared: SharedSession[Publisher] | None = None
        self.own: LeasedKey | None = None
        self.written: Endpoint | None = None
        self.stage = Stage.RESTING
        self.due = math.inf
        self.writing: anyio.CancelScope | None = None
        self.changed = Broadcast()
        self.settled = anyio.Event()
        self.ended = Notice()
        self.error: str | None = None
        self.comebacks = 0
        self._client = client
        self._clock = client.clock
        self._comeback = Comeback()
        self._since = client.clock.monotonic()
        self._was_there = False
        self._shown = self.state

    @property
    def full(self) -> bytes:
        """The key in etcd."""
        return f"{self._client.base}{self.endpoint.key}".encode()

    @property
    def is_there(self) -> bool:
        """Whether the key is in etcd, as far as is known."""
        return self.own is not None and not self.own.gone and self.shared is not None and not self.shared.lost

    @property
    def state(self) -> RegistrationState:
        """The state now; see `RegistrationState`."""
        if self.ended:
            return RegistrationState.ENDED
        if self.shared is None or not self.is_there:
            return RegistrationState.REFUSED if self._comeback.refused else RegistrationState.WAITING
        return RegistrationState.UNCONFIRMED if self.shared.session.loss() else RegistrationState.REGISTERED

    @property
    def is_current(self) -> bool:
        """Whether etcd has the present endpoint, as far as is known."""
        return self.state is RegistrationState.REGISTERED and self.written == self.endpoint

    def status(self) -> RegistrationStatus:
        """Return the status, also in a forked child."""
        endpoint = self.endpoint
        try:
            state, doubt = self.state, self._loss_text()
        except Closed as exc:
            # In a forked child: session and key have stayed with the parent.
            state, doubt = RegistrationState.UNCONFIRMED, str(exc)
        return RegistrationStatus(
            service=endpoint.service,
            instance=endpoint.instance,
            incarnation=endpoint.incarnation,
            url=endpoint.url,
            weight=endpoint.weight,
            state=state,
            seconds=self._clock.monotonic() - self._since,
            comebacks=self.comebacks,
            error=self.error or doubt,
        )

    def _loss_text(self) -> str | None:
        loss = None if self.shared is None or self.ended else self.shared.session.loss()
        return None if loss is None else str(loss)

    def record_written(self, own: LeasedKey, written: Endpoint, *, moved: bool) -> None:
        """Record that the key was written; `moved` if it was in etcd before, under another session."""
        fresh, self.own, self.written = self.own is not own, own, written
        self._comeback, self.error = self._comeback.there(), None
        if fresh and not moved:
            self._since = self._clock.monotonic()
            self.comebacks += self._was_there
            self.report("registered again" if self._was_there else "registered")
            self._was_there = True
        self._shown = RegistrationState.REGISTERED
        self.settled.set()
        self.changed.fire()

    def lose_key(self, why: str) -> None:
        """Record that the key was deleted, and its lease was not."""
        self.own = None
        self._comeback = self._comeback.lasted(self._clock.monotonic() - self._since)
        self.record_failure(Failure.DELETED, f"its key is gone: {why}")

    def lose_session(self, why: str) -> None:
        """Record that the lease has ended."""
        self.own = self.shared = None
        self.record_failure(Failure.LOST, f"its lease has ended: {why}")

    def record_error(self, exc: TideoverError) -> None:
        """Record the error of a try."""
        self.record_failure(Failure.FAILED if isinstance(exc, PASSING) else Failure.REFUSED, str(exc))

    def record_failure(self, failure: Failure, why: str) -> None:
        """Record a failure, and report it once."""
        was_refused = self._comeback.refused
        self._comeback = self._comeback.after(failure)
        if failure is Failure.REFUSED and not was_refused:
            self.report(f"refused: {why}", logging.ERROR)
        elif failure in (Failure.LOST, Failure.DELETED) or (failure is Failure.OUTAGE and self.error is None):
            self.report(why, logging.WARNING)
        if failure in (Failure.LOST, Failure.DELETED):
            self._since = self._clock.monotonic()
        self.error = why
        if failure in (Failure.OUTAGE, Failure.REFUSED):
            self.settled.set()
        self.changed.fire()

    def rename(self) -> None:
        """Draw another incarnation: etcd has a key of this name from another time."""
        taken, self.own = self.full, None
        self.endpoint = replace(self.endpoint, incarnation=_draw())
        self.report(f"its key {taken!r} is there from another time; it is registered under another incarnation")

    @property
    def delay(self) -> float:
        """Seconds to wait before the next try; drawn for each try."""
        return self._comeback.delay(share=self.share, chance=self._client.random())

    @property
    def share(self) -> float:
        """This registration's share of `SPREAD`, in [0, 1)."""
        return share_of(self.endpoint.incarnation)

    def report(self, what: str, level: int = logging.INFO) -> None:
        """Log a change."""
        telemetry.registration_changed(self.endpoint.service, self.endpoint.instance, what, level=level)

    def report_change(self) -> None:
        """Report a change of the state that came with time alone."""
        before, now = self._shown, self.state
        if before is now:
            return
        self._shown = now
        if now is RegistrationState.UNCONFIRMED:
            why = self._loss_text()
            self.report(f"unconfirmed: its key stays in etcd as long as etcd is away ({why})", logging.WARNING)
        elif (before, now) == (RegistrationState.UNCONFIRMED, RegistrationState.REGISTERED):
            self.report("confirmed again")
        self.changed.fire()

    def report_end(self, left_behind: str | None, *, there: bool, moving: float = 0.0) -> None:
        """Log the end of the registration, and, unless None, why the key may be left behind.

        The lease may still be renewed for `moving` seconds, because other registrations leave it first.
        """
        if left_behind is None:
            self.report("deregistered" if there else "given up while it was not in etcd")
            return
        within = self.ttl + _LEASE_LATENESS + moving
        self.report(
            f"given up, but not deregistered ({left_behind}): its key {'stays' if there else 'may stay'} in etcd "
            f"for {within:g} s at the most, counted from when etcd has a leader again",
            logging.WARNING,
        )


def _draw() -> str:
    """Return a random name for an incarnation."""
    return secrets.token_hex(8)
