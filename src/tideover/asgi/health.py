"""`HealthApp`: answers probes, load balancers and operators' tools without I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tideover.asgi.framework_lifespan import FrameworkLifespan
from tideover.asgi.lifespan_messages import run_lifespan
from tideover.asgi.paths import route_path
from tideover.asgi.problems import Problem, refuse
from tideover.asgi.refusals import find_refusal
from tideover.asgi.requirements import Requirement, requires
from tideover.asgi.rules.checks import Level, checks, degraded
from tideover.asgi.rules.health import document, why_not_live, why_not_ready
from tideover.asgi.rules.leading import GROUNDS, leading
from tideover.coordinator.coordinator import Coordinator
from tideover.errors import AmbiguousCoordinator, NotConnected, NotFollowed
from tideover.functions import current
from tideover.holders import process_name
from tideover.shown import shown
from tideover.status import StatusReport

_ALLOW = "GET, HEAD, OPTIONS"
_LEADER = "/leader/"
_GUIDE = "how-to/health-endpoints/"
_UNSTORED = {"Cache-Control": "no-store"}
_READYZ = f"{_GUIDE}#readyz"
_REQUIRABLE = "lock, etcd, quorum, config, and discovery:SERVICE of a service that is followed"
_NOBODY = "no coordinator is open for this application, or several are and it is not known which one is meant"

# Finds the coordinator of a request's run.
Find = Callable[[Scope], Coordinator]


class HealthApp:
    """An ASGI application for probes: `/livez`, `/readyz`, `/health`, `/leader/NAME`.

        app = Starlette(routes=[Mount("/_tideover", HealthApp())], middleware=[...])

    `TideoverMiddleware(health="/_tideover")` answers the same without a route. It answers GET, HEAD and OPTIONS,
    from what this process knows: etcd is not asked, and no answer may be stored. Each answer names its process in
    `Tideover-Process: host:pid`.

    Args:
        coordinator: The coordinator; None means `tideover.current()` where the application is mounted.
        ready: Further requirements of `readyz`: `requires("lock")`, `leader_only("reaper")`. An outage then makes
            all processes unready at once, so this is for processes that are useless without.
        lifespan: A result of `tideover.asgi.lifespan`; instead of `coordinator`.

    Raises:
        TypeError: `coordinator`, `lifespan` or one of `ready` is something else, or both coordinator and lifespan
            are given.

    When degraded:
        Answers at once, from memory. `livez` and, unless it is told to be strict, `readyz` stay 200.
    """

    def __init__(
        self,
        coordinator: Coordinator | None = None,
        *,
        lifespan: FrameworkLifespan | None = None,
        ready: Iterable[Requirement] = (),
    ) -> None:
        if coordinator is not None and not isinstance(coordinator, Coordinator):
            raise TypeError(f"coordinator must be what connect() returns, not {coordinator!r}")
        if lifespan is not None and not isinstance(lifespan, FrameworkLifespan):
            raise TypeError(f"lifespan must be what tideover.asgi.lifespan() returns, not {lifespan!r}")
        if coordinator is not None and lifespan is not None:
            raise TypeError("give a coordinator or a lifespan, not both")
        requirements = tuple(ready)
        for requirement in requirements:
            if not isinstance(requirement, Requirement):
                raise TypeError(f"ready must be a list of requires(...) and leader_only(...), not {requirement!r}")
        self._ready = tuple(requirement.need for requirement in requirements)
        self._find: Find = lambda _: current() if coordinator is None else coordinator
        if lifespan is not None:
            self._find = lifespan.plan.of
        self._shown = coordinator or lifespan or "the current coordinator"

    def __repr__(self) -> str:
        return f"<HealthApp of {self._shown!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; where this is a server's whole application, also its lifespan."""
        if scope["type"] == "lifespan":
            await run_lifespan(receive, send)
            return
        await self.answer(self._find, route_path(scope), scope, receive, send)

    async def answer(self, find: Find, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for `path`, such as `/livez`, for the coordinator that `find` returns."""
        method, process = scope.get("method", ""), process_name()
        fields = {"Tideover-Process": process.encode("ascii", "backslashreplace").decode(), **_UNSTORED}
        found = self._answer(find, path, scope)
        if method == "OPTIONS":
            # HAProxy's default, which looks at the status only.
            status = found.status if isinstance(found, Problem) else found.status_code
            found = Response(status_code=status, headers={"Allow": _ALLOW})
        if isinstance(found, Problem):
            named = {"process": process, **found.more}
            await refuse(replace(found, headers={**found.headers, **fields}, more=named), scope, receive, send)
            return
        found.headers.update(fields)
        if method == "HEAD":
            # The fields are those of GET, Content-Length among them.
            found.body = b""
        await found(scope, receive, send)

    def _answer(self, find: Find, path: str, scope: Scope) -> Response | Problem:
        """Return the answer to GET, or the problem."""
        # Litestar adds a slash to what it mounts.
        path = path.rstrip("/")
        election = path.removeprefix(_LEADER) if path.startswith(_LEADER) else ""
        if scope["type"] != "http" or not (election or path in ("/livez", "/readyz", "/health")):
            return Problem(404, "there are livez, readyz, health and leader/ELECTION", see=_GUIDE)
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            return Problem(405, f"{_ALLOW} are answered here", see=_GUIDE, headers={"Allow": _ALLOW})
        query = QueryParams(scope["query_string"])
        try:
            coordinator = find(scope)
        except (NotConnected, AmbiguousCoordinator):
            return _text("alive", process_name()) if path == "/livez" else Problem(503, _NOBODY, see=_GUIDE)
        report = coordinator.status()
        if election:
            return _leader(report, election, query)
        if path == "/livez":
            return _livez(report)
        if path == "/health":
            return _health(report)
        return self._readyz(coordinator, report, query)

    def _readyz(self, coordinator: Coordinator, report: StatusReport, query: QueryParams) -> Response | Problem:
        problem = self._why_not_ready(coordinator, report, dict.fromkeys(query.getlist("require")))
        if problem is not None and problem.status == 400:
            return problem
        aside = degraded(report)
        # Envoy prefers other processes then.
        headers = {"x-envoy-degraded": "true"} if aside else {}
        word = "not ready" if problem else "degraded" if aside else "ready"
        if "verbose" in query:
            lines = [word, report.process.host_pid, *(check.line for check in checks(report))]
            return _text(
                *lines, *([problem.detail] if problem else ()), status=503 if problem else 200, headers=headers
            )
        return (
            replace(problem, headers=headers) if problem else _text(word, report.process.host_pid, headers=headers)
        )

    def _why_not_ready(
        self, coordinator: Coordinator, report: StatusReport, asked: Iterable[str]
    ) -> Problem | None:
        if why := why_not_ready(report):
            return Problem(503, why, title="Not ready", see=_READYZ, outage_id=report.outage_id)
        try:
            needs = [_asked_for(name, report).need for name in asked]
        except ValueError:
            return Problem(400, f"require is one of {_REQUIRABLE}", see=_READYZ)
        try:
            refusal = find_refusal([*self._ready, *needs], coordinator)
        except NotFollowed as exc:
            return Problem(503, shown(str(exc)), title="Not ready", see=_READYZ)
        return refusal.problem if refusal is not None else None


def _asked_for(name: str, report: StatusReport) -> Requirement:
    """Return the requirement that a probe names in `?require=`."""
    kind, _, service = name.partition(":")
    if kind == "discovery" and service not in {each.name for each in report.services}:
        raise ValueError(service)
    return requires(name)


def _text(*lines: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
    return Response(body, status, headers, "text/plain")


def _json(content: object, media_type: str, status: int = 200) -> Response:
    body = json.dumps(content, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace")
    return Response(body, status, media_type=media_type)


def _livez(report: StatusReport) -> Response | Problem:
    if why := why_not_live(report):
        return Problem(503, f"{why}: restart this process", title="Not alive", see=f"{_GUIDE}#livez")
    return _text("alive", report.process.host_pid)


def _health(report: StatusReport) -> Response:
    told = document(report)
    status = 503 if told["status"] is Level.FAIL else 200
    return _json(told, "application/health+json", status)


def _leader(report: StatusReport, election: str, query: QueryParams) -> Response | Problem:
    asked = query.get("standing", "confirmed")
    if asked not in GROUNDS:
        return Problem(400, f"standing is one of {', '.join(GROUNDS)}", see=f"{_GUIDE}#leader")
    found = leading(report, election, GROUNDS[asked])
    if not found.known:
        return Problem(404, "this process is no candidate of that election", see=f"{_GUIDE}#leader")
    if not found.leads:
        return Problem(
            503,
            found.why,
            title="Not the leader",
            see=f"{_GUIDE}#leader",
            outage_id=report.outage_id,
            more={"holder": found.holder, "address": found.address},
        )
    return _json(found.to_dict(), "application/json")
