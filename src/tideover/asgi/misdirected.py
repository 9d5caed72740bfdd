"""Requests for the leader of an election that reach a process that does not lead.

A transport marks them with `Tideover-Leader`, for `http://NAME.leader/`. The answer is 421: nothing was done, and
the request may go elsewhere, whatever its method (RFC 9110, section 15.5.20). The clock decides when the request
begins: a request that waited in a socket while the process stood still is refused.
"""

from __future__ import annotations

from urllib.parse import unquote

from starlette.types import Scope

from tideover.asgi.problems import Problem
from tideover.coordinator.coordinator import Coordinator
from tideover.shown import shown
from tideover.types import LEADER_FIELD

SEE = "how-to/route-to-the-leader/#requests-for-the-leader"
FIELD = LEADER_FIELD.lower().encode()


def misdirected(scope: Scope, coordinator: Coordinator) -> Problem | None:
    """Return the problem of a request for another process; None for all other requests."""
    for name, value in scope.get("headers", ()):
        if name == FIELD and coordinator.standing(election := unquote(value.decode("latin-1"))) is None:
            detail = f"the request is for the leader of {shown(election)!r}, which is not led here"
            # The next attempt is for another connection: behind one port there may be other workers.
            headers = {"Connection": "close"} if scope.get("http_version", "1.1") in ("1.0", "1.1") else {}
            return Problem(421, detail, title="Not the leader", see=SEE, headers=headers)
    return None
