"""What a requirement adds to a request that it lets through: a decision, and nothing that is awaited."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from benchmarks.coordinators import healthy
from benchmarks.harness import Comparison, Goal, Row, awaiting, interleave
from benchmarks.middleware import SCOPE, receive, send
from tideover.asgi import Requirement, TideoverMiddleware, leader_only, requires

_ONE: dict[str, Requirement] = {
    "lock": requires("lock"),
    "config": requires("config", max_age=60),
    "discovery": requires("discovery:billing"),
    "leader": leader_only("reaper"),
}
_CASES: dict[str, list[Requirement]] = {
    "none": [],
    **{name: [requirement] for name, requirement in _ONE.items()},
    "all": list(_ONE.values()),
}


def _app(requirements: list[Requirement]) -> ASGIApp:
    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("ok")

    for requirement in requirements:
        endpoint = requirement(endpoint)
    return Starlette(routes=[Route("/", endpoint)])


async def measure() -> list[Comparison]:
    """Serve requests, without a network."""
    async with (
        healthy({"a": "1"}) as tide,
        tide.leader("reaper"),
        tide.register("billing", "http://10.0.0.7:8000"),
    ):
        await tide.discover("billing").wait_for(1)
        names = {"scope": SCOPE, "receive": receive, "send": send}
        line = "await app(scope.copy(), receive, send)"
        apps = {name: TideoverMiddleware(_app(required), coordinator=tide) for name, required in _CASES.items()}
        times = await interleave({name: awaiting(line, {"app": app, **names}) for name, app in apps.items()})
    request = times.best["none"]
    return [
        Comparison(_adds(name), times.best[name] - request, "the request takes", request)
        for name in _CASES
        if name != "none"
    ]


def _adds(name: str) -> str:
    return f"requirement adds, {name}" if name in _ONE else "for scale: all four add"


ROW = Row(
    name="requirements",
    what="what a requirement adds to a request that it lets through",
    peer="the same request without",
    goals={_adds(name): Goal(2e-6, of="value") for name in _ONE},
    measure=measure,
)
