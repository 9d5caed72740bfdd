"""`@with_config`, beside decorators that services put on the same functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import peers
from benchmarks.coordinators import healthy
from benchmarks.harness import Comparison, Formula, Goal, Row, Timings, awaiting, interleave, statement
from tideover import Coordinator, with_config
from tideover.request_record import RequestRecord, current_record

VALUES = {"a": "1.5", "b": "2.5", "c": "3.5"}
# Seconds that a call may cost beyond the reads themselves.
BUDGET = 1e-6


def plain_1(*, a: float = 0.0) -> float:
    """Stand for a function that takes one setting."""
    return a


def plain_3(*, a: float = 0.0, b: float = 0.0, c: float = 0.0) -> float:
    """Stand for a function that takes three settings."""
    return a


async def plain_async_1(*, a: float = 0.0) -> float:
    """Stand for a coroutine function that takes one setting."""
    return a


async def plain_async_3(*, a: float = 0.0, b: float = 0.0, c: float = 0.0) -> float:
    """Stand for a coroutine function that takes three settings."""
    return a


async def measure() -> list[Comparison]:
    """Call functions with and without decorators, outside a request and within one."""
    async with healthy(VALUES) as tide:
        outside = await _time(tide)
        token = current_record.set(RequestRecord(tide))
        try:
            within = await _time(tide)
        finally:
            current_record.reset(token)
    return [
        *_against_budget(outside, ""),
        *_against_budget(within, " in a request"),
        *_against_peers(outside),
    ]


async def _time(tide: Coordinator) -> Timings:
    one, three = with_config(a="a"), with_config(a="a", b="b", c="c")
    cashews_cached = await peers.cashews_cached(plain_async_1)
    calls: Mapping[str, Callable[..., Any]] = {
        "plain, 1 key": plain_1,
        "sync, 1 key": one(plain_1),
        "plain, 3 keys": plain_3,
        "sync, 3 keys": three(plain_3),
        "stamina": peers.stamina_retried(plain_1),
        "breaker": peers.circuit_broken(plain_1),
    }
    awaits: Mapping[str, Callable[..., Any]] = {
        "plain async, 1 key": plain_async_1,
        "async, 1 key": one(plain_async_1),
        "plain async, 3 keys": plain_async_3,
        "async, 3 keys": three(plain_async_3),
        "cashews async": cashews_cached,
        "stamina async": peers.stamina_retried(plain_async_1),
        "breaker async": peers.circuit_broken(plain_async_1),
    }
    return await interleave(
        {
            "get": statement("config.get('a', float)", {"config": tide.config}),
            **{name: statement("function()", {"function": function}) for name, function in calls.items()},
            **{name: awaiting("await function()", {"function": function}) for name, function in awaits.items()},
        }
    )


def _added(case: str, plain: str) -> Formula:
    return lambda times: times[case] - times[plain]


_BUDGETED = (
    ("sync, 1 key", "plain, 1 key", 1),
    ("sync, 3 keys", "plain, 3 keys", 3),
    ("async, 1 key", "plain async, 1 key", 1),
    ("async, 3 keys", "plain async, 3 keys", 3),
)


def _allowed(keys: int) -> Formula:
    return lambda times: BUDGET + keys * times["get"]


def _against_budget(times: Timings, where: str) -> list[Comparison]:
    return [
        times.compare(
            f"with_config adds, {case}{where}",
            _added(case, plain),
            f"1 us + {keys} get{'s' if keys > 1 else ''}",
            _allowed(keys),
        )
        for case, plain, keys in _BUDGETED
    ]


def _against_peers(times: Timings) -> list[Comparison]:
    added = _added("async, 1 key", "plain async, 1 key")
    return [
        times.compare(
            f"with_config adds, async, beside {name}", added, f"{name} adds", _added(case, "plain async, 1 key")
        )
        for name, case in (
            ("cashews", "cashews async"),
            ("stamina.retry", "stamina async"),
            ("circuitbreaker", "breaker async"),
        )
    ] + [
        times.compare(
            f"with_config adds, sync, beside {name}",
            _added("sync, 1 key", "plain, 1 key"),
            f"{name} adds",
            _added(case, "plain, 1 key"),
        )
        for name, case in (("stamina.retry", "stamina"), ("circuitbreaker", "breaker"))
    ]


ROW = Row(
    name="with-config",
    what="what @with_config adds to a call",
    peer="1 us + one get per key; the decorators of cashews, stamina and circuitbreaker",
    goals={
        f"with_config adds, {case}{where}": Goal(1) for where in ("", " in a request") for case, _, _ in _BUDGETED
    },
    measure=measure,
)
