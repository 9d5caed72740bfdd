"""One registration as a desired state: what is to be in etcd, what is there, and what is to be said of it.

1. Wait until etcd can be asked. After an outage, or when the lease was lost, wait for a share of a few seconds
   more, because all others come back at the same time.
2. Put the key under the session that the registrations of its ttl share, and again whenever what it is to say
   changes, or it was deleted by somebody.
3. When the session is lost, begin again. Nothing ends this but the owner.
4. At the end say that it leaves, and then delete the key: one that just vanishes is one whose owner may have been
   slow, and followers would hold it in their lists for a while.

In an outage nothing needs to be done: etcd keeps leases as long as it has no leader, and gives them their full
time again when it has one. The watch on the key tells when it is gone, and once a minute it is looked at all the
same: a key that was missed for whatever reason would be missed for ever.

The key ends in the incarnation, which nobody else has, and every delete is guarded by its revision. So an old
process takes nothing away from its successor.

No task waits for a single registration: `keeper` does each of these steps when it is due.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

import anyio

from tideover import telemetry
from tideover.broadcast import Broadcast
from tideover.clock import Clock
from tideover.cluster.state import ClusterState
from tideover.discovery.endpoint import Endpoint
from tideover.errors import Closed, OutcomeUnknown, SessionLost, TideoverError, Unavailable
from tideover.registration.registration import Registration
from tideover.registration.rules import Comeback, Failure, share_of
from tideover.registration.shared import SharedSession
from tideover.sessions.key import LeasedKey, Notice
from tideover.status import RegistrationStatus
from tideover.types import RegistrationState

# Seconds by which etcd may end a lease late: it looks twice a second, and the leader of a moment ago has its own.
_LEASE_LATENESS = 1.5
# What may be otherwise at the next try. Every other error is a definite no.
PASSING = (Unavailable, OutcomeUnknown, SessionLost)


class Stage(Enum):
    """What the keeper does about a registration now.

    Attributes:
        RESTING: Nothing: it is there, or nobody has begun.
        AWAY: It waits until the outage is over.
        PLANNED: It is tried when it is due.
        OPENING: It waits for its session.
        WRITING: A task writes its key.
    """

    RESTING = "resting"
    AWAY = "away"
    PLANNED = "planned"
    OPENING = "opening"
    WRITING = "writing"


class Publisher:
    """What one endpoint is to be in etcd, and how it stands.

    Args:
        registration: What is registered.
        base: What goes before the name of a key in etcd.
        cluster: Whether an outage is declared.
        clock: The clocks.
        chance: Draws a number uniformly from [0, 1).

    Attributes:
        endpoint: What is to be in etcd.
        ttl: Seconds that its lease is asked for.
        alone: Whether its lease is for nobody else: it has been the cause of trouble, and may be so again.
        shared: The session that it stands under, or is to stand under.
        own: Its key, as far as it is known to be there.
        written: What that key says.
        stage: What the keeper does about it now.
        due: When it is tried next, on the monotonic clock, while that is planned.
        writing: The scope of the task that writes, while there is one.
        changed: Fires when any of this changed.
        settled: Set once it is known how the first try went.
        ended: Given when it is given up.
        error: Why it is not there, or not as it is to be; None while all is well.
        comebacks: How often it was put there again after it had been lost.
    """

    def __init__(
        self,
        registration: Registration,
        *,
        base: str,
        cluster: ClusterState,
        clock: Clock,
        chance: Callable[[], float],
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
        self._base = base
        self._cluster = cluster
        self._clock = clock
        self._chance = chance
        self._comeback = Comeback()
        self._since = clock.monotonic()
        self._was_there = False
        self._shown = self.state

    def __repr__(self) -> str:
        """Show the service, the instance and the state."""
        return f"<Publisher {self.endpoint.service!r} {self.endpoint.instance} {self.state}>"

    @property
    def full(self) -> bytes:
        """Its key in etcd."""
        return f"{self._base}{self.endpoint.key}".encode()

    @property
    def is_there(self) -> bool:
        """Whether its key is in etcd, as far as is known."""
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
        """Whether etcd has what it is to have, as far as is known."""
        return self.state is RegistrationState.REGISTERED and self.written == self.endpoint

    def report(self) -> RegistrationStatus:
        """Return what `status()` shows of it."""
        endpoint = self.endpoint
        try:
            state, doubt = self.state, self._doubt()
        except Closed as exc:
            # Of a forked child: session and key have stayed with the process that it was forked from.
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

    def _doubt(self) -> str | None:
        loss = None if self.shared is None or self.ended else self.shared.session.loss()
        return None if loss is None else str(loss)

    # What has happened -----------------------------------------------------------------------------------------

    def take(self, own: LeasedKey, written: Endpoint, *, moved: bool) -> None:
        """Record that its key was written.

        Args:
            own: The key.
            written: What it says.
            moved: Whether it was there before, under another session.
        """
        fresh, self.own, self.written = self.own is not own, own, written
        self._comeback, self.error = self._comeback.there(), None
        if fresh and not moved:
            self._since = self._clock.monotonic()
            self.comebacks += self._was_there
            self.tell("registered again" if self._was_there else "registered")
            self._was_there = True
        self._shown = RegistrationState.REGISTERED
        self.settled.set()
        self.changed.fire()

    def lose_key(self, why: str) -> None:
        """Record that its key was deleted, and its lease was not."""
        self.own = None
        self._comeback = self._comeback.lasted(self._clock.monotonic() - self._since)
        self.meet(Failure.DELETED, f"its key is gone: {why}")

    def lose_session(self, why: str) -> None:
        """Record that its lease has ended."""
        self.own = self.shared = None
        self.meet(Failure.LOST, f"its lease has ended: {why}")

    def fail(self, why: str) -> None:
        """Record that a try has failed which may do better the next time."""
        self.meet(Failure.FAILED, why)

    def set_back(self, exc: TideoverError) -> None:
        """Record how a try has failed."""
        self.meet(Failure.FAILED if isinstance(exc, PASSING) else Failure.REFUSED, str(exc))

    def meet(self, setback: Failure, why: str) -> None:
        """Record what has gone wrong, and say so once."""
        was_refused = self._comeback.refused
        self._comeback = self._comeback.after(setback)
        if setback is Failure.REFUSED and not was_refused:
            self.tell(f"refused: {why}", logging.ERROR)
        elif setback in (Failure.LOST, Failure.DELETED) or (setback is Failure.OUTAGE and self.error is None):
            self.tell(why, logging.WARNING)
        if setback in (Failure.LOST, Failure.DELETED):
            self._since = self._clock.monotonic()
        self.error = why
        if setback in (Failure.OUTAGE, Failure.REFUSED):
            self.settled.set()
        self.changed.fire()

    def yield_name(self) -> None:
        """Draw another incarnation: there is a key of this name that is not its own."""
        taken, self.own = self.full, None
        self.endpoint = replace(self.endpoint, incarnation=_draw())
        self.tell(f"its key {taken!r} is there from another time; it is registered under another incarnation")

    @property
    def delay(self) -> float:
        """Seconds to wait before the next try; drawn for each try."""
        return self._comeback.delay(share=self.share, chance=self._chance())

    @property
    def share(self) -> float:
        """Its share of what those wait for who return together, in [0, 1)."""
        return share_of(self.endpoint.incarnation)

    # What is said ----------------------------------------------------------------------------------------------

    def tell(self, what: str, level: int = logging.INFO) -> None:
        """Log what has become of it."""
        telemetry.registration_changed(self.endpoint.service, self.endpoint.instance, what, level=level)

    def show(self) -> None:
        """Let those who wait see that the state has changed: it goes by the clock as well."""
        before, now = self._shown, self.state
        if before is now:
            return
        self._shown = now
        if now is RegistrationState.UNCONFIRMED:
            why = self._doubt()
            self.tell(f"unconfirmed: its key stays in etcd as long as etcd is away ({why})", logging.WARNING)
        elif (before, now) == (RegistrationState.UNCONFIRMED, RegistrationState.REGISTERED):
            self.tell("confirmed again")
        self.changed.fire()

    def tell_end(self, left_behind: str | None, *, there: bool, moving: float = 0.0) -> None:
        """Log what has become of its key at the end.

        Args:
            left_behind: Why it may still be in etcd; None if it is gone.
            there: Whether it was there.
            moving: Seconds for which its lease may be renewed yet, because others leave it first.
        """
        if left_behind is None:
            self.tell("deregistered" if there else "given up while it was not in etcd")
            return
        within = self.ttl + _LEASE_LATENESS + moving
        self.tell(
            f"given up, but not deregistered ({left_behind}): its key {'stays' if there else 'may stay'} in etcd "
            f"for {within:g} s at the most, counted from when etcd has a leader again",
            logging.WARNING,
        )


def _draw() -> str:
    """Return the name of one incarnation: nobody else draws the same."""
    return secrets.token_hex(8)
