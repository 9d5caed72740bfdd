"""One term of a leader."""

from __future__ import annotations

import warnings

from tideover.elections.candidacy import Candidacy
from tideover.errors import LeadershipLost
from tideover.fencing.guard import Guard, Pending
from tideover.store.transactions import Compare
from tideover.types import Standing


class Term:
    """One term of a leader: given by `leader` and by `Election.campaign`.

    Each property is computed from the clock when it is read, so that a process that was stopped for a while does
    not trust what was true before.
    """

    def __init__(self, candidacy: Candidacy) -> None:
        self._candidacy = candidacy
        self._record = candidacy.record
        self._tenure = self._record.tenure
        self._token = self._record.state.token
        self._epoch = candidacy.epoch()
        self._left = ""

    def __repr__(self) -> str:
        """Show election, token and standing."""
        return f"<Term of {self._candidacy.name!r}, token {self._token}: {self.loss or self.standing}>"

    @property
    def name(self) -> str:
        """The election."""
        return self._candidacy.name

    @property
    def token(self) -> int:
        """The fencing token: grows with each change of leader, and stays the same for the whole term.

        A resource that remembers the largest `(epoch, token)` it was given, and refuses smaller ones, is safe even
        from a leader that was stopped between its last `check` and its write.
        """
        return self._token

    @property
    def epoch(self) -> int:
        """Which history of etcd the token belongs to: compare `(epoch, token)`."""
        return self._epoch

    @property
    def loss(self) -> str:
        """Why the term is over; empty while it lasts."""
        record = self._record
        if self._left or self._candidacy.ended:
            return self._left or self._candidacy.ended
        if record.stands and record.tenure == self._tenure:
            return ""
        return record.loss_of(self._tenure)

    @property
    def leads(self) -> bool:
        """Whether the term lasts, whatever its standing."""
        return not self.loss

    @property
    def standing(self) -> Standing:
        """What the leadership rests on: `HELD` while a renewal in etcd holds; then, in an outage, `CONFIRMED`.

        Or, if the leader stays whatever happens, `UNCONFIRMED`.

        Raises:
            LeadershipLost: The term is over.
        """
        self.check()
        # None only if the deadline passed between the two looks at the clock.
        return self._candidacy.standing or Standing.UNCONFIRMED

    @property
    def present_standing(self) -> Standing | None:
        """What the leadership rests on; None once the term is over."""
        return None if self._left else self._candidacy.standing

    @property
    def ground(self) -> Standing | None:
        """Return `present_standing`: the former name, for one release."""
        warnings.warn("Term.ground is now Term.present_standing", DeprecationWarning, stacklevel=2)
        return self.present_standing

    @property
    def deadline(self) -> float:
        """Until when this process certainly leads, in seconds on the boot-time clock (CLOCK_BOOTTIME)."""
        return self._record.state.deadline

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; negative afterwards."""
        return self._record.left

    def check(self) -> None:
        """Do nothing while the term lasts. Call it right before anything that only a leader may do. No I/O.

        Raises:
            LeadershipLost: The term is over; the message says why.

        When degraded:
            Under `"step_down"` the call raises from the deadline on; under `"peers"` too, but the other candidates
            may move the deadline. Under `"stay"` it does not raise: look at `standing`.
        """
        if self.loss:
            raise self._error()

    def guard(self) -> Guard:
        """Return what fences a write to etcd: `await tide.config.put(key, value, guard=term.guard())`.

        etcd applies the write only if no other leader has been elected at that very moment. A refused write ends
        the term.

        Raises:
            LeadershipLost: The term is over.

        When degraded:
            As `check`; the write itself needs a quorum.
        """
        self.check()
        compare = Compare(self._record.token_key, mod_revision=self._token)
        return Guard(compare, check=self.check, pending=Pending(), lose=self._lose)

    def _lose(self, why: str) -> LeadershipLost:
        """End the term after a refused write; return the error to raise."""
        if self.leads:
            self._record.invalidate(why)
        return self._error()

    def _error(self) -> LeadershipLost:
        return LeadershipLost(f"{self.name!r} is not led here any more: {self.loss}")

    def end(self, why: str) -> None:
        """End the term: its body has been left."""
        self._left = self._left or self.loss or why
