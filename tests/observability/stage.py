"""All of it at once: etcd, a Collector, a service that is called, the shop's workers, a load, and a Prometheus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import tideover
from tests.observability.link import linked
from tests.observability.load import Load
from tests.observability.prometheus import Prometheus, prometheus
from tests.observability.receiver import Receiver, receiving
from tests.observability.serving import serving
from tests.observability.worker import Worker
from tideover.testing import EtcdCluster

NAMESPACE = "/shop"


@dataclass
class Stage:
    """What runs.

    Attributes:
        folder: Where logs and snapshots are.
        cluster: Three members.
        receiver: What came by OTLP.
        workers: Those that run.
        spare: Those that are scraped, but not started yet.
        load: What they are asked.
        prometheus: What scrapes them; None where nothing does.
        client: For requests of the test's own.
        billing: Where the service answers that the shop calls.
    """

    folder: Path
    cluster: EtcdCluster
    receiver: Receiver
    workers: list[Worker]
    spare: list[Worker]
    load: Load
    client: httpx.AsyncClient
    billing: str
    prometheus: Prometheus | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self, *workers: Worker) -> None:
        """Start workers and wait until they answer."""
        for worker in workers:
            worker.start()
        self.stack.push_async_callback(_stop, workers)
        async with anyio.create_task_group() as tasks:
            for worker in workers:
                tasks.start_soon(worker.wait_ready, self.client)

    async def trouble(self, worker: Worker, what: str, **params: str | float) -> str:
        """Bring trouble upon a worker; return what it answers."""
        answer = await self.client.post(f"{worker.url}/trouble/{what}", params=params)
        answer.raise_for_status()
        return answer.text

    async def put(self, key: str, value: str) -> None:
        """Put a value into etcd, as an operator would."""
        await anyio.to_thread.run_sync(self.cluster.etcdctl, "put", f"{NAMESPACE}/config/{key}", value)


@asynccontextmanager
async def stage(
    folder: Path,
    *,
    workers: int = 4,
    spares: int = 0,
    rate: float = 100.0,
    values: Mapping[str, str] | None = None,
    numbers: Mapping[str, str] | None = None,
    scraped: bool = True,
) -> AsyncIterator[Stage]:
    """Run everything until the block ends; the load has begun.

    Args:
        folder: For logs, snapshots and Prometheus's data.
        workers: How many processes serve the shop, each with its own link to each member.
        spares: How many more are scraped and may be started later.
        rate: Requests a second.
        values: Configuration that is in etcd from the start.
        numbers: What of the alerts' numbers is another one, see `prometheus.rules`.
        scraped: Whether a Prometheus runs.
    """
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(EtcdCluster(3))
        receiver = await stack.enter_async_context(receiving())
        billing = await stack.enter_async_context(serving(_billing()))
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=60, trust_env=False))
        made = []
        for number in range(workers + spares):
            links = [await stack.enter_async_context(linked(endpoint)) for endpoint in cluster.endpoints]
            made.append(Worker(f"shop-{number}", folder=folder, links=links, collector=receiver.url))
        running = made[:workers]
        here = Stage(
            folder, cluster, receiver, running, made[workers:], Load(running, rate), client, billing, stack=stack
        )
        for key, value in (values or {}).items():
            await here.put(key, value)
        await here.start(*running)
        if scraped:
            ports = [worker.metrics_port for worker in made]
            here.prometheus = await stack.enter_async_context(prometheus(folder, ports, numbers=numbers))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(here.load.run)
            yield here
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def registered(stage: Stage, *urls: str) -> AsyncIterator[None]:
    """Register addresses as `billing`, until the block ends.

    Args:
        stage: Where.
        urls: The addresses; each is its instance's name, too.
    """
    async with tideover.connect(*stage.cluster.endpoints, namespace=NAMESPACE, cache_dir=False) as tide:
        async with AsyncExitStack() as stack:
            for url in urls:
                name = url.rpartition("/")[2].replace(":", "-")
                await stack.enter_async_context(tide.register("billing", url, instance=name))
            yield


async def _stop(workers: Sequence[Worker]) -> None:
    """Stop workers all at once, while what they talk to goes on: they export what they have left."""
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as tasks:
            for worker in workers:
                tasks.start_soon(partial(anyio.to_thread.run_sync, worker.stop))


def _billing() -> Starlette:
    async def invoice(request: Request) -> Response:
        return PlainTextResponse(f"paid: {request.path_params['number']}")

    return Starlette(routes=[Route("/invoices/{number}", invoice)])
