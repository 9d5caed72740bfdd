"""What the body of a lock is given."""

from __future__ import annotations

from tideover.fencing.guard import Guard
from tideover.fencing.token import FENCING_FIELD, Fence
from tideover.locks.grant import Grant
from tideover.store.transactions import Compare
from tideover.types import LockMode


class Held:
    """A lock that is held: what `async with tide.lock(...) as held` gives.

    All it says is computed when it is asked, so that a process that was stopped for a while does not believe what
    was true before.
    """

    __slots__ = ("_grant",)

    def __init__(self, grant: Grant) -> None:
        self._grant = grant

    def __repr__(self) -> str:
        """Show the name, on what ground it is held, and the token."""
        return repr(self._grant).replace("Grant of", "Held", 1)

    @property
    def name(self) -> str:
        """The lock's name."""
        return self._grant.name

    @property
    def mode(self) -> LockMode:
        """On what ground it is held: `DISTRIBUTED`, or `LOCAL`, which others elsewhere may hold too.

        May change within the body, when etcd is away for longer than the session's deadline, and when it is back.
        """
        self._grant.assess()
        return self._grant.mode

    @property
    def token(self) -> int:
        """The fencing token: grows strictly with every grant of this name, within an epoch.

        Raises:
            NotDistributed: It is LOCAL.

        When degraded:
            As long as it is DISTRIBUTED, the same. One taken LOCAL gets a token when etcd is back and it is
            DISTRIBUTED.
        """
        self._grant.distributed("a fencing token")
        return self._grant.token

    @property
    def revision(self) -> int:
        """The create revision of its key in etcd: what clients in Go fence by. Use it with `handover=False`.

        Raises:
            NotDistributed: It is LOCAL.
        """
        return self._grant.distributed("a revision").own.create_revision

    @property
    def epoch(self) -> int:
        """Which history of etcd the token belongs to: compare `(epoch, token)`."""
        return self._grant.epoch

    @property
    def deadline(self) -> float:
        """Until when it is held for certain, in seconds of the boot-time clock; moves with each proven renewal.

        Raises:
            NotDistributed: It is LOCAL: then nothing is certain.
        """
        return self._grant.distributed("a deadline").session.deadline

    def check(self) -> None:
        """Return if it is still held, at this very moment. To be called right before what it protects. No I/O.

        Raises:
            LockLost: It is not.
            LockConflict: It was LOCAL, and after the outage somebody else had it.

        When degraded:
            Passes until the deadline. From then on it raises, or, with `on_outage="local"`, the lock is LOCAL and
            it passes: look at `mode`.
        """
        error = self._grant.assess()
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
        place = self._grant.distributed("a guard")
        return Guard(
            Compare(place.own.full, create_revision=place.own.create_revision),
            check=self._check_distributed,
            pending=place.pending,
            lose=self._grant.lose,
        )

    def headers(self) -> dict[str, str]:
        """Return the HTTP header that shows the fencing token to a service that checks it.

        Raises:
            NotDistributed: It is LOCAL.
            LockLost: It is not held any more.
            LockConflict: Likewise.
        """
        self.check()
        return {FENCING_FIELD: Fence(self.name, self.epoch, self.token).to_field()}

    def _check_distributed(self) -> None:
        self.check()
        self._grant.distributed("a guarded write")
