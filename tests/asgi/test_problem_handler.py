"""Errors that endpoints raise, as answers: what to do about it, and nothing that is for operators."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.asgi.support import client_of, lose, store_with
from tests.support import connected, mock_trio
from tideover import (
    CircuitOpen,
    ConfigKeyError,
    ElectionMismatch,
    EndpointsUnknown,
    LockConflict,
    LockTimeout,
    LockUnavailable,
    NotSynced,
    OutcomeUnknown,
    PermissionDenied,
    TideoverError,
    TooStale,
    Unavailable,
)
from tideover.asgi import TideoverMiddleware, problem_handler
from tideover.types import HealthState

pytestmark = pytest.mark.anyio

SECRET = "canary-of-10.0.0.1:2379"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()


async def raising(error: Exception, handlers: dict[Any, Any] | None = None) -> Any:
    """Return how an endpoint's error is answered, in an outage."""

    async def fail(request: Request) -> Response:
        raise error

    app = Starlette(
        routes=[Route("/work", fail)], exception_handlers={TideoverError: problem_handler, **(handlers or {})}
    )
    store = await store_with(a="1")
    async with connected(store) as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        async with client_of(TideoverMiddleware(app, coordinator=tide)) as client:
            return await client.get("/work"), tide.status().outage_id


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (Unavailable(SECRET), 503, "the request could not be carried out: no etcd member answers"),
        (CircuitOpen(SECRET, retry_after=9), 503, "the request could not be carried out: no etcd member answers"),
        (
            EndpointsUnknown(SECRET, service=SECRET, age=math.inf),
            503,
            "what the request needs has never been read: no etcd member answers",
        ),
        (LockTimeout(SECRET), 503, "a lock that the request needs could not be had in time"),
        (
            LockUnavailable(SECRET),
            503,
            "a lock that the request needs cannot be had across machines: no etcd member answers",
        ),
        (
            TooStale(SECRET, age=73, max_stale=60),
            503,
            "what the request needs is 1 min 13 s old, and may be 1 min 0 s",
        ),
        (
            NotSynced(SECRET, SECRET),
            503,
            "what the request needs has never been read: no etcd member answers",
        ),
        (
            LockConflict(SECRET),
            409,
            "a lock that the request relied on while etcd was away was held by another process",
        ),
        (ElectionMismatch(SECRET), 500, "this service is misconfigured; its log says how"),
        (PermissionDenied(SECRET), 500, "this service is misconfigured; its log says how"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_each_error_has_its_answer(
    error: Exception, status: int, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The status says whose matter it is, a 503 when to come again, and no message of an error gets out."""
    answer, outage_id = await raising(error)
    found = answer.json()
    assert (answer.status_code, found["status"], found["detail"]) == (status, status, detail)
    assert found["outage_id"] == outage_id
    assert answer.headers.get("retry-after") == (str(found["retry_after"]) if status == 503 else None)
    assert SECRET not in answer.text
    logged = [record for record in caplog.records if "tideover.server.failed" in record.message]
    assert bool(logged) is (status == 500)
    assert all(record.levelno == logging.ERROR and SECRET in record.message for record in logged)


async def test_what_is_not_known_yet_is_no_outage() -> None:
    """A service asked for before its first read is answered as not known: etcd is not called away."""

    async def endpoints(request: Request) -> Response:
        return PlainTextResponse(str(tide.discover("billing").endpoints))

    app = Starlette(routes=[Route("/", endpoints)], exception_handlers={TideoverError: problem_handler})
    async with connected(await store_with(a="1")) as tide:
        async with client_of(TideoverMiddleware(app, coordinator=tide)) as client:
            answer = await client.get("/")
    found = answer.json()
    assert (answer.status_code, found["title"], found["outage_id"]) == (503, "Not known", "")
    assert found["detail"] == "what the request needs has never been read"


@pytest.mark.parametrize("error", [OutcomeUnknown("x"), ConfigKeyError("k", "x"), TideoverError("x")])
async def test_other_errors_stay_errors(error: Exception) -> None:
    """What means something else is raised on."""
    answer, _ = await raising(error)
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")


async def test_what_a_user_handles_stays_theirs() -> None:
    """A handler for a more special error goes first."""

    async def mine(request: Request, error: Exception) -> Response:
        return PlainTextResponse("mine", 418)

    assert (await raising(LockTimeout("x"), {LockTimeout: mine}))[0].status_code == 418
    assert (await raising(CircuitOpen("x", retry_after=1), {Unavailable: mine}))[0].status_code == 418
    assert (await raising(Unavailable("x"), {LockTimeout: mine}))[0].status_code == 503


@pytest.mark.parametrize(
    ("errors", "status"),
    [
        ([LockTimeout(SECRET)], 503),
        ([Unavailable(SECRET), LockConflict(SECRET), TooStale(SECRET, age=2, max_stale=1)], 409),
        ([Unavailable(SECRET), ExceptionGroup("inner", [PermissionDenied(SECRET), LockConflict(SECRET)])], 500),
    ],
)
async def test_a_group_is_as_bad_as_its_worst_error(errors: list[Exception], status: int) -> None:
    """What a task group makes of errors is answered where the application says so, in groups of groups too."""
    answer, _ = await raising(ExceptionGroup("group", errors), {ExceptionGroup: problem_handler})
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert SECRET not in answer.text


async def test_a_group_with_another_error_stays_an_error() -> None:
    """One error that is nobody's of these makes the group one that is raised on."""
    group = ExceptionGroup("group", [LockTimeout("x"), ValueError("x")])
    answer, _ = await raising(group, {ExceptionGroup: problem_handler})
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")


async def test_it_works_without_a_coordinator() -> None:
    """An application that has none at hand answers all the same."""

    async def fail(request: Request) -> Response:
        raise LockTimeout("x")

    app = Starlette(routes=[Route("/", fail)], exception_handlers={TideoverError: problem_handler})
    async with client_of(app) as client:
        answer = await client.get("/")
        assert (answer.status_code, answer.json()["outage_id"]) == (503, "")
        assert 1 <= answer.json()["retry_after"] <= 30
