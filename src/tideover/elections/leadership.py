"""A body that runs while leading."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

import anyio

from tideover.body_scope import BodyScope, raise_loss
from tideover.elections.rules.candidate import margin_of
from tideover.elections.term import Candidacy, Term
from tideover.errors import LeadershipLost
from tideover.home import Home

_TICK = 0.25


class Leadership:
    """Waits for its election and runs its body as long as it leads: a single-use async context manager.

    Made by `leader` and `Coordinator.leader`, which document it.

    Attributes:
        name: The election.
        loss: Why the leadership was lost while the body ran; empty if it was not.
    """

    def __init__(
        self,
        name: str,
        *,
        stand: Callable[[], Candidacy],
        start: Callable[..., None],
        leave: Callable[[Candidacy, bool], None],
        namespace: str,
        home: Home,
    ) -> None:
        self.name = name
        self.loss = ""
        self._stand = stand
        self._start = start
        self._leave = leave
        self._namespace = namespace
        self._home = home
        self._candidacy: Candidacy | None = None
        self._body: BodyScope | None = None
        self._term: Term | None = None

    def __repr__(self) -> str:
        """Show the term, if there is one."""
        return f"<Leadership {self.name!r} {self._term or 'not elected'}>"

    @property
    def held_by(self) -> str:
        """Who leads, for people, and since when, as last seen by this candidate; empty if nobody was seen to."""
        document = self._candidacy.record.document if self._candidacy is not None else None
        return "" if document is None or document.vacant else document.holder_shown

    async def __aenter__(self) -> Term:
        """Wait until elected; see `leader`."""
        self._home.check(self)
        if self._candidacy is not None:
            raise RuntimeError(f"{self!r} is entered only once: call leader() again")
        self._candidacy = candidacy = self._stand()
        self._start(f"candidate for {self.name}", candidacy.run)
        try:
            self._term = await candidacy.elected(self._namespace)
        except BaseException:
            await self._close()
            raise
        body = self._body = BodyScope(candidacy.disown)
        body.enter()
        self._start(f"body of {self.name}", self._watch, candidacy, self._term, body)
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
            # Two clocks: the body's deadline may strike a moment before the record's, or a renewal just after it.
            loss = candidacy.record.overdue
        # After a loss there is nothing to resign, or it may still be regained: by its own next candidacy, at once.
        self.loss = loss
        raised = exc if body.has_failed(exc) else None
        await self._close(loss=loss, raised=raised, resigning=not loss or body.stray)
        if loss:
            raise_loss(LeadershipLost(f"{self.name!r} is not led here any more: {loss}"), exc, ended=ended)

    async def _watch(self, candidacy: Candidacy, term: Term, body: BodyScope) -> None:
        """Let the body's deadline move with each renewal, and end the body when the term is over."""
        record, deadline = term._record, term.deadline
        try:
            while term.leads:
                changed, deadline = record.changed.next(), term.deadline
                if not record.claim.stays:
                    body.cancel_scope.deadline = anyio.current_time() + max(0.0, record.left)
                with anyio.move_on_after(_TICK):
                    await changed.wait()
        except anyio.get_cancelled_exc_class():
            body.end()
            raise
        body.end()
        if body.running:
            # A claim that stays has left its deadline behind, and a process that was stopped hears of it late.
            candidacy.body_until = max(deadline, record.now) + margin_of(record.timing.ttl)

    async def _close(self, *, loss: str = "", raised: BaseException | None = None, resigning: bool = True) -> None:
        """Leave office, whatever is being cancelled around it."""
        candidacy = self._candidacy
        if candidacy is None:
            return
        resigned = False
        try:
            with anyio.CancelScope(shield=True):
                resigned = await candidacy.leave(loss=loss, raised=raised, resigning=resigning)
        finally:
            self._leave(candidacy, resigned)
