"""A body that runs while this process leads."""

from __future__ import annotations

from types import TracebackType

import anyio

from tideover.body_scope import BodyScope, raise_loss
from tideover.elections.candidacy import Candidacy
from tideover.elections.claim import LeaderOptions
from tideover.elections.elections import Elections
from tideover.elections.rules.candidate import margin_of
from tideover.elections.term import Term
from tideover.errors import LeadershipLost

_TICK = 0.25


class Leadership:
    """Waits for an election and runs its body while this process leads: a single-use async context manager.

    Made by `leader` and `Coordinator.leader`, which document it.

    Attributes:
        name: The election.
        loss: Why the leadership was lost while the body ran; empty if it was not.
    """

    def __init__(self, name: str, options: LeaderOptions, elections: Elections) -> None:
        self.name = name
        self.loss = ""
        self._bid = elections.bid(name, options)
        self._elections = elections
        self._home = elections.home
        self._candidacy: Candidacy | None = None
        self._body: BodyScope | None = None
        self._term: Term | None = None

    def __repr__(self) -> str:
        """Show the term, if there is one."""
        return f"<Leadership {self.name!r} {self._term or 'not elected'}>"

    @property
    def held_by(self) -> str:
        """The leader last seen by this candidate and since when it leads, for people; empty if there was none."""
        document = self._candidacy.record.content.document if self._candidacy is not None else None
        return "" if document is None or document.vacant else document.holder_shown

    async def __aenter__(self) -> Term:
        """Wait until elected; see `leader`."""
        self._home.check(self)
        if self._candidacy is not None:
            raise RuntimeError(f"{self!r} is entered only once: call leader() again")
        self._candidacy = candidacy = self._elections.stand(self._bid)
        try:
            self._term = await self._elections.elected(candidacy)
        except BaseException:
            await self._elections.leave(candidacy)
            raise
        body = self._body = BodyScope(candidacy.disown)
        body.enter()
        self._elections.start(f"body of {self.name}", self._watch, candidacy, self._term, body)
        return self._term

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Resign, and raise `LeadershipLost` if the body outlived its leadership."""
        self._home.check(self)
        term, body, candidacy = self._term, self._body, self._candidacy
        if term is None or body is None or candidacy is None:
            raise RuntimeError("not entered")
        ended = body.leave(exc)
        candidacy.body_until = None
        loss = term.loss
        term.end("its body has been left")
        if ended and not loss:
            # Two clocks: the body's deadline may come a moment before the record's, or a renewal just after it.
            loss = candidacy.record.overdue
        # After a loss there is nothing to resign, or the next candidacy may regain the record at once.
        self.loss = loss
        raised = exc if body.has_failed(exc) else None
        await self._elections.leave(candidacy, loss=loss, raised=raised, resigning=not loss or body.stray)
        if loss:
            raise_loss(LeadershipLost(f"{self.name!r} is not led here any more: {loss}"), exc, ended=ended)

    async def _watch(self, candidacy: Candidacy, term: Term, body: BodyScope) -> None:
        """Move the body's deadline with each renewal, and end the body when the term is over."""
        record, deadline = candidacy.record, term.deadline
        try:
            while term.leads:
                changed, deadline = record.changed.next(), term.deadline
                if not record.content.claim.stays:
                    body.cancel_scope.deadline = anyio.current_time() + max(0.0, record.left)
                with anyio.move_on_after(_TICK):
                    await changed.wait()
        except anyio.get_cancelled_exc_class():
            body.end()
            raise
        body.end()
        if body.running:
            # A claim that stays has passed its deadline, and a process that was stopped hears of the loss late.
            candidacy.body_until = max(deadline, record.now) + margin_of(record.timing.ttl)
