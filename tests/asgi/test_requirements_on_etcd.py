"""Requirements in front of a real cluster whose quorum is killed, and comes back."""

from __future__ import annotations

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import tideover
from tests.asgi.support import client_of
from tideover import connect
from tideover.asgi import TideoverMiddleware, requires
from tideover.testing import EtcdCluster
from tideover.types import HealthState

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.any_etcd]


@requires("lock")
async def pay(request: Request) -> Response:
    """Use the lock that is required."""
    async with tideover.lock("till", timeout=5):
        return PlainTextResponse("paid")


@requires("config", prefix="prices/", max_age=60)
async def price(request: Request) -> Response:
    """Use configuration that is fresh enough."""
    return PlainTextResponse(tideover.current().config.get("prices/tea"))


async def test_a_quorum_that_is_killed_and_comes_back(etcd_cluster: EtcdCluster) -> None:
    """Locks are refused without a call, configuration is served; after `Retry-After` both are as before."""
    app = Starlette(routes=[Route("/pay", pay), Route("/price", price)])
    async with connect(*etcd_cluster.endpoints, cache_dir=False, start_timeout=5) as tide:
        await tide.config.put("prices/tea", "4.50")
        async with client_of(TideoverMiddleware(app, coordinator=tide)) as client:
            assert (await client.get("/pay")).text == "paid"
            etcd_cluster.lose_quorum()
            with anyio.fail_after(15):
                await tide.health.wait_for(HealthState.DEGRADED)
            refused = await client.get("/pay")
            assert (refused.status_code, refused.json()["outage_id"]) == (503, tide.status().outage_id)
            assert (await client.get("/price")).text == "4.50"
            etcd_cluster.restore_quorum()
            refused = await client.get("/pay")
            if refused.status_code == 503:
                await anyio.sleep(int(refused.headers["retry-after"]))
            assert (await client.get("/pay")).text == "paid"
            assert (await client.get("/price")).text == "4.50"
