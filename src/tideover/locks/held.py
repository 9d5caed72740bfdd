"""What the body of a lock is given."""

from __future__ import annotations

from typing import Protocol

import anyio

from tideover.core.fence import Guard
from tideover.errors import LockConflict, LockLost, NotDistributed, SessionLost
from tideover.locks.place import Place
from tideover.locks.wish import Wish
from tideover.marks import RequestRecord, current_record
from tideover.records import LockMode
from tideover.resilience.fencing import FENCING_FIELD, Fence, fencing_token
from tideover.resilience.ledger import Hold
from tideover.resilience.reconcile import Fate, fate


class Keeper(Protocol):
    """What a hold needs of whoever gave it."""

    def outage_declared(self) -> bool:
        """Whether an outage is declared."""
        ...

    def epoch(self) -> int:
        """Return the epoch tokens belong to."""
        ...

    def boot(self) -> float:
        """Return the boot-time clock, in seconds."""
        ...

    def turned(self, held: Held, why: str) -> None:
        """Take in that a hold stands on other ground."""
        ...

    def ended(self, held: Held, error: LockLost | LockConflict) -> None:
        """Take in that a hold was lost while its body runs."""
        ...


class Held:
    """A lock that is held: what `async with tide.lock(...) as held` gives.

    All it says is computed when it is asked, so that a process that was stopped for a while does not believe
    what was true before.

    Attributes:
        name: The lock's name.
    """

    def __init__(self, name: str, wish: Wish, keeper: Keeper, place: Place | None) -> None:
        self.name = name
        self.wish = wish
        self.has_turn = False
        self.since = keeper.boot()
        self.mode_since = self.since
        self.hold: Hold | None = None
        self.is_written_off = False
        self.record: RequestRecord | None = current_record.get()
        self.scope: anyio.CancelScope | None = None
        self._keeper = keeper
        self._mode = LockMode.LOCAL
        self._token = 0
        self._epoch = 0
        self._outcome = ""
        self._error: LockLost | LockConflict | None = None
        self.place = place
        if place is not None:
            self._take(place)

    def __repr__(self) -> str:
        """Show the name, on what ground it is held, and the token."""
        if self._error is not None:
            return f"<Held {self.name!r}: {self._error}>"
        token = f", token {self._token}" if self._mode is LockMode.DISTRIBUTED else ""
        return f"<Held {self.name!r} {self._mode}{token}>"

    # What the body may ask -------------------------------------------------------------------------------------

    @property
    def mode(self) -> LockMode:
        """On what ground it is held: `DISTRIBUTED`, or `LOCAL`, which others elsewhere may hold too.

        May change within the body, when etcd is away for longer than the session's deadline, and when it is back.
        """
        self.assess()
        return self._mode

    @property
    def token(self) -> int:
        """The fencing token: grows strictly with every grant of this name, within an epoch.

        Raises:
            NotDistributed: It is LOCAL.

        When degraded:
            As long as it is DISTRIBUTED, the same. One taken LOCAL gets a token when etcd is back and it is
            DISTRIBUTED.
        """
        self._must_be_distributed("a fencing token")
        return self._token

    @property
    def revision(self) -> int:
        """The create revision of its key in etcd: what clients in Go fence by. Use it with `handover=False`.

        Raises:
            NotDistributed: It is LOCAL.
        """
        place = self._must_be_distributed("a revision")
        return place.own.create_revision

    @property
    def epoch(self) -> int:
        """Which history of etcd the token belongs to: compare `(epoch, token)`."""
        return self._epoch

    @property
    def deadline(self) -> float:
        """Until when it is held for certain, in seconds of the boot-time clock; moves with each proven renewal.

        Raises:
            NotDistributed: It is LOCAL: then nothing is certain.
        """
        return self._must_be_distributed("a deadline").session.deadline

    def check(self) -> None:
        """Return if it is still held, at this very moment. To be called right before what it protects. No I/O.

        Raises:
            LockLost: It is not.
            LockConflict: It was LOCAL, and after the outage somebody else had it.

        When degraded:
            Passes until the deadline. From then on it raises, or, with `on_outage="local"`, the lock is LOCAL and
            it passes: look at `mode`.
        """
        error = self.assess()
        if error is not None:
            raise error

    def guard(self) -> Guard:
        """Return what fences a write to etcd: `await tide.config.put(key, value, guard=held.guard())`.

        The write is applied only if the lock's key is still there, at the very moment of the write.

        Raises:
            NotDistributed: It is LOCAL: nothing in etcd could fence it.
            LockLost: It is not held any more.
            LockConflict: Likewise.

        When degraded:
            As `check`; the write itself needs a quorum.
        """
        self.check()
        place = self._must_be_distributed("a guard")
        return Guard(
            place.own.full,
            place.own.create_revision,
            check=self.check_distributed,
            pending=place.pending,
            lose=self._lose,
        )

    def _lose(self, why: str) -> LockLost | LockConflict:
        error = LockLost(f"lock {self.name!r} is lost: {why}")
        self.end(error)
        return self._error or error

    def headers(self) -> dict[str, str]:
        """Return the HTTP header that shows the fencing token to a service that checks it.

        Raises:
            NotDistributed: It is LOCAL.
            LockLost: It is not held any more.
            LockConflict: Likewise.
        """
        self.check()
        return {FENCING_FIELD: Fence(self.name, self.epoch, self.token).to_field()}

    def check_distributed(self) -> None:
        """Do as `check`, and insist on DISTRIBUTED."""
        self.check()
        self._must_be_distributed("a guarded write")

    def _must_be_distributed(self, what: str) -> Place:
        self.assess()
        place = self.place
        if self._mode is LockMode.LOCAL or place is None:
            raise NotDistributed(f"lock {self.name!r} is held LOCAL, because etcd is away: it has not {what}")
        return place

    # What becomes of it ----------------------------------------------------------------------------------------

    def assess(self) -> LockLost | LockConflict | None:
        """Work out how it stands, now; return why it is lost, None if it is held."""
        place = self.place
        if self._error is not None or self._mode is LockMode.LOCAL or place is None:
            return self._error
        loss = place.loss()
        if loss is not None:
            self._doubt(loss)
        return self._error

    def _doubt(self, loss: SessionLost) -> None:
        becomes = fate(
            definite=loss.definite,
            may_be_local=self.wish.on_outage == "local" and place_is_hosted(self.place),
            outage=self._keeper.outage_declared(),
        )
        if becomes is Fate.TURN_LOCAL:
            self._mode = LockMode.LOCAL
            self._keeper.turned(self, str(loss))
            self.mode_since = self._keeper.boot()
        else:
            self.end(LockLost(f"lock {self.name!r} is lost: {loss}"))

    def end(self, error: LockLost | LockConflict) -> None:
        """Let it be lost: the body is cancelled."""
        if self._error is None:
            self._error = error
            self._keeper.ended(self, error)
            if self.scope is not None:
                self.scope.cancel()

    def leave(self) -> LockLost | LockConflict | None:
        """End it with its body; return why it was lost before that, None if it was not."""
        error = self.assess()
        if error is not None:
            self._outcome = "conflict" if isinstance(error, LockConflict) else "lost"
        else:
            self._outcome = "ok" if self._mode is LockMode.DISTRIBUTED else "local"
        self._error = error or LockLost(f"lock {self.name!r}: its body has been left")
        return error

    def promote(self, place: Place) -> None:
        """Let it be DISTRIBUTED, on a key that is first in its line."""
        again = place is self.place
        self.place = place
        place.holder = self
        if again:
            self._mode = LockMode.DISTRIBUTED
        else:
            self._take(place)
        self._keeper.turned(self, "etcd is back")
        self.mode_since = self._keeper.boot()

    def _take(self, place: Place) -> None:
        place.holder = self
        place.issued += 1
        self._token = fencing_token(place.own.create_revision, place.handovers)
        self._epoch = self._keeper.epoch()
        self._mode = LockMode.DISTRIBUTED

    @property
    def outcome(self) -> str:
        """How it went, for metrics."""
        return self._outcome

    @property
    def is_local(self) -> bool:
        """Whether it is held LOCAL, still."""
        return self._mode is LockMode.LOCAL and self._error is None

    @property
    def last_mode(self) -> LockMode:
        """On what ground it was held when that was last worked out."""
        return self._mode

    @property
    def last_token(self) -> int:
        """Its token if it is DISTRIBUTED, else 0."""
        return self._token if self._mode is LockMode.DISTRIBUTED else 0


def place_is_hosted(place: Place | None) -> bool:
    """Whether the host lock is held along with a place: without it nothing keeps a LOCAL lock apart."""
    return place is not None and place.hosted
