"""Refuses a request whose requirements are not met, with `Retry-After`.

The decision uses what this process knows, without I/O and without waiting, at the instant at which the endpoint
would begin: leadership by the clock, so that a request queued while the process stood still is refused.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NoReturn

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from tideover.asgi.facts import CoordinatorFacts
from tideover.asgi.misdirected import misdirected
from tideover.asgi.problems import Problem, refuse, refuse_websocket
from tideover.asgi.redirects import location
from tideover.asgi.rules.requirements import Leads, Need, retry_after
from tideover.coordinator.coordinator import Coordinator
from tideover.functions import current_for_reads

TITLE = "Requirement not met"
SEE = "how-to/require-coordination/#requirement-not-met"


class Refusal:
    """A request that is not served, because requirements are not met."""

    def __init__(self, coordinator: Coordinator, unmet: Sequence[tuple[Need, str]]) -> None:
        health = coordinator.health
        self.problem = Problem(
            503,
            "; ".join(why for _, why in unmet),
            title=TITLE,
            see=SEE,
            retry_after=retry_after(health.next_probe, random.random()),
            outage_id=health.outage_id,
            requirement=", ".join(need.name for need, _ in unmet),
        )
        self._coordinator = coordinator
        elections = (need.election for need, _ in unmet if isinstance(need, Leads) and need.redirect)
        self._leader = next(filter(None, map(coordinator.leader_address, elections)), "")

    def _problem_of(self, scope: Scope | None) -> Problem:
        """Return the problem; for a request for the leader, first of all that this process does not lead."""
        return (scope and misdirected(scope, self._coordinator)) or self.problem

    def response(self, scope: Scope | None) -> Response:
        """Return the answer to a request."""
        problem = self._problem_of(scope)
        target = location(self._leader, scope) if self._leader and scope is not None else None
        if target is None or problem is not self.problem:
            return problem.response(scope)
        return Response(status_code=307, headers={"Location": target, "Cache-Control": "no-store"})

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse a WebSocket of which nothing has been received yet."""
        if scope["type"] == "http":
            await self.response(scope)(scope, receive, send)
        else:
            await refuse(self._problem_of(scope), scope, receive, send)

    async def answer(self, connection: HTTPConnection | None, scope: Scope | None) -> Response | None:
        """Return the answer to a request, or refuse a WebSocket and return None."""
        if isinstance(connection, WebSocket):
            await refuse_websocket(self._problem_of(connection.scope), connection)
            return None
        return self.response(scope)


class RequirementNotMet(Exception):
    """Raised when a requirement is not met, where no answer can be returned.

    Starlette answers it without a registered handler; an application's own handler has precedence.

    Attributes:
        refusal: The answer.
        told: Whether the client has the answer already.
    """

    def __init__(self, refusal: Refusal, *, told: bool = False) -> None:
        super().__init__(refusal.problem.detail)
        self.refusal = refusal
        self.told = told


def raise_refusal(error: RequirementNotMet, scope: Scope) -> NoReturn:
    """Raise, after adding a handler to Starlette's, which are in the scope and serve the whole application."""
    handlers = scope.get("starlette.exception_handlers")
    if handlers:
        handlers[0].setdefault(RequirementNotMet, _answer)
    raise error


async def _answer(connection: HTTPConnection, error: RequirementNotMet) -> Any:
    return None if error.told else await error.refusal.answer(connection, connection.scope)


def find_refusal(needs: Sequence[Need], coordinator: Coordinator | None = None) -> Refusal | None:
    """Return why a request is refused now, by the current coordinator if none is given; None if all needs are met.

    Raises:
        NotConnected: No coordinator is open.
        AmbiguousCoordinator: Several are open, and none is in the context.
        NotFollowed: A need is of configuration that is not followed.
        Closed: The coordinator is closed.
    """
    facts = CoordinatorFacts(coordinator or current_for_reads())
    for need in needs:
        if need.unmet(facts):
            # One answer names all unmet needs; and by now all may be met.
            unmet = [(each, why) for each in needs if (why := each.unmet(facts))]
            return Refusal(facts.coordinator, unmet) if unmet else None
    return None
