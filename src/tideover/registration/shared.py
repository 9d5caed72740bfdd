"""A session that several registrations share."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

import anyio

from tideover.sessions.session import Session
from tideover.types import SessionState

T = TypeVar("T", bound=Hashable)


class SharedSession(Generic[T]):
    """One lease for all registrations of a ttl, or for one whose key etcd has refused.

    Attributes:
        tenants: The registrations with a key under the lease, or about to write one, oldest first.
        due: The tenants whose keys are written next.
        left: Keys that could not be deleted when their registrations ended.
        suspected: Whether etcd has refused a write under the lease that was not refused for its own key.
        sorted_at: When the refused keys were last looked for, on the monotonic clock.
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

    @property
    def lost(self) -> bool:
        """Whether the lease has ended."""
        return bool(self.session.lost)

    @property
    def in_trouble(self) -> bool:
        """Whether the lease is not renewed, or a write under it was refused."""
        return self.suspected or self.session.state is SessionState.SUSPENDED

    def doubt_changed(self) -> bool:
        """Return whether the session became doubtful, or proven again, since the last call."""
        before, self._doubted = self._doubted, self.session.loss() is not None
        return self._doubted is not before
