"""How many series there are: as many as the reference promises, and none that a caller can make."""

from __future__ import annotations

import re

import anyio
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.asgi.support import client_of
from tests.support import connected
from tests.telemetry.recording import Recorded, install, put
from tests.telemetry.test_reference import PAGE
from tideover import LockTimeout, Source
from tideover.asgi import TideoverMiddleware
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


KEYS, SERVICES, ELECTIONS, MEMBERS = 1000, 100, 50, 3

# What the reference's formulas come to here, where one name is registered and all attempts succeed.
FORMULAS = {
    "1 each": 1,
    "2": 2,
    "2 each": 2,
    "3": 3,
    "2 for each source": 2 * len(Source),
    "1, and 1 for each set of the four components that is degraded together: 16": 16,
    "8 each: for each outcome, degraded or not; a histogram of them is 14 in Prometheus": 8,
    "E each": ELECTIONS,
    "S each": SERVICES,
    "4 R, of which one is not 0": 4,
    "M": MEMBERS,
    "M for each operation (3) and outcome; a histogram is 12 in Prometheus": 3 * MEMBERS,
}


def promised() -> dict[str, int]:
    """Return by name how many series the reference promises at the most."""
    section = PAGE.read_text().partition("\n## How many series\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+`) \| (.+) \|$", section, re.M)
    return {name: FORMULAS[formula] for names, formula in rows for name in re.findall(r"`(.+?)`", names)}


async def test_there_are_as_many_series_as_promised(recorded: Recorded) -> None:
    """Keys and locks make none; each service and each election makes one of each of its metrics."""
    store = MemoryStore()
    store.rebuild({f"/config/key-{number}".encode(): b"5" for number in range(KEYS)})
    async with connected(store) as tide, tide.register("api", "http://10.0.0.7:8000"):
        for number in range(ELECTIONS):
            tide.job(f"election-{number}", anyio.sleep_forever).start()
        for number in range(SERVICES):
            tide.discover(f"service-{number}")
        for number in range(KEYS):
            tide.config.get(f"key-{number}")
        for number in range(20):
            async with tide.lock(f"lock-{number}"):
                pass
        await anyio.sleep(1)
        found = {name: len(metric.data.data_points) for name, metric in recorded.metrics().items()}
    promises = promised()
    assert {name: count for name, count in found.items() if count > promises[name]} == {}
    some = ("discovery.endpoint.active", "election.candidate.active", "election.leader")
    assert [found[f"tideover.{name}"] for name in some] == [SERVICES, ELECTIONS, ELECTIONS]


def seen(recorded: Recorded) -> set[tuple[str, str, str]]:
    """Return each label of each metric."""
    return {
        (name, label, str(value))
        for name, metric in recorded.metrics().items()
        for point in metric.data.data_points
        for label, value in (point.attributes or {}).items()
    }


# What a header and a path can carry, beside what the test looks for.
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/?#%:@[]\\"), max_size=20)


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(word=WORDS)
async def test_nothing_that_a_request_carries_is_a_label(word: str) -> None:
    """Host, path, query, method and headers, and names of locks and keys made of them: no label has any of it."""
    recorded = install()
    mark = f"zq{word.encode().hex()}zq"

    async def use(request: Request) -> PlainTextResponse:
        tide = request.app.state.tide
        tide.config.get(mark, default="")
        await tide.config.fetch(mark, default="")
        try:
            async with tide.lock(mark, timeout=1):
                pass
        except LockTimeout:
            pass
        return PlainTextResponse(mark)

    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    async with connected(store) as tide:
        app = Starlette(routes=[Route("/{path:path}", use, methods=["GET", "POST"])])
        app.state.tide = tide
        async with client_of(TideoverMiddleware(app, coordinator=tide)) as client:
            headers = httpx.Headers({"Host": f"{mark}.example", "X-Request-Id": mark, "Tideover-Status": mark})
            for method in ("GET", "POST"):
                await client.request(method, f"/{mark}?{mark}={mark}", headers=headers)
            await client.get("/", headers={"Tideover-Leader": mark})
    assert not [each for each in seen(recorded) if mark in "".join(each)]
