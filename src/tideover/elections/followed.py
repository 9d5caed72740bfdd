"""The elections whose leaders are followed: one view each, however many callers there are."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.from_thread

from tideover.elections.leader_view import LeaderView
from tideover.errors import NotFollowed
from tideover.home import Home

# The most elections followed, each by a watch: the clients of a proxy that takes names from them must not be able
# to make it open any number.
MOST_ELECTIONS = 256


class Followed:
    """The elections that are followed."""

    def __init__(self, home: Home, make: Callable[[str], LeaderView]) -> None:
        self._home = home
        self._make = make
        self._views: dict[str, LeaderView] = {}
        self._scopes: dict[LeaderView, anyio.CancelScope] = {}

    def view(self, name: str) -> LeaderView:
        """Return the view of an election; see `Coordinator.follow_leader`."""
        view = self._views.get(name)
        if view is not None:
            return view
        if self._home.loop.is_here:
            return self._start(name)
        if not self._home.loop.serves_this_thread:
            raise NotFollowed(
                f"the leader of {name!r} is not followed yet, and this thread cannot see to it: "
                "call follow_leader() in the coordinator's event loop first"
            )
        return anyio.from_thread.run_sync(self._start, name)

    def reset(self) -> None:
        """Forget who leads: etcd shows another history."""
        for view in self._views.values():
            view.reset()

    def close(self, why: str) -> None:
        """Stop following all elections."""
        for view in self._views.values():
            view.close(why)

    def _start(self, name: str) -> LeaderView:
        if name in self._views:  # another thread was faster
            return self._views[name]
        self._make_room()
        view = self._views[name] = self._make(name)
        self._home.start(f"follow leader of {name}", self._run, view)
        return view

    def _make_room(self) -> None:
        """Drop the view that was asked for first and has no waiting callers, if there are too many."""
        if len(self._views) < MOST_ELECTIONS:
            return
        idle = next((name for name, view in self._views.items() if not view.waiting), None)
        if idle is None:
            raise NotFollowed(f"{MOST_ELECTIONS} elections are followed already, and all are in use")
        view = self._views.pop(idle)
        view.close(f"the leader of {idle!r} is not followed any more: call follow_leader() again")
        if (scope := self._scopes.pop(view, None)) is not None:
            scope.cancel()

    async def _run(self, view: LeaderView) -> None:
        with anyio.CancelScope() as scope:
            self._scopes[view] = scope
            try:
                await view.run()
            finally:
                self._scopes.pop(view, None)
