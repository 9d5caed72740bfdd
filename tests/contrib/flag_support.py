"""What the tests of flags share: OpenFeature as it was at the start, events as they were heard, and patience."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import anyio.lowlevel
import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.event import EventDetails, ProviderEvent
from openfeature.provider import ProviderStatus

from tests.asgi.support import store_with
from tests.support import connected
from tideover import Coordinator
from tideover.contrib.openfeature import TideoverProvider
from tideover.testing import MemoryStore

READY, STALE = ProviderEvent.PROVIDER_READY, ProviderEvent.PROVIDER_STALE
ERROR, CHANGED = ProviderEvent.PROVIDER_ERROR, ProviderEvent.PROVIDER_CONFIGURATION_CHANGED


@pytest.fixture(autouse=True)
def openfeature_afterwards() -> Iterator[None]:
    """Leave OpenFeature, which is one for the process, without providers, handlers and hooks."""
    yield
    api.shutdown()


class Heard:
    """The events that handlers of a client, or of the API, have heard, in their order.

    Each event has one handler. They are called in threads of the SDK's pool, in no certain order: what a new
    handler is told at once (the state of the provider) is waited for, so that it is the first that is heard.
    """

    def __init__(self, where: OpenFeatureClient | None = None) -> None:
        self.details: list[tuple[ProviderEvent, EventDetails]] = []
        for event in ProviderEvent:
            self._listen(where, event)
        deadline = time.monotonic() + 10
        while not self.details:
            assert time.monotonic() < deadline, "a new handler was told nothing"
            time.sleep(0.001)

    def _listen(self, where: OpenFeatureClient | None, event: ProviderEvent) -> None:
        def hear(details: EventDetails) -> None:
            self.details.append((event, details))

        if where is None:
            api.add_handler(event, hear)
        else:
            where.add_handler(event, hear)

    @property
    def events(self) -> list[ProviderEvent]:
        """The events alone."""
        return [event for event, _ in self.details.copy()]

    def last(self, event: ProviderEvent) -> EventDetails:
        """Return what came with the last event of a kind."""
        return next(details for each, details in reversed(self.details) if each is event)


async def until(done: Callable[[], object]) -> None:
    """Wait, in real time and without letting a mock clock jump, until the SDK's threads have done something."""
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.001)
        await anyio.lowlevel.checkpoint()


async def settled() -> None:
    """Wait until nothing is told any more."""
    await until(lambda: not any(thread.name == "tideover-flags" for thread in threading.enumerate()))


@asynccontextmanager
async def flagged(
    *, store: MemoryStore | None = None, prefix: str = "flags/", namespace: str = "", **values: str
) -> AsyncIterator[tuple[Coordinator, OpenFeatureClient]]:
    """Run a coordinator with flags, its provider set and ready; and a client of it."""
    store = store or await store_with(**{f"flags__{name}": value for name, value in values.items()})
    async with connected(store, namespace=namespace) as tide:
        api.set_provider_and_wait(TideoverProvider(tide, prefix=prefix))
        client = api.get_client()
        assert client.get_provider_status() is ProviderStatus.READY
        yield tide, client
