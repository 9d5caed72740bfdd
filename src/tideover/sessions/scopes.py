"""What runs only as long as its session may be relied upon.

The clock is looked at by the `Lookout` of all sessions, which is precise to a tenth of a second. When a deadline
has come near, the event loop's own timers are set as well. They are not set before: each renewal would have to
move them, and that costs something with thousands of bodies.
"""

from __future__ import annotations

import logging
import math

import anyio

from tideover import telemetry
from tideover.errors import SessionLost
from tideover.sessions.keys import SessionKeys
from tideover.sessions.lease import LeaseState
from tideover.sessions.lookout import Lookout
from tideover.types import Component

# Seconds before the deadline at which the event loop's timers are set.
_NEAR = 1.0
# Seconds by which the loop's timer is later than the deadline, so that it is never earlier on the other clock.
_AFTER = 0.001


class BoundScopes:
    """The bodies that rely on one session."""

    __slots__ = ("_closed", "_component", "_holdings", "_lookout", "_scopes", "_tenure", "_timed_until", "_told")

    def __init__(
        self, tenure: LeaseState, holdings: SessionKeys, *, lookout: Lookout, component: Component = "session"
    ) -> None:
        self._tenure = tenure
        self._holdings = holdings
        self._lookout = lookout
        self._component = component
        # Each with whether it ends with the deadline, or only with the session.
        self._scopes: dict[anyio.CancelScope, bool] = {}
        # For which deadline the event loop's timers are set; None if they are not.
        self._timed_until: float | None = None
        self._closed = False
        self._told = False

    def start(self) -> None:
        """Let the clock be looked at, until `stop`."""
        self._tenure.on_change = self._take_change
        self._lookout.add(self)

    def stop(self) -> None:
        """Stop looking at the clock."""
        self._lookout.remove(self)

    def bind(self, scope: anyio.CancelScope, *, at_deadline: bool) -> None:
        """Cancel a scope when the time has come; see `Session.bind`."""
        if self._closed:
            # The clock is not looked at for it any more.
            scope.cancel()
            return
        self._lookout.bound += 1
        self._scopes[scope] = at_deadline
        if self._timed_until is not None or self._tenure.loss() is not None:
            self._lookout.changed(self)
            self._timed_until = None
        else:
            self._lookout.expect(self.next_look)

    def unbind(self, scope: anyio.CancelScope) -> None:
        """Do not cancel a scope any more."""
        if scope in self._scopes:
            self._forget(scope)
            if self._timed_until is not None:
                scope.deadline = math.inf

    def _forget(self, scope: anyio.CancelScope) -> None:
        del self._scopes[scope]
        self._lookout.bound -= 1

    def release(self) -> None:
        """Cancel nothing any more: the session was given up on purpose, and what relied on it goes on."""
        self._closed = True
        for scope in list(self._scopes):
            self.unbind(scope)

    def close(self) -> None:
        """Cancel all: their session was closed under them."""
        self._closed = True
        self._cancel(definite=True)

    # Looking ---------------------------------------------------------------------------------------------------

    def _take_change(self) -> None:
        """Have a look, unless all that has changed is that the deadline has moved away."""
        if self._told or self._timed_until is not None or self._tenure.lost or self._tenure.left < 0:
            self._lookout.changed(self)

    @property
    def next_look(self) -> float:
        """When the deadline will have come near, or has come; in boot-time seconds."""
        tenure = self._tenure
        left = tenure.left
        if tenure.lost or left <= 0:
            return math.inf
        return tenure.deadline if left <= _NEAR else tenure.deadline - _NEAR

    def cut(self) -> bool:
        """Cancel what may not go on; return whether there was any."""
        tenure = self._tenure
        if tenure.left > 0 and not tenure.lost:
            return False
        return self._cancel(definite=bool(tenure.lost))

    def look(self) -> None:
        """Set and clear the timers, and say what has changed."""
        tenure = self._tenure
        if tenure.left > _NEAR and not (self._told or tenure.lost) and self._timed_until is None:
            return
        # What ends with the notice is cut at the next look.
        tenure.settle()
        self._set_timers()
        self._tell(tenure.loss())
        if tenure.lost:
            for own in self._holdings:
                self._holdings.forget(own, tenure.lost.reason or "")

    def _set_timers(self) -> None:
        """Let the event loop itself cancel bodies at a deadline that is near: it takes no turn of a task."""
        left = self._tenure.left
        deadline = self._tenure.deadline if 0 < left <= _NEAR else None
        if deadline == self._timed_until:
            return
        self._timed_until = deadline
        end = math.inf if deadline is None else anyio.current_time() + left + _AFTER
        for scope, at_deadline in self._scopes.items():
            if at_deadline:
                scope.deadline = end

    def _cancel(self, *, definite: bool) -> bool:
        ending = [scope for scope, at_deadline in self._scopes.items() if at_deadline or definite]
        for scope in ending:
            self._forget(scope)
            scope.cancel()
        return bool(ending)

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
