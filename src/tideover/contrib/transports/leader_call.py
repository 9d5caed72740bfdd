"""One request for the leader of an election, and its attempts."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from urllib.parse import quote

from tideover.contrib.rules.attempts import pause_before
from tideover.contrib.transports.call import Call, Rules
from tideover.contrib.transports.library import Library, Request, Response
from tideover.elections.leader_view import LeaderView
from tideover.errors import NoEndpoints
from tideover.shown import shown
from tideover.types import LEADER_FIELD

# The server has done nothing, and the request may go to another one, whether or not its method is idempotent (RFC
# 9110, section 15.5.20).
_MISDIRECTED = 421


@dataclass(frozen=True, slots=True)
class LeaderPlace:
    """Where the leader is, by this version of the view."""

    url: str
    holder: str
    version: int


class LeaderCall(Call[LeaderPlace]):
    """One request for a leader: each further attempt goes to the process that leads then.

    The request says whom it is for (`Tideover-Leader`), so that a process that leads no more can refuse it by 421
    before anything is done; that, and what was never sent, is tried again whatever the method.
    """

    def __init__(self, library: Library, rules: Rules, view: LeaderView, request: Request) -> None:
        super().__init__(library, rules, request)
        self._view = view
        self._sent = 0

    async def ready(self) -> None:
        """Wait until there is a leader."""
        await self._view.wait(timeout=self._patience.to_connect)

    def ready_in_thread(self) -> None:
        """Do the same in a thread."""
        self._view.wait_in_thread(timeout=self._patience.to_connect)

    async def pause(self, pause: float) -> None:
        """Wait for a change of the leader, at most for the pause; then until there is a leader, and choose it."""
        await self._view.wait(timeout=pause, beyond=self._place.version)
        await self._view.wait(timeout=self._left)
        self.begin()

    def pause_in_thread(self, pause: float) -> None:
        """Do the same in a thread."""
        self._view.wait_in_thread(timeout=pause, beyond=self._place.version)
        self._view.wait_in_thread(timeout=self._left)
        self.begin()

    def begin(self) -> None:
        """Choose the present leader."""
        name, version = self._view.name, self._view.version
        try:
            leader = self._view.pick()
            if not leader.address:
                who = shown(leader.name or leader.holder)
                text = f"{shown(name)!r} is led by {who}, which has no address: give leader() an `address`"
                raise NoEndpoints(text, service=name, age=0.0)
        except NoEndpoints as exc:
            raise self._names.ConnectError(str(exc), request=self._request) from exc
        self._tried.append(LeaderPlace(leader.address, leader.holder, version))

    def answered(self, response: Response) -> float | None:
        """Check an answer; that of a process that does not lead is no answer."""
        if response.status_code == _MISDIRECTED:
            pause = self._plan_retry(sent=False)
            if pause is not None:
                return pause
        return super().answered(response)

    @property
    def _left(self) -> float:
        """Seconds left for waiting for a leader to connect to."""
        return self._patience.began + self._patience.to_connect - time.monotonic()

    def _fields(self) -> dict[str, str]:
        return {LEADER_FIELD: quote(self._view.name, safe="")}

    def _plan_retry(self, *, sent: bool, again: bool = True) -> float | None:
        """Return how long to wait for a change of the leader; None without a further attempt."""
        self._sent += sent
        usable = not isinstance(self._library.read_base(self._place.url), str)
        if not usable or self._sent >= self._rules.attempts or not self._may_repeat(sent=sent):
            return None
        times = sum(each.holder == self._place.holder for each in self._tried)
        pause = pause_before(times, random.random())
        return pause if again and pause < self._left else None
