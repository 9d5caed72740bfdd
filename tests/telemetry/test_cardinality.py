"""No series that a caller can make."""

from __future__ import annotations

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
from tideover import LockTimeout
from tideover.asgi import TideoverMiddleware
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


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
