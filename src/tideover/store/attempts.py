"""One question to one member, answered, refused or left unanswered: what every loop of attempts is made of."""

from __future__ import annotations

from typing import TypeVar

import anyio

from tideover.store.faults import UNANSWERED, Fault, StoreFault
from tideover.store.operations import Op, Result
from tideover.store.protocol import Store

R = TypeVar("R", bound=Result)

# Seconds that a store is given at the least.
_LEAST = 0.001


async def attempt(store: Store, op: Op[R], *, member: str, timeout: float) -> R | Fault:
    """Ask one member once, and return the answer or the fault; `UNANSWERED` of a store that overstays its time."""
    answer: R | Fault = UNANSWERED
    try:
        with anyio.move_on_after(timeout):
            answer = await store.call(op, member=member, timeout=max(timeout, _LEAST))
    except StoreFault as exc:
        return exc.fault
    return answer
