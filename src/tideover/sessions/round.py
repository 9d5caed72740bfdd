"""Leases that are renewed together once: which were sent, which acknowledged, and what is left unproven."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from tideover.sessions.keys import SessionKeys
from tideover.sessions.lease import LeaseState
from tideover.store.faults import Fault
from tideover.store.operations import LeaseResult
from tideover.ticker import GRAIN
from tideover.types import Header


class Turn:
    """One lease in the renewer's care, with the keys under it."""

    __slots__ = ("alone", "holdings", "hurried", "tenure")

    def __init__(self, tenure: LeaseState, holdings: SessionKeys) -> None:
        self.tenure = tenure
        self.holdings = holdings
        self.alone = False  # renewed alone: refused what others may have been refused for it
        self.hurried = False  # whether there is reason to renew it sooner than is due

    @property
    def goes_alone(self) -> bool:
        """Whether others would wait for it: it is not proven before what was left behind is cleared away."""
        return self.alone or self.holdings.debris > 0


Answer = tuple[Turn, LeaseResult]


class Round:
    """One renewal of some leases at one member."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.sent_at = 0.0  # in boot-time seconds
        self.denied = False  # whether one member has spoken for all: this user may not
        self.refused: list[tuple[Turn, Fault]] = []  # each by itself, and why
        self.to_sweep: list[tuple[Turn, LeaseResult, Header]] = []  # proven once what they left is cleared away
        self._unanswered = {turn.tenure.lease_id: turn for turn in turns}
        self._answered: list[Answer] = []
        # Neither proven nor handed on; with whether why not has been said.
        self._open = dict.fromkeys(turns, False)
        self._some = anyio.Event()
        self._all = anyio.Event()
        self.leases = tuple(self._unanswered)

    def take(self, lease: int, answer: LeaseResult | Fault) -> None:
        """Record an answer: an acknowledgement, or why this lease alone is refused."""
        turn = self._unanswered.pop(lease, None)
        if turn is None:
            return
        if isinstance(answer, LeaseResult):
            self._answered.append((turn, answer))
            self._some.set()
        else:
            self.refused.append((turn, answer))

    def fail(self) -> list[Turn]:
        """Record that no answers come any more; return whose are missing."""
        missing = list(self._unanswered.values())
        self._unanswered.clear()
        for turn in missing:
            self.failed(turn)
        return missing

    def end(self) -> None:
        """Record that all answers have come that will come."""
        self._all.set()
        self._some.set()

    async def answers(self) -> list[Answer]:
        """Return new acknowledgements, at most a tenth of a second after the first; none once all have come."""
        await self._some.wait()
        with anyio.move_on_after(GRAIN):
            await self._all.wait()
        answers, self._answered = self._answered, []
        if not self._all.is_set():
            self._some = anyio.Event()
        return answers

    def done(self, turn: Turn) -> None:
        """Record that a lease is proven or gone, or goes on by itself."""
        self._open.pop(turn, None)

    def failed(self, turn: Turn) -> None:
        """Record that a lease is not proven, and that it is known why."""
        self._open[turn] = True

    @property
    def unproven(self) -> list[Turn]:
        """What is neither proven nor gone, and goes on together."""
        return list(self._open)

    @property
    def silent(self) -> list[Turn]:
        """Leases that are not proven for a reason not told yet."""
        return [turn for turn, said in self._open.items() if not said]
