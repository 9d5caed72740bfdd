"""`tide.lock(...)`: a body that runs only while it holds the lock, and what the body gets.

*Guarantee.* The body is entered only with the lock, and cancelled at its next await when the lock is lost; leaving
it then raises, also when the body has ended by itself. What `Held` says is worked out when it is asked.

*Not guaranteed.* A body that does not await, or a machine that stands still, goes on for a while without the lock:
what it protects elsewhere takes `Held.token`, and what it writes to etcd takes `Held.guard`.
"""

from __future__ import annotations

from types import TracebackType

from tideover.body_scope import BodyScope, raise_loss
from tideover.errors import Closed
from tideover.fencing.guard import Guard
from tideover.fencing.token import FENCING_FIELD, Fence
from tideover.locks.grant import Grant
from tideover.locks.locks import Locks
from tideover.locks.options import LockOptions, check_name
from tideover.locks.reentrancy import Body, innermost, is_inside
from tideover.store.transactions import Compare
from tideover.types import LockMode


class Lock:
    """A lock for the length of an `async with` block; made by `Coordinator.lock`, which documents it."""

    __slots__ = ("_entered", "_grant", "_inside", "_locks", "_name", "_options")

    def __init__(self, locks: Locks, name: str, options: LockOptions) -> None:
        self._locks = locks
        self._name = check_name(name)
        self._options = options
        self._grant: Grant | None = None
        self._entered = False
        self._inside: Body | None = None

    def __repr__(self) -> str:
        """Show the name, and what is held."""
        return f"<Lock {self._name!r} {self._grant or 'not held'}>"

    @property
    def held_by(self) -> str:
        """Who has the lock while it is waited for, for people, and since when, as etcd last said; else empty."""
        return self._locks.holder(self._name, self._options)

    async def __aenter__(self) -> Held:
        """Wait for the lock; entering the body means holding it."""
        locks = self._locks
        locks.home.check(self)
        if self._entered:
            raise Closed(f"lock {self._name!r} is entered only once: call lock() again")
        self._entered = True
        outer = innermost.get()
        inside = outer is not None and is_inside(locks, self._name)
        grant = self._grant = await locks.acquire(self._name, self._options, inside=inside)
        body = grant.body = BodyScope(grant.stray)
        body.enter()
        self._inside = Body(locks, self._name, body.cancel_scope, outer)
        innermost.set(self._inside)
        return Held(grant)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the lock, and raise if it was lost before the body ended."""
        self._locks.home.check(self)
        grant = self._grant
        if grant is None or grant.body is None:  # pragma: no cover - the language enters before it leaves
            raise Closed("not entered")
        if self._inside is not None and innermost.get() is self._inside:
            innermost.set(self._inside.outer)
        try:
            ended = grant.body.leave(exc)
            loss = grant.leave()
        finally:
            self._locks.release(grant)
        if loss is not None:
            raise_loss(loss, exc, ended=ended)


class Held:
    """A lock that is held: what `async with tide.lock(...) as held` gives.

    All answers are worked out when they are asked for, so that a process that was stopped for a while does not
    believe what was true before.
    """

    __slots__ = ("_grant",)

    def __init__(self, grant: Grant) -> None:
        self._grant = grant

    def __repr__(self) -> str:
        """Show the name, the mode, and the token or the loss."""
        return repr(self._grant).replace("Grant of", "Held", 1)

    @property
    def name(self) -> str:
        """The lock's name."""
        return self._grant.name

    @property
    def mode(self) -> LockMode:
        """`DISTRIBUTED`: no other client of etcd holds the lock. `LOCAL`: no other process of this machine does.

        The mode may change within the body, when etcd is away for longer than the session's deadline, and when
        etcd is back.
        """
        self._grant.assess()
        return self._grant.mode

    @property
    def token(self) -> int:
        """The fencing token: grows strictly with every grant of this name, within an epoch.

        Raises:
            NotDistributed: The lock is LOCAL.

        When degraded:
            As long as the lock is DISTRIBUTED, the same. A LOCAL lock gets a token when etcd is back and the lock
            is DISTRIBUTED.
        """
        self._grant.distributed("a fencing token")
        return self._grant.token

    @property
    def revision(self) -> int:
        """The create revision of its key in etcd: what clients in Go fence by. Use it with `handover=False`.

        Raises:
            NotDistributed: The lock is LOCAL.
        """
        return self._grant.distributed("a revision").own.create_revision

    @property
    def epoch(self) -> int:
        """Which history of etcd the token belongs to: compare `(epoch, token)`."""
        return self._grant.epoch

    @property
    def deadline(self) -> float:
        """Until when the lock is held for certain, in boot-time seconds; moves with each proven renewal.

        Raises:
            NotDistributed: The lock is LOCAL: then nothing is certain.
        """
        return self._grant.distributed("a deadline").session.deadline

    def check(self) -> None:
        """Return if the lock is held at this very moment: for the line before what the lock protects. No I/O.

        Raises:
            LockLost: The lock is not held any more.
            LockConflict: The lock was LOCAL, and after the outage another client had it.

        When degraded:
            Passes until the deadline. From then on `check` raises, or, with `on_outage="local"`, the lock is LOCAL
            and `check` passes: look at `mode`.
        """
        error = self._grant.assess()
        if error is not None:
            raise error

    def guard(self) -> Guard:
        """Return what fences a write to etcd: `await tide.config.put(key, value, guard=held.guard())`.

        The write is applied only if the lock's key is still there, at the very moment of the write.

        Raises:
            NotDistributed: The lock is LOCAL: nothing in etcd could fence the write.
            LockLost: The lock is not held any more.
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
            NotDistributed: The lock is LOCAL.
            LockLost: The lock is not held any more.
            LockConflict: Likewise.
        """
        self.check()
        return {FENCING_FIELD: Fence(self.name, self.epoch, self.token).to_field()}

    def _check_distributed(self) -> None:
        self.check()
        self._grant.distributed("a guarded write")
