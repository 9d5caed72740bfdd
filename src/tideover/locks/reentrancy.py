"""Who is inside which body: to tell somebody who would wait for itself, instead of letting it wait for ever."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

import anyio


@dataclass(frozen=True, slots=True)
class Body:
    """One body of a lock.

    Attributes:
        owner: Where the lock comes from.
        name: The lock.
        scope: What the body runs in.
        outer: The body around it, as its task, or one that has started that, has it; None if there is none.
    """

    owner: object
    name: str
    scope: anyio.CancelScope
    outer: Body | None


innermost: ContextVar[Body | None] = ContextVar("tideover_innermost_lock", default=None)


def leave(scope: anyio.CancelScope) -> None:
    """Take in that the innermost body was left."""
    body = innermost.get()
    if body is not None and body.scope is scope:
        innermost.set(body.outer)


def is_inside(owner: object, name: str) -> bool:
    """Whether the calling task is inside a body of that lock, which cannot be left before the task goes on.

    Args:
        owner: Where the lock comes from.
        name: The lock.
    """
    # Tasks take the context along in which they were started, also those that outlive the body: hence the question
    # to the scope.
    body = innermost.get()
    while body is not None:
        if body.owner is owner and body.name == name and _encloses(body.scope):
            return True
        body = body.outer
    return False


def _encloses(scope: anyio.CancelScope) -> bool:
    """Whether the calling task runs in a scope, or in a task group within: then the deadline is its, too."""
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
