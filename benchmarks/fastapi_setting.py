"""A `Setting` as a parameter of a FastAPI route, beside a `Depends` that returns a constant."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI
from starlette.types import ASGIApp

from benchmarks.coordinators import healthy
from benchmarks.harness import Comparison, Goal, Row, awaiting, interleave
from benchmarks.middleware import SCOPE, receive, send
from tideover.asgi import TideoverMiddleware
from tideover.contrib.fastapi import Setting

_CASE = "request with one Setting"
_CASES = "for scale: with three Settings"
_ADDS = "for scale: one Setting alone adds"


async def constant() -> float:
    """Return what a setting has."""
    return 0.5


async def second() -> float:
    """Return the same, as another dependency."""
    return 0.5


async def third() -> float:
    """Return the same, as a third one."""
    return 0.5


def _apps() -> dict[str, ASGIApp]:
    apps = {name: FastAPI() for name in ("none", "depends", "setting", "three depends", "three settings")}

    @apps["none"].get("/")
    async def none() -> float:
        return 0.5

    @apps["depends"].get("/")
    async def depends(a: Annotated[float, Depends(constant)]) -> float:
        return a

    @apps["setting"].get("/")
    async def setting(a: Annotated[float, Setting("a")]) -> float:
        return a

    @apps["three depends"].get("/")
    async def three_depends(
        a: Annotated[float, Depends(constant)],
        b: Annotated[float, Depends(second)],
        c: Annotated[float, Depends(third)],
    ) -> float:
        return a + b + c

    @apps["three settings"].get("/")
    async def three_settings(
        a: Annotated[float, Setting("a")],
        b: Annotated[float, Setting("b")],
        c: Annotated[float, Setting("c", default=0.5)],
    ) -> float:
        return a + b + c

    return {**apps}


async def measure() -> list[Comparison]:
    """Serve requests, without a network."""
    async with healthy({"a": "0.5", "b": "0.5", "c": "0.5"}) as tide:
        names = {"scope": SCOPE, "receive": receive, "send": send}
        line = "await app(scope.copy(), receive, send)"
        apps = {name: TideoverMiddleware(app, coordinator=tide) for name, app in _apps().items()}
        times = await interleave({name: awaiting(line, {"app": app, **names}) for name, app in apps.items()})
    best = times.best
    own, constants = best["setting"] - best["none"], best["depends"] - best["none"]
    return [
        times.compare(_CASE, lambda t: t["setting"], "with a constant Depends", lambda t: t["depends"]),
        times.compare(_CASES, lambda t: t["three settings"], "with three Depends", lambda t: t["three depends"]),
        Comparison(_ADDS, own, "a constant Depends adds", constants),
    ]


ROW = Row(
    name="fastapi-setting",
    what="a request of FastAPI's with a `Setting` as a parameter",
    peer="the same with a `Depends` that returns a constant",
    goals={_CASE: Goal(1.2)},
    measure=measure,
)
