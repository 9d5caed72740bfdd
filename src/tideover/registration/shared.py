"""A session that several registrations stand under, and who they are."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

import anyio

from tideover.sessions.session import Session
from tideover.types import SessionState

T = TypeVar("T", bound=Hashable)


class SharedSession(Generic[T]):
    """One lease for all registrations of a ttl, or for one that has been the cause of trouble.

    Attributes:
        tenants: Who stands under it, or is about to, in the order in which they came.
        due: Those of them whose keys are to be written now.
        left: Keys that could not be deleted when their registrations ended.
        suspected: Whether etcd has refused a write under it that was not refused for its own key.
        sorted_at: When it was last asked who is refused, on the monotonic clock.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.tenants: dict[T, None] = {}
        self.due: list[T] = []
        self.left: set[bytes] = set()
        self.suspected = False
        self.sorted_at = 0.0
        self.closing = False
        self.closed = anyio.Event()
        self._doubted = False

    def __repr__(self) -> str:
        """Show the session, and count who stands under it."""
        return f"<SharedSession {len(self.tenants)} registrations under {self.session!r}>"

    @property
    def lost(self) -> bool:
        """Whether it has ended."""
        return bool(self.session.lost)

    @property
    def in_trouble(self) -> bool:
        """Whether it is not renewed, or something was refused under it."""
        return self.suspected or self.session.state is SessionState.SUSPENDED

    def doubt_changed(self) -> bool:
        """Return whether it is relied upon where it was not at the last look, or the reverse."""
        before, self._doubted = self._doubted, self.session.loss() is not None
        return self._doubted is not before
