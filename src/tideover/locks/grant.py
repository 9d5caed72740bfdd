"""One grant of a lock: on what ground it stands, and what becomes of that."""

from __future__ import annotations

from typing import Protocol

from tideover.body_scope import BodyScope
from tideover.errors import LockConflict, LockLost, NotDistributed, SessionLost
from tideover.fencing.token import fencing_token
from tideover.home import Home
from tideover.locks.options import LockOptions
from tideover.locks.queue_key import QueueKey
from tideover.locks.rules.overlaps import Hold
from tideover.locks.rules.recovery import Fate, fate
from tideover.request_record import RequestRecord, present_record
from tideover.types import LockMode


class Keeper(Protocol):
    """What a grant needs of the `Locks` that gave it.

    Attributes:
        home: The event loop it belongs to.
    """

    home: Home

    def is_away(self) -> bool:
        """Whether etcd is away, and that is no leader change."""
        ...

    def epoch(self) -> int:
        """Return the epoch tokens belong to."""
        ...

    def boot(self) -> float:
        """Return the boot-time clock, in seconds."""
        ...

    def turned(self, grant: Grant, why: str) -> None:
        """Take in that a hold stands on other ground."""
        ...

    def ended(self, grant: Grant, error: LockLost | LockConflict) -> None:
        """Take in that a hold was lost while its body runs."""
        ...


class Grant:
    """One grant of a lock.

    Args:
        name: The lock.
        wish: What it was asked for with.
        keeper: Whoever gave it.
        place: Our key in etcd's line; None if it is LOCAL.

    Attributes:
        mode: On what ground it was held when that was last worked out.
        token: The fencing token, as long as it is DISTRIBUTED.
        epoch: Which history of etcd the token belongs to.
        error: Why it is not held any more; None if it is, as far as was last worked out.
        has_turn: Whether it has the turn of its cohort.
        since: When it began, in boot-time seconds.
        mode_since: Since when it is held on this ground.
        hold: What the ledger has of it; None as long as it touched no outage.
        is_written_off: Whether the ledger knows that it has ended.
        record: The request in which it was asked for.
        body: What the body runs in; None before it begins.
        outcome: How it went, for metrics, once it is over.
    """

    def __init__(self, name: str, wish: LockOptions, keeper: Keeper, place: QueueKey | None) -> None:
        self.name = name
        self.wish = wish
        self.mode = LockMode.LOCAL
        self.token = 0
        self.epoch = 0
        self.error: LockLost | LockConflict | None = None
        self.has_turn = False
        self.since = self.mode_since = keeper.boot()
        self.hold: Hold | None = None
        self.is_written_off = False
        self.record: RequestRecord | None = present_record()
        self.body: BodyScope | None = None
        self.outcome = ""
        self.place = place
        self._keeper = keeper
        if place is not None:
            self._take(place)

    def __repr__(self) -> str:
        """Show the name, on what ground it is held, and the token."""
        if self.error is not None:
            return f"<Grant of {self.name!r}: {self.error}>"
        token = f", token {self.token}" if self.mode is LockMode.DISTRIBUTED else ""
        return f"<Grant of {self.name!r} {self.mode}{token}>"

    def distributed(self, what: str) -> QueueKey:
        """Return the place, and insist on there being one.

        Args:
            what: What it is needed for.

        Raises:
            NotDistributed: It is LOCAL.
        """
        self.assess()
        place = self.place
        if self.mode is LockMode.LOCAL or place is None:
            raise NotDistributed(f"lock {self.name!r} is held LOCAL, because etcd is away: it has not {what}")
        return place

    def lose(self, why: str) -> LockLost | LockConflict:
        """Take in a definite no; return the error that says so."""
        error = LockLost(f"lock {self.name!r} is lost: {why}")
        self.end(error)
        return self.error or error

    # What becomes of it ----------------------------------------------------------------------------------------

    def assess(self) -> LockLost | LockConflict | None:
        """Work out how it stands, now; return why it is lost, None if it is held."""
        place = self.place
        if self.error is not None or self.mode is LockMode.LOCAL or place is None:
            return self.error
        loss = place.loss()
        if loss is not None:
            self._doubt(loss)
        return self.error

    def _doubt(self, loss: SessionLost) -> None:
        becomes = fate(
            definite=loss.definite,
            may_be_local=self.wish.on_outage == "local" and place_is_hosted(self.place),
            away=self._keeper.is_away(),
        )
        if becomes is Fate.TURN_LOCAL:
            self.mode = LockMode.LOCAL
            self._keeper.home.loop.soon(self._turned, str(loss))
        else:
            self.end(LockLost(f"lock {self.name!r} is lost: {loss}"))

    def end(self, error: LockLost | LockConflict) -> None:
        """Let it be lost: the body is cancelled."""
        if self.error is None:
            self.error = error
            self._keeper.home.loop.soon(self._ended, error)

    def _turned(self, why: str) -> None:
        # Another thread may have found out, and the body may have been left meanwhile.
        if not self.outcome:
            self._keeper.turned(self, why)
            self.mode_since = self._keeper.boot()

    def _ended(self, error: LockLost | LockConflict) -> None:
        if not self.outcome:
            self._keeper.ended(self, error)
            if self.body is not None:
                self.body.end()

    def stray(self, why: str) -> None:
        """Count as lost, because nothing can end the body; the place is kept until that has been left."""
        self.end(LockLost(f"lock {self.name!r} counts as lost: {why}"))

    def leave(self) -> LockLost | LockConflict | None:
        """End it with its body; return why it was lost before that, None if it was not."""
        error = self.assess()
        if error is not None:
            self.outcome = "conflict" if isinstance(error, LockConflict) else "lost"
        else:
            self.outcome = "ok" if self.mode is LockMode.DISTRIBUTED else "local"
        self.error = error or LockLost(f"lock {self.name!r}: its body has been left")
        return error

    def promote(self, place: QueueKey) -> None:
        """Let it be DISTRIBUTED, on a key that is first in its line."""
        again = place is self.place
        self.place = place
        place.holder = self
        if again:
            self.mode = LockMode.DISTRIBUTED
        else:
            self._take(place)
        self._turned("etcd is back")

    def _take(self, place: QueueKey) -> None:
        place.holder = self
        place.issued += 1
        self.token = fencing_token(place.own.create_revision, place.handovers)
        self.epoch = self._keeper.epoch()
        self.mode = LockMode.DISTRIBUTED

    @property
    def is_local(self) -> bool:
        """Whether it is held LOCAL, still."""
        return self.mode is LockMode.LOCAL and self.error is None

    @property
    def distributed_token(self) -> int:
        """Its token if it is DISTRIBUTED, else 0."""
        return self.token if self.mode is LockMode.DISTRIBUTED else 0


def place_is_hosted(place: QueueKey | None) -> bool:
    """Whether the host lock is held along with a place: without it nothing keeps a LOCAL lock apart."""
    return place is not None and place.hosted
