"""Requests at a steady rate, over all workers in turn, and what was answered."""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import httpx

from tests.canaries import canary
from tests.observability.worker import Worker

# What each request carries, and nobody exports.
TOKEN = canary("token")
ORDER = {"quantity": 2, "price": 50}


@dataclass
class Load:
    """What a user sends: orders, invoices, and questions where the settlement runs.

    Attributes:
        workers: Who is asked.
        rate: Requests a second.
        statuses: How many answers had each status, by worker and status; 0 is none at all.
        degraded: How many had `Tideover-Status`, by worker.
        traces: The trace of each answered request, and whether the answer had `Tideover-Status`. Not those with
            500: an exception is answered around the middleware, which cannot add a header then.
    """

    workers: Sequence[Worker]
    rate: float = 100.0
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    traces: dict[str, bool] = field(default_factory=dict)

    async def run(self) -> None:
        """Send until cancelled."""
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        async with (
            httpx.AsyncClient(
                limits=limits, timeout=10, trust_env=False, headers={"Authorization": TOKEN}
            ) as client,
            anyio.create_task_group() as tasks,
        ):
            began = anyio.current_time()
            for number in itertools.count():
                worker = self.workers[number % len(self.workers)]
                tasks.start_soon(self._send, client, worker, number // len(self.workers))
                # By the clock, so that what takes long makes the next ones no rarer.
                await anyio.sleep_until(began + (number + 1) / self.rate)

    async def _send(self, client: httpx.AsyncClient, worker: Worker, number: int) -> None:
        trace_id = secrets.token_hex(16)
        traced = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
        try:
            if number % 5 == 0:
                answer = await client.post(f"{worker.url}/orders/{number}", json=ORDER, headers=traced)
            elif number % 5 == 1:
                answer = await client.get(f"{worker.url}/invoices/{number}", headers=traced)
            else:
                answer = await client.get(f"{worker.url}/settlement", headers=traced)
        except httpx.HTTPError:
            self.statuses[worker.name, 0] += 1
            return
        self.statuses[worker.name, answer.status_code] += 1
        self.degraded[worker.name] += "tideover-status" in answer.headers
        if answer.status_code != 500:
            self.traces[trace_id] = "tideover-status" in answer.headers
