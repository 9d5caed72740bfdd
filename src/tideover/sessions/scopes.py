"""What runs only as long as its session may be relied upon, and the one who looks at the clock for it.

Timers stand still while a machine is suspended, and the clock of a deadline does not. So while a body relies on a
session the clock is looked at ten times a second, and not only when a timer says that the deadline has come.
"""

from __future__ import annotations

import logging
import math

import anyio

from tideover import telemetry
from tideover.errors import SessionLost
from tideover.sessions.keys import Holdings
from tideover.sessions.lease import Tenure
from tideover.types import Component

# Seconds between two looks at the clock: while a body relies on the session, and while none does.
_LOOK = 0.1
_IDLE_LOOK = 1.0
# Seconds by which the loop's timer is later than the deadline, so that it is never earlier on the other clock.
_AFTER = 0.001


class Bodies:
    """The bodies that rely on one session.

    Args:
        tenure: Its lease.
        holdings: Its keys.
        component: On whose behalf it is open.
    """

    def __init__(self, tenure: Tenure, holdings: Holdings, *, component: Component = "session") -> None:
        self._tenure = tenure
        self._holdings = holdings
        self._component = component
        # Each with whether it ends with the deadline, or only with the session.
        self._scopes: dict[anyio.CancelScope, bool] = {}
        # Up to when the loop's timers are set: moving them all costs something, with thousands of bodies.
        self._timed_until: float | None = None
        self._closed = False
        self._told = False

    def __repr__(self) -> str:
        """Count them."""
        return f"<Bodies {len(self._scopes)} relying on {self._tenure!r}>"

    def bind(self, scope: anyio.CancelScope, *, at_deadline: bool) -> None:
        """Cancel a scope when the time has come; see `Session.bind`."""
        if self._closed:
            # Nobody looks at the clock for it any more.
            scope.cancel()
            return
        self._scopes[scope] = at_deadline
        if at_deadline:
            scope.deadline = self._end()
        if len(self._scopes) == 1 or self._tenure.loss() is not None:
            # From now on the clock is looked at more often; or it has come too late.
            self._tenure.changed.fire()

    def unbind(self, scope: anyio.CancelScope) -> None:
        """Do not cancel a scope any more."""
        if self._scopes.pop(scope, False):
            scope.deadline = math.inf

    def release(self) -> None:
        """Cancel nothing any more: the session was given up on purpose, and what relied on it goes on."""
        self._closed = True
        for scope in list(self._scopes):
            self.unbind(scope)

    def close(self) -> None:
        """Cancel all: their session was closed under them."""
        self._closed = True
        self._cancel(definite=True)

    async def run(self) -> None:
        """Look at the clock until cancelled."""
        tenure = self._tenure
        while True:
            changed = tenure.changed.next()
            tenure.settle()
            loss = tenure.loss()
            if loss is not None:
                self._cancel(definite=loss.definite)
            self._move_deadlines()
            self._tell(loss)
            if tenure.lost:
                for own in self._holdings:
                    self._holdings.forget(own, tenure.lost.reason or "")
                self._holdings.changed.fire()
            look = _LOOK if self._scopes else _IDLE_LOOK
            with anyio.move_on_after(look if loss is not None else min(look, max(0.0, tenure.left))):
                await changed.wait()

    def _move_deadlines(self) -> None:
        """Let the event loop itself cancel bodies at the deadline: that takes no turn of this task."""
        deadline = self._tenure.lease.deadline
        if deadline == self._timed_until:
            return
        self._timed_until, end = deadline, self._end()
        for scope, at_deadline in self._scopes.items():
            if at_deadline:
                scope.deadline = end

    def _end(self) -> float:
        """Return the deadline on the event loop's clock."""
        return anyio.current_time() + self._tenure.left + _AFTER

    def _cancel(self, *, definite: bool) -> None:
        for scope, at_deadline in list(self._scopes.items()):
            if at_deadline or definite:
                del self._scopes[scope]
                scope.cancel()

    def _tell(self, loss: SessionLost | None) -> None:
        """Log that the session may not be relied upon any more, or may be again: once each."""
        if (loss is not None) is self._told or self._closed or self._component != "session":
            # A lock and a registration say so themselves.
            return
        self._told = loss is not None
        keys = [own.key for own in self._holdings]
        if loss is not None:
            telemetry.session_changed(str(loss), keys, level=logging.WARNING)
        else:
            telemetry.session_changed(f"session {self._tenure.lease_id:x}: proven again", keys)
