"""`problem_handler`: an endpoint's error, as the answer to its request."""

from __future__ import annotations

import random
from typing import Any

from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from tideover import telemetry
from tideover.asgi.problems import Problem, refuse_websocket
from tideover.asgi.rules.requirements import retry_after
from tideover.cluster.health import ClusterHealth
from tideover.errors import (
    AmbiguousCoordinator,
    ElectionMismatch,
    EndpointsUnknown,
    LockConflict,
    LockTimeout,
    LockUnavailable,
    NotConnected,
    NotSynced,
    PermissionDenied,
    TooStale,
    Unavailable,
)
from tideover.functions import current_for_reads
from tideover.status import duration
from tideover.types import Diagnosis

# A group of errors is answered like the one whose status comes last here.
_WORSE = [503, 409, 500]
PAGE = "how-to/require-coordination/"
# The most specific first: status, title, and the section that explains the problem.
ANSWERS: dict[type[Exception], tuple[int, str, str]] = {
    LockUnavailable: (503, "No lock can be had", "#no-lock-can-be-had"),
    LockTimeout: (503, "No lock can be had", "#no-lock-can-be-had"),
    LockConflict: (409, "A lock was somebody else's", "#a-lock-was-somebody-elses"),
    TooStale: (503, "Too old", "#too-old-or-not-known"),
    NotSynced: (503, "Not known", "#too-old-or-not-known"),
    EndpointsUnknown: (503, "Not known", "#too-old-or-not-known"),
    Unavailable: (503, "etcd is away", "#etcd-is-away"),
    ElectionMismatch: (500, "Misconfigured", "#misconfigured"),
    PermissionDenied: (500, "Misconfigured", "#misconfigured"),
}


async def problem_handler(connection: HTTPConnection, error: Exception) -> Any:
    """Answer an error of tideover's with a problem (RFC 9457): an exception handler of Starlette and FastAPI.

        app = Starlette(routes=..., exception_handlers={TideoverError: problem_handler})

    | error | status |
    |---|---|
    | `Unavailable`, `LockTimeout`, `LockUnavailable` | 503 with `Retry-After` |
    | `TooStale`, `NotSynced`, `EndpointsUnknown` | 503 with `Retry-After` |
    | `LockConflict` | 409 |
    | `ElectionMismatch`, `PermissionDenied` | 500, and the error is logged |

    Every other error is raised again. Task groups raise groups of errors: with `ExceptionGroup: problem_handler`
    as well, one that holds only errors from above is answered as the worst of them.

    The answer explains the problem in words of its own, and quotes no message: messages name keys, addresses and
    holders, which are for operators.

    Args:
        connection: The request, or a WebSocket, which is refused, or closed with 1013.
        error: What was raised.

    Returns:
        The answer to a request.

    Raises:
        Exception: The error itself, if it is not in the table.

    When degraded:
        Answers as the table says, from memory.
    """
    known = [(each, answer) for each in _single(error) if (answer := _answer(each)) is not None]
    if len(known) < len(_single(error)):
        raise error
    worst, answer = max(known, key=lambda each: _WORSE.index(each[1][0]))
    problem = _problem(worst, *answer)
    if problem.status == 500:
        telemetry.request_failed(worst)
    if isinstance(connection, WebSocket):
        await refuse_websocket(problem, connection)
        return None
    return problem.response(connection.scope)


def _single(error: Exception) -> list[Exception]:
    """Return the errors of a group and of the groups in it; for a single error, that error."""
    if not isinstance(error, ExceptionGroup):
        return [error]
    return [single for each in error.exceptions for single in _single(each)]


def _answer(error: Exception) -> tuple[int, str, str] | None:
    return next((answer for kind, answer in ANSWERS.items() if isinstance(error, kind)), None)


def _problem(error: Exception, status: int, title: str, section: str) -> Problem:
    health = _health()
    brief = "" if health is None or health.diagnosis is Diagnosis.HEALTHY else health.brief
    return Problem(
        status,
        _detail(error, brief),
        title=title,
        see=PAGE + section,
        retry_after=retry_after(0.0 if health is None else health.next_probe, random.random())
        if status == 503
        else None,
        outage_id="" if health is None else health.outage_id,
    )


def _health() -> ClusterHealth | None:
    try:
        return current_for_reads().health
    except (NotConnected, AmbiguousCoordinator):
        return None


def _detail(error: Exception, brief: str) -> str:
    """Return the problem in words, without the names in the error's own message."""
    because = f": {brief}" if brief else ""
    if isinstance(error, LockTimeout):
        return "a lock that the request needs could not be had in time"
    if isinstance(error, LockUnavailable):
        return f"a lock that the request needs cannot be had across machines{because}"
    if isinstance(error, LockConflict):
        return "a lock that the request relied on while etcd was away was held by another process"
    if isinstance(error, TooStale):
        return f"what the request needs is {duration(error.age)} old, and may be {duration(error.max_stale)}"
    if isinstance(error, NotSynced | EndpointsUnknown):
        return f"what the request needs has never been read{because}"
    if isinstance(error, Unavailable):
        return f"the request could not be carried out{because}"
    return "this service is misconfigured; its log says how"
