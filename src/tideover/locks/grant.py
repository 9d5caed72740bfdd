"""One grant of a lock: DISTRIBUTED, LOCAL or lost, worked out by the clock whenever that is asked."""

from __future__ import annotations

from tideover.body_scope import BodyScope
from tideover.errors import LockConflict, LockLost, NotDistributed, SessionLost
from tideover.locks.context import LockContext
from tideover.locks.journal import Holding
from tideover.locks.options import LockOptions
from tideover.locks.queue_key import QueueKey
from tideover.locks.rules.recovery import Fate, fate
from tideover.types import LockMode


class Grant(Holding):
    """One grant of a lock.

    Attributes:
        place: Our key in etcd's queue; None if the lock was granted LOCAL and has not been promoted.
        error: Why the lock is lost; None while it is held, as last worked out.
        has_turn: Whether it has the turn of its cohort.
        is_reconciled: Whether a task brings it to the front of the queue: see `recovery`.
        body: What the body runs in; None before it begins.
    """

    __slots__ = ("_context", "body", "epoch", "error", "has_turn", "is_reconciled", "options", "place")

    def __init__(self, name: str, options: LockOptions, context: LockContext, place: QueueKey | None) -> None:
        super().__init__(name, context.client.clock.boot())
        self.options = options
        self.place = place
        self.epoch = 0
        self.error: LockLost | LockConflict | None = None
        self.has_turn = False
        self.is_reconciled = False
        self.body: BodyScope | None = None
        self._context = context
        if place is not None:
            self._stand_on(place)

    def __repr__(self) -> str:
        """Show the name, the mode, and the token or the loss."""
        if self.error is not None or self.outcome:
            return f"<Grant of {self.name!r}: {self.assess()}>"
        token = f", token {self.token}" if self.mode is LockMode.DISTRIBUTED else ""
        return f"<Grant of {self.name!r} {self.mode}{token}>"

    def distributed(self, what: str) -> QueueKey:
        """Return the key in etcd's queue.

        Raises `NotDistributed`, which names `what` is missing, if the lock is LOCAL.
        """
        self.assess()
        place = self.place
        if self.mode is LockMode.LOCAL or place is None:
            raise NotDistributed(f"lock {self.name!r} is held LOCAL, because etcd is away: it has not {what}")
        return place

    @property
    def is_local(self) -> bool:
        """Whether the lock is held LOCAL, as last worked out."""
        return self.mode is LockMode.LOCAL and self.error is None and not self.outcome

    @property
    def was_lost(self) -> bool:
        """Whether it was lost, for whatever reason, before its body was left."""
        return self.error is not None if not self.outcome else self.outcome in ("conflict", "lost")

    def assess(self) -> LockLost | LockConflict | None:
        """Work out by the clock what the grant is worth now; return why it is lost, None if it is held."""
        place = self.place
        if self.outcome and self.error is None:
            self.error = LockLost(f"lock {self.name!r}: its body has been left")
        if self.error is not None or self.mode is LockMode.LOCAL or place is None:
            return self.error
        loss = place.loss()
        if loss is not None:
            self._doubt(place, loss)
        return self.error

    def _doubt(self, place: QueueKey, loss: SessionLost) -> None:
        becomes = fate(
            definite=loss.definite,
            # Without the host lock nothing would keep two LOCAL holders on this machine apart.
            may_be_local=self.options.on_outage == "local" and place.hosted,
            away=self._context.client.state.health.is_away,
        )
        if becomes is Fate.TURN_LOCAL:
            self.mode = LockMode.LOCAL
            self._context.client.home.loop.soon(self._turned, str(loss))
        else:
            self.end(LockLost(f"lock {self.name!r} is lost: {loss}"))

    def end(self, error: LockLost | LockConflict) -> None:
        """Set the loss, unless there is one, and cancel the body."""
        if self.error is None:
            self.error = error
            self._context.client.home.loop.soon(self._ended, error)

    def lose(self, why: str) -> LockLost | LockConflict:
        """Apply a definite no; return the error that says so."""
        error = LockLost(f"lock {self.name!r} is lost: {why}")
        self.end(error)
        return self.error or error

    def stray(self, why: str) -> None:
        """Count as lost, because nothing can end the body; the key stays until that has been left."""
        self.end(LockLost(f"lock {self.name!r} counts as lost: {why}"))

    # Another thread may have found out, and the body may have been left before the event loop came to these two.

    def _turned(self, why: str) -> None:
        if not self.outcome:
            self._context.journal.turned(self, why)
            if self.mode is LockMode.LOCAL:
                # Should etcd be back before an outage is declared, nothing else has the hold reconciled.
                self._context.client.state.changed.fire()

    def _ended(self, error: LockLost | LockConflict) -> None:
        if not self.outcome:
            self._context.journal.lost(self, error)
            if self.body is not None:
                self.body.end()

    def leave(self) -> LockLost | LockConflict | None:
        """End the grant with its body; return why it was lost before that, None if it was not."""
        error = self.assess()
        if error is not None:
            self.outcome = "conflict" if isinstance(error, LockConflict) else "lost"
        else:
            self.outcome = "ok" if self.mode is LockMode.DISTRIBUTED else "local"
        return error

    def promote(self, place: QueueKey) -> None:
        """Turn a LOCAL hold DISTRIBUTED, on a key that is first in etcd's queue."""
        again = place is self.place
        self.place = place
        place.holder = self
        if again:
            # Nobody had the lock in between: the token stays.
            self.mode = LockMode.DISTRIBUTED
        else:
            self._stand_on(place)
        self._turned("etcd is back")

    def _stand_on(self, place: QueueKey) -> None:
        place.holder = self
        place.issued += 1
        self.stamp = place.own.create_revision, place.handovers
        self.epoch = self._context.client.epoch()
        self.mode = LockMode.DISTRIBUTED
