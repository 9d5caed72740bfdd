"""A service behind `FencingMiddleware` refuses a lock's former holder."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.support import connected, mock_trio
from tideover.asgi import Fence, FenceMemory, FencingMiddleware
from tideover.testing import MemoryStore

SOME = 5_000

NAMES = st.text(min_size=1, max_size=40).filter(lambda name: name.isprintable())


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()


def service(**options: Any) -> tuple[httpx.AsyncClient, list[str]]:
    """Return a client of a fenced service, and what the service has done."""
    done: list[str] = []

    async def charge(request: Request) -> PlainTextResponse:
        done.append(request.method)
        return PlainTextResponse("done")

    app = FencingMiddleware(Starlette(routes=[Route("/", charge, methods=["GET", "POST"])]), **options)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service"), done


def field(token: int, *, epoch: int = 0, lock: str = "orders") -> dict[str, str]:
    """Return a request's header."""
    return {"Tideover-Fencing": Fence(lock, epoch, token).to_field()}


@given(NAMES, st.integers(0, 10**15 - 1), st.integers(0, 2**80))
def test_what_is_shown_is_read(lock: str, epoch: int, token: int) -> None:
    """The field comes back as it was, in ASCII, whatever the lock's name."""
    shown = Fence(lock, epoch, token)
    assert shown.to_field().isascii()
    assert Fence.from_field(shown.to_field()) == shown


def test_what_is_remembered_grows_as_documented() -> None:
    """Each lock that requests have named costs about 200 bytes, and naming it again costs nothing."""
    remember = FenceMemory()
    tracemalloc.start()
    try:
        sizes = []
        for again in range(3):
            for number in range(SOME):
                shown = Fence(f"orders/{number:08d}", 1, (number + again + 1) << 16).to_field()
                assert remember(Fence.from_field(shown))
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert repr(remember) == f"<FenceMemory of {SOME} locks>"
    assert sizes[0] / SOME < 250
    assert sizes[2] - sizes[0] < 0.05 * sizes[0]


@pytest.mark.anyio
async def test_the_holder_of_many_locks_keeps_nothing_of_them() -> None:
    """After a lock was fenced and given back, what is left is bounded: a note of the ledger, and a cached read."""
    store = MemoryStore()

    def living() -> Counter[str]:
        store.calls.clear()
        gc.collect()
        kinds = (type(thing) for thing in gc.get_objects())
        return Counter(kind.__qualname__ for kind in kinds if str(kind.__module__).startswith("tideover."))

    async with connected(store) as tide:

        async def fence(many: int) -> None:
            for number in range(many):
                async with tide.lock(f"{many}/{number}") as held:
                    await tide.config.put("state", number, guard=held.guard())
                    assert held.headers()
                await anyio.sleep(1)

        await fence(3)
        before = living()
        await fence(40)
        left = living() - before
    assert {kind for kind, more in left.items() if more > 10} - {"Event", "Entry"} == {"Past", "Range"}


@pytest.mark.anyio
async def test_a_former_holder_is_refused() -> None:
    """An older token than one seen before is answered with 412, and nothing is done; a newer epoch counts more."""
    client, done = service()
    async with client:
        assert (await client.post("/", headers=field(5))).status_code == 200
        assert (await client.post("/", headers=field(5))).status_code == 200
        assert (await client.post("/", headers=field(7))).status_code == 200
        refused = await client.post("/", headers=field(6))
        assert (refused.status_code, refused.headers["content-type"]) == (412, "application/problem+json")
        assert "later holder" in refused.json()["detail"]
        assert (await client.post("/", headers=field(1, epoch=1))).status_code == 200
        assert (await client.post("/", headers=field(9))).status_code == 412
        assert (await client.post("/", headers=field(1, lock="other"))).status_code == 200
    assert len(done) == 5


@pytest.mark.anyio
async def test_what_is_not_fenced_as_it_must_be_is_refused() -> None:
    """Without the field 428, malformed 400, under another lock 412; reading is not fenced."""
    client, done = service(lock="orders")
    async with client:
        assert (await client.post("/")).status_code == 428
        for bad in ("", "1", 'lock="a", epoch=0, token=1', 'lock="a", epoch=0, token="-1"'):
            assert (await client.post("/", headers={"Tideover-Fencing": bad})).status_code == 400
        assert (await client.post("/", headers=field(9, lock="other"))).status_code == 412
        assert (await client.get("/")).status_code == 200
    assert done == ["GET"]


@pytest.mark.anyio
async def test_the_service_may_remember_elsewhere() -> None:
    """Whoever admits may be a coroutine, such as a query to a database."""
    seen: list[Fence] = []

    async def admit(fence: Fence) -> bool:
        seen.append(fence)
        return fence.token > 5

    client, _ = service(admit=admit)
    async with client:
        assert (await client.post("/", headers=field(6))).status_code == 200
        assert (await client.post("/", headers=field(5))).status_code == 412
    assert [fence.token for fence in seen] == [6, 5]


@pytest.mark.anyio
async def test_a_holder_shows_its_token() -> None:
    """What `held.headers()` gives is what the service wants, and the next holder's counts more."""
    client, _ = service(lock="orders/42")
    async with client, connected(MemoryStore()) as tide:
        async with tide.lock("orders/42") as held:
            before = held.headers()
            assert (await client.post("/", headers=before)).status_code == 200
        async with tide.lock("orders/42") as held:
            assert (await client.post("/", headers=held.headers())).status_code == 200
            assert (await client.post("/", headers=before)).status_code == 412
