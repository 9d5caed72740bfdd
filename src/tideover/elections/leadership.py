"""A body that runs while leading."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType

import anyio
from anyio.abc import TaskGroup

from tideover.elections.term import Candidacy, Term
from tideover.errors import LeadershipLost, TideoverError
from tideover.home import Home

# Seconds for telling etcd that the office is free; otherwise it is free after ttl and margin.
RESIGN_TIMEOUT = 2.0
_TICK = 0.25


class Leadership:
    """Waits for its election and runs its body as long as it leads: a single-use async context manager.

    Made by `leader` and `Coordinator.leader`, which document it.

    Args:
        name: The election.
        stand: Makes the candidacy, when entered.
        leave: Called with it at the end, unless it has been resigned.
        namespace: For spans.
        home: The event loop it belongs to, and where what watches over it runs.

    Attributes:
        name: The election.
        loss: Why the leadership was lost while the body ran; empty if it was not.
    """

    def __init__(
        self,
        name: str,
        *,
        stand: Callable[[], Candidacy],
        leave: Callable[[Candidacy, bool], None],
        namespace: str,
        home: Home,
    ) -> None:
        self.name = name
        self.loss = ""
        self._stand = stand
        self._leave = leave
        self._namespace = namespace
        self._home = home
        self._candidacy: Candidacy | None = None
        self._tasks: TaskGroup | None = None
        self._scope: anyio.CancelScope | None = None
        self._term: Term | None = None

    def __repr__(self) -> str:
        """Show the term, if there is one."""
        return f"<Leadership {self.name!r} {self._term or 'not elected'}>"

    async def __aenter__(self) -> Term:
        """Wait until elected; see `leader`."""
        self._home.check(self)
        if self._candidacy is not None:
            raise RuntimeError(f"{self!r} is entered only once: call leader() again")
        self._candidacy = candidacy = self._stand()
        self._tasks = tasks = anyio.create_task_group()
        await tasks.__aenter__()
        try:
            self._home.start(f"candidate for {self.name}", candidacy.run)
            self._term = await candidacy.elected(self._namespace)
        except BaseException as exc:
            await self._close(resigning=True)
            if isinstance(exc, TideoverError):
                raise exc from None
            raise
        self._scope = anyio.CancelScope()
        self._scope.__enter__()
        tasks.start_soon(self._home.run, f"body of {self.name}", partial(self._watch, self._term, self._scope))
        return self._term

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Resign, and raise `LeadershipLost` if the body outlived its leadership."""
        self._home.check(self)
        term, scope, candidacy = self._term, self._scope, self._candidacy
        if term is None or scope is None or candidacy is None:
            raise RuntimeError("not entered")
        loss = term.loss
        term.end("its body has been left")
        cancelled_here = bool(scope.__exit__(exc_type, exc, traceback)) and exc is not None
        if cancelled_here and not loss:
            # Two clocks: the body's deadline may strike a moment before the record's, or a renewal just after it.
            loss = candidacy.record.overdue
        # After a loss there is nothing to resign, or it may still be regained: by its own next candidacy, at once.
        self.loss = loss
        await self._close(resigning=not loss)
        if not loss:
            return cancelled_here
        lost = LeadershipLost(f"{self.name!r} is not led here any more: {loss}")
        if exc is None or cancelled_here:
            raise lost from None
        if isinstance(exc, Exception):
            exc.add_note(f"{type(lost).__name__}: {lost}")
        return False

    async def _watch(self, term: Term, scope: anyio.CancelScope) -> None:
        """Let the body's deadline move with each renewal, and end the body when the term is over."""
        record = term._record
        while term.leads:
            changed = record.changed.next()
            if not record.claim.stays:
                scope.deadline = anyio.current_time() + max(0.0, record.left)
            with anyio.move_on_after(_TICK):
                await changed.wait()
        scope.cancel()
        await anyio.sleep_forever()

    async def _close(self, *, resigning: bool) -> None:
        """Leave office, whatever is being cancelled around it."""
        candidacy, tasks = self._candidacy, self._tasks
        if candidacy is None or tasks is None:
            return
        resigned = False
        try:
            with anyio.CancelScope(shield=True):
                await candidacy.stop()
                resigned = resigning and await candidacy.record.resign(RESIGN_TIMEOUT)
        finally:
            self._leave(candidacy, resigned)
            tasks.cancel_scope.cancel()
            # Not within the shield: scopes are left in the reverse of the order in which they were entered.
            await tasks.__aexit__(None, None, None)
