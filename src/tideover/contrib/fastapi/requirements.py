"""Requirements as dependencies of FastAPI: `dependencies=[Requires("lock")]`, `Annotated[Term, LeaderOnly("x")]`.

A dependency refuses by raising `RequirementNotMet`, whose handler is registered by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import Depends
from fastapi.requests import HTTPConnection

from tideover.asgi.problems import DOCS
from tideover.asgi.refusals import SEE, TITLE, RequirementNotMet, find_refusal, raise_refusal
from tideover.asgi.requirements import Requirement, leader_only, requires
from tideover.asgi.rules.requirements import Leads, Need
from tideover.elections.term import Term
from tideover.functions import current_for_reads
from tideover.types import Standing

_DESCRIPTION = "Something that the request requires cannot be had now."


# What each dependency needs.
_needs: WeakKeyDictionary[object, Need] = WeakKeyDictionary()


def Requires(
    name: str, *, max_age: float | None = None, prefix: str | None = None, at_least: int | None = None
) -> Any:
    """Let a route be reached only while a requirement is met: `dependencies=[Requires("config", max_age=60)]`.

    Of several such dependencies of a route all that are not met are named in one answer.

    Args:
        name: As of `requires`.
        max_age: As of `requires`.
        prefix: As of `requires`.
        at_least: As of `requires`.

    Returns:
        A dependency, for routes, routers and applications, of HTTP and of WebSockets.

    Raises:
        ValueError: As of `requires`.
        TypeError: As of `requires`.

    When degraded:
        As `requires`.
    """
    need = requires(name, max_age=max_age, prefix=prefix, at_least=at_least).need

    async def require(connection: HTTPConnection) -> None:
        _require(need, connection)

    _needs[require] = need
    return Depends(require)


def LeaderOnly(
    election: str, *, standing: Collection[Standing | str] = ("held", "confirmed"), redirect: bool = False
) -> Any:
    """Let a route be reached only while this process leads, and hand it the term.

        @app.post("/reap")
        async def reap(term: Annotated[Term, LeaderOnly("reaper")]) -> None:
            await tide.config.put("reaped", 1, guard=term.guard())

    The decision is made when the dependencies are resolved: a function that is not `async` may wait for a thread
    after that, and calls `term.check()`.

    Args:
        election: As of `leader_only`.
        standing: As of `leader_only`.
        redirect: As of `leader_only`.

    Returns:
        A dependency that gives the live `Term`; in `dependencies=[...]` it only guards.

    Raises:
        ValueError: As of `leader_only`.
        TypeError: As of `leader_only`.

    When degraded:
        As `leader_only`.
    """
    need = leader_only(election, standing=standing, redirect=redirect).need

    async def lead(connection: HTTPConnection) -> Term:
        while True:
            _require(need, connection)
            term = current_for_reads().term(election)
            if term is not None:  # it may have been lost since
                return term

    _needs[lead] = need
    return Depends(lead)


def requirement_responses(*requirements: Any) -> dict[int | str, dict[str, Any]]:
    """Return the answers of requirements for a route's `responses=`, and so for OpenAPI.

        @app.get("/price", dependencies=[Requires("lock")], responses=requirement_responses(Requires("lock")))

    Args:
        requirements: What `Requires`, `LeaderOnly`, `requires` or `leader_only` has returned; none describes the
            503 in general.

    Returns:
        The 503, and the 307 if a client may be sent on to the leader.

    Raises:
        TypeError: One is none of these.

    When degraded:
        The same.
    """
    needs = [_need_of(each) for each in requirements]
    named = f" Required: {', '.join(need.name for need in needs)}." if needs else ""
    retry = {"description": "Seconds after which to come again.", "schema": {"type": "integer", "minimum": 1}}
    found: dict[int | str, dict[str, Any]] = {
        503: {
            "description": _DESCRIPTION + named,
            "headers": {"Retry-After": retry},
            "content": {
                "application/problem+json": {"schema": _SCHEMA},
                "text/plain": {"schema": {"type": "string"}},
            },
        }
    }
    if any(isinstance(need, Leads) and need.redirect for need in needs):
        where = {"description": "The same path of the leader.", "schema": {"type": "string", "format": "uri"}}
        found[307] = {"description": "Another process leads.", "headers": {"Location": where}}
    return found


_SCHEMA: Mapping[str, Any] = {
    "title": "Problem",
    "description": "A problem as of RFC 9457.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "format": "uri", "examples": [DOCS + SEE]},
        "title": {"type": "string", "examples": [TITLE]},
        "status": {"type": "integer", "examples": [503]},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri-reference"},
        "outage_id": {"type": "string", "description": "Of the present outage; empty if there is none."},
        "requirement": {"type": "string", "description": "What is missing, separated by commas."},
        "retry_after": {"type": "integer", "minimum": 1, "maximum": 30},
    },
    "required": ["type", "title", "status", "detail", "outage_id", "requirement", "retry_after"],
}


def _need_of(requirement: Any) -> Need:
    if isinstance(requirement, Requirement):
        return requirement.need
    dependency = getattr(requirement, "dependency", None)
    need = None if dependency is None else _needs.get(dependency)
    if need is None:
        raise TypeError(f"requirement_responses: {requirement!r} is none of Requires, LeaderOnly and their like")
    return need


def _require(need: Need, connection: HTTPConnection) -> None:
    """Raise unless a need is met; the error names all unmet needs of the route."""
    refusal = find_refusal([need])
    if refusal is None:
        return
    dependant = getattr(connection.scope.get("route"), "dependant", None)
    refusal = find_refusal(list(_needs_below(dependant)) or [need]) or refusal
    raise_refusal(RequirementNotMet(refusal), connection.scope)


def _needs_below(dependant: Any) -> Iterator[Need]:
    for each in getattr(dependant, "dependencies", ()):
        if each.call in _needs:
            yield _needs[each.call]
        yield from _needs_below(each)
