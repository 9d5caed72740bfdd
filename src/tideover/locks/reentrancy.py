"""Detects re-entry: raises where a task would deadlock on a lock whose body it runs in."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

import anyio


@dataclass(frozen=True, slots=True)
class Body:
    """One body of a lock, which runs in `scope`, and belongs to the `Locks` in `owner`.

    `outer` is the body around it, of its task or of a task that has started that one; None if there is none.
    """

    owner: object
    name: str
    scope: anyio.CancelScope
    outer: Body | None


innermost: ContextVar[Body | None] = ContextVar("tideover_innermost_lock", default=None)


def is_inside(owner: object, name: str) -> bool:
    """Whether the calling task is inside a body of that lock, which cannot be left before the task goes on."""
    # Tasks inherit the context they were started in, also those that outlive the body: so the scope is asked.
    body = innermost.get()
    while body is not None:
        if body.owner is owner and body.name == name and _encloses(body.scope):
            return True
        body = body.outer
    return False


def _encloses(scope: anyio.CancelScope) -> bool:
    """Whether the calling task runs in a scope or in a task group within: then the scope's deadline is its own."""
    if scope.cancel_called:
        return False
    before, now = anyio.current_effective_deadline(), anyio.current_time()
    sooner = now + (min(before, now + 3600) - now) / 2
    if not now < sooner < before:
        return False
    deadline, scope.deadline = scope.deadline, sooner
    try:
        return anyio.current_effective_deadline() == sooner
    finally:
        scope.deadline = deadline
