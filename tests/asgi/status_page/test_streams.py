"""The page's events: what is sent, when, and how a stream ends."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from starlette.types import ASGIApp, Message, Scope

from tests.asgi.support import lose, recover, store_with
from tests.support import connected, mock_trio
from tideover.asgi import status_app
from tideover.asgi.status_page import streams
from tideover.asgi.status_page.app import StatusApp

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on a mock clock."""
    return mock_trio()


@dataclass
class Viewer:
    """A browser that listens to one stream."""

    app: ASGIApp
    query: bytes = b""
    text: str = ""
    status: int = 0
    events: list[tuple[str, str]] = field(default_factory=list)
    whole: bool = False
    gone: anyio.Event = field(default_factory=anyio.Event)
    over: anyio.Event = field(default_factory=anyio.Event)

    async def run(self) -> None:
        """Listen until the stream ends, or the browser is gone."""
        text = ""

        async def receive() -> Message:
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal text
            if message["type"] == "http.response.start":
                self.status = message["status"]
                return
            text += message["body"].decode()
            self.text += message["body"].decode()
            self.whole = not message.get("more_body", False)
            *complete, text = text.replace("\r\n", "\n").split("\n\n")
            self.events += map(_event, complete)

        scope: Scope = {
            "type": "http",
            "method": "GET",
            "path": "/events",
            "query_string": self.query,
            "headers": [],
        }
        await self.app(scope, receive, send)
        self.over.set()

    def names(self) -> list[str]:
        """Return the names of the events that came since this was last asked."""
        names = [name for name, _ in self.events]
        self.events.clear()
        return names


def _event(block: str) -> tuple[str, str]:
    name, data = "", []
    # A client that is no browser takes a block without data for an event that is empty.
    assert "data:" in block, block
    for line in block.split("\n"):
        kind, _, rest = line.partition(": ")
        if kind == "event":
            name = rest
        elif kind == "data":
            data.append(rest)
    return name, "\n".join(data)


@asynccontextmanager
async def viewed(app: ASGIApp, query: bytes = b"") -> AsyncIterator[Viewer]:
    """Have a browser listen for the length of a block."""
    viewer = Viewer(app, query)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(viewer.run)
        await anyio.sleep(0.5)
        yield viewer
        viewer.gone.set()


def guarded(tide: object) -> StatusApp:
    """Return the page of a coordinator."""
    app = status_app(tide, authorize=lambda scope: True)  # type: ignore[arg-type]
    assert isinstance(app, StatusApp)
    return app


async def test_all_comes_first_and_then_what_has_changed() -> None:
    """Every fragment at once; while nothing happens only ages, every 10 s; in an outage what it changes."""
    store = await store_with(rate="1")
    async with connected(store) as tide:
        await anyio.sleep(20)
        async with viewed(guarded(tide)) as viewer:
            names = viewer.names()
            assert viewer.text.count("retry: ") == 1
            assert {"bar", "verdict", "works", "primitives", "hour", "config", "keys", "announce"} <= set(names)
            assert names[-1] == "ages"
            await anyio.sleep(25)
            quiet = viewer.names()
            assert quiet.count("ages") in (2, 3)
            # The chart moves on once a minute; the revision is a fact.
            assert set(quiet) <= {"ages", "hour"}
            lose(store)
            with anyio.fail_after(10):
                while "verdict" not in {name for name, _ in viewer.events}:
                    await anyio.sleep(0.1)
            await anyio.sleep(3)
            told = dict(viewer.events)
            assert {"bar", "verdict", "announce"} <= set(told)
            assert 'data-state="unavailable"' in told["verdict"]
            recover(store)
            await anyio.sleep(15)
            assert 'data-state="available"' in dict(viewer.events)["verdict"]


