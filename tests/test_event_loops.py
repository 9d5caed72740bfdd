"""What tests make once lives through several event loops."""

from __future__ import annotations

import asyncio
import logging

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

import tideover
from tests.asgi.support import serving
from tideover.asgi import TideoverMiddleware
from tideover.store.operations import Put
from tideover.testing import MemoryStore


def test_an_application_made_once(caplog: pytest.LogCaptureFixture) -> None:
    """One application on one MemoryStore is served in one event loop after another: no background task fails."""
    app = Starlette(middleware=[Middleware(TideoverMiddleware, store=MemoryStore())])

    async def serve() -> int:
        async with serving(app) as client:
            return (await client.get("/")).status_code

    assert [asyncio.run(serve()) for _ in range(3)] == [404] * 3
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []


def test_a_store_in_one_loop_after_another(caplog: pytest.LogCaptureFixture) -> None:
    """A MemoryStore works in the next event loop, with what was written, also when a coordinator was left open."""
    store = MemoryStore()

    async def write(number: int) -> tideover.Coordinator:
        tide = await tideover.connect(store=store).__aenter__()
        await store.call(Put(b"/config/a", str(number).encode()), member=store.members[0], timeout=1)
        while tide.config.get("a", default="") != str(number):
            await asyncio.sleep(0.01)
        async with tide.lock(f"job-{number}", timeout=5):
            pass
        if number % 2:
            await tide.__aexit__(None, None, None)
        return tide

    left_open = [asyncio.run(write(number)) for number in range(4)]
    assert len(left_open) == 4
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []
