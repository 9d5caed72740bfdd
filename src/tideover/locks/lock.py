"""`tide.lock(...)`: a body that runs only while it holds the lock."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from tideover.body_scope import BodyScope, raise_loss
from tideover.errors import Closed
from tideover.home import Home
from tideover.locks.grant import Grant
from tideover.locks.held import Held
from tideover.locks.options import LockOptions
from tideover.locks.reentrancy import Body, innermost, is_inside, leave


class Owner(Protocol):
    """The `Locks` that gives grants and takes them back.

    Attributes:
        home: The event loop it belongs to.
    """

    home: Home

    async def acquire(self, name: str, wish: LockOptions, *, inside: bool) -> Grant:
        """Wait for a lock, perhaps inside a body of the same one."""
        ...

    def holder(self, name: str, wish: LockOptions) -> str:
        """Return who has a lock that is waited for here, for people; empty if that is not known."""
        ...

    def release(self, grant: Grant) -> None:
        """Take a lock back; never waits."""
        ...


class Lock:
    """A lock for the length of an `async with` block; made by `Coordinator.lock`, which documents it.

    Args:
        owner: Where it comes from.
        name: The lock's name.
        wish: The options.
    """

    __slots__ = ("_entered", "_grant", "_name", "_owner", "_wish")

    def __init__(self, owner: Owner, name: str, wish: LockOptions) -> None:
        self._owner = owner
        self._name = name
        self._wish = wish
        self._grant: Grant | None = None
        self._entered = False

    def __repr__(self) -> str:
        """Show the name, and what is held."""
        return f"<Lock {self._name!r} {self._grant or 'not held'}>"

    @property
    def held_by(self) -> str:
        """Who has it while it is waited for, for people, and since when, as etcd last said; else empty."""
        return self._owner.holder(self._name, self._wish)

    async def __aenter__(self) -> Held:
        """Wait for the lock; entering the body means holding it."""
        self._owner.home.check(self)
        if self._entered:
            raise Closed(f"lock {self._name!r} is entered only once: call lock() again")
        self._entered = True
        outer = innermost.get()
        inside = outer is not None and is_inside(self._owner, self._name)
        grant = self._grant = await self._owner.acquire(self._name, self._wish, inside=inside)
        body = grant.body = BodyScope(grant.stray)
        body.enter()
        innermost.set(Body(self._owner, self._name, body.cancel_scope, outer))
        return Held(grant)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let go, and say so if it was lost before the body ended."""
        self._owner.home.check(self)
        grant = self._grant
        if grant is None or grant.body is None:  # pragma: no cover - the language enters before it leaves
            raise Closed("not entered")
        leave(grant.body.cancel_scope)
        try:
            ended = grant.body.leave(exc)
            loss = grant.leave()
        finally:
            self._owner.release(grant)
        if loss is not None:
            raise_loss(loss, exc, ended=ended)