async def test_ages_are_bare_numbers_for_what_is_shown() -> None:
    """An event of ages has a number for each element that counts, by its fragment and its key."""
    store = await store_with(rate="1")
    async with connected(store) as tide:
        lose(store)
        await anyio.sleep(30)
        async with viewed(guarded(tide)) as viewer:
            told = dict(viewer.events)
            sent = json.loads(told["ages"])
            for name, ages in sent["ages"].items():
                for key, seconds in enumerate(ages):
                    shown = f'data-key="{key}" data-age="' in told[name]
                    assert shown == (seconds is not None), (name, key)
                    assert seconds is None or math.isfinite(seconds)
            assert told["bar"].count("data-key") == 1


async def test_a_stream_ends_by_itself() -> None:
    """After 60 s, whole, so that a worker that is recycled without a signal is not held up."""
    async with connected(await store_with(rate="1")) as tide:
        async with viewed(guarded(tide)) as viewer:
            began = anyio.current_time()
            with anyio.fail_after(streams.LIFETIME + 5):
                await viewer.over.wait()
            assert viewer.whole
            assert streams.LIFETIME - 2 <= anyio.current_time() - began <= streams.LIFETIME + 2


async def test_the_sign_of_the_end_ends_all_streams() -> None:
    """At once, whole, and for a while none begins; a browser that comes back then is told to wait."""
    async with connected(await store_with(rate="1")) as tide:
        app = guarded(tide)
        async with viewed(app) as one, viewed(app) as other:
            assert app._streams is not None
            began = anyio.current_time()
            app._streams._end()
            await one.over.wait()
            await other.over.wait()
            assert anyio.current_time() - began < 1
            assert one.whole
            assert other.whole
            refused = Viewer(app)
            await refused.run()
            assert refused.status == 503
            # A process that goes on all the same has streams again.
            await anyio.sleep(31)
            async with viewed(app) as again:
                assert again.status == 200
                assert not again.over.is_set()


async def test_there_are_at_most_fifty() -> None:
    """The next is refused, and admitted when one is gone."""
    async with connected(await store_with(rate="1")) as tide:
        app = guarded(tide)
        viewers = [Viewer(app) for _ in range(streams.MOST)]
        async with anyio.create_task_group() as tasks:
            for viewer in viewers:
                tasks.start_soon(viewer.run)
            await anyio.sleep(0.5)
            assert {viewer.status for viewer in viewers} == {200}
            refused = Viewer(app)
            await refused.run()
            assert refused.status == 503
            viewers[0].gone.set()
            await viewers[0].over.wait()
            async with viewed(app) as admitted:
                assert admitted.status == 200
            for viewer in viewers:
                viewer.gone.set()


async def test_one_look_serves_all() -> None:
    """However many look, the report is gathered once a second."""
    async with connected(await store_with(rate="1")) as tide:
        app, looked = guarded(tide), 0
        status = tide.status

        def counted() -> object:
            nonlocal looked
            looked += 1
            return status()

        tide.status = counted  # type: ignore[method-assign,assignment]
        async with anyio.create_task_group() as tasks:
            viewers = [Viewer(app) for _ in range(20)]
            for viewer in viewers:
                tasks.start_soon(viewer.run)
            await anyio.sleep(10.5)
            for viewer in viewers:
                viewer.gone.set()
        assert looked <= 12


async def test_each_viewer_has_its_own_keys() -> None:
    """A stream sends the keys of its own filter and page, and again only when they have changed."""
    store = await store_with(**{f"k{number:03}": "1" for number in range(150)})
    async with connected(store) as tide:
        app = guarded(tide)
        async with viewed(app, b"keys=k14") as some, viewed(app, b"page=2") as rest:
            assert "1 to 10 of 10 that match, of 150" in dict(some.events)["keys"]
            assert "101 to 150 of 150" in dict(rest.events)["keys"]
            some.events.clear()
            rest.events.clear()
            await tide.config.put("k149", "2")
            await anyio.sleep(3)
            assert "keys" in some.names()
            assert "keys" in rest.names()
