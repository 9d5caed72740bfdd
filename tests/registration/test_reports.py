"""What the log says at the end of a registration is what has become of its key."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import anyio
import pytest

from tests.registration.support import URL, heal, lose_all, published
from tests.support import connected
from tideover import HealthState, Registration
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


class Told(logging.Handler):
    """Collects each line about a registration, with how many endpoints etcd has at that moment."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__()
        self.lines: list[tuple[str, str, int]] = []
        self._store = store

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        name, _, text = record.getMessage().partition(": ")
        if name == "tideover.registration.change":
            self.lines.append((record.levelname, text.partition(": ")[2], len(published(self._store))))


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Told]:
    """Return what is told of a store of its own."""
    handler = Told(MemoryStore())
    caplog.set_level(logging.INFO, "tideover")
    logging.getLogger("tideover").addHandler(handler)
    yield handler
    logging.getLogger("tideover").removeHandler(handler)


async def test_deregistered_is_said_when_the_key_is_gone(told: Told) -> None:
    """In the moment of "registered" etcd has the key, and in that of "deregistered" it has not."""
    async with connected(told._store) as tide, tide.register("api", URL):
        await anyio.sleep(1)
    assert told.lines == [("INFO", "registered", 1), ("INFO", "deregistered", 0)]


@pytest.mark.parametrize("by", ["the block", "the coordinator"])
async def test_an_end_while_etcd_is_away_is_a_warning(told: Told, by: str) -> None:
    """A key that could not be taken away is a WARNING with the reason and until when it stays; it goes by then."""
    store = told._store
    async with connected(store) as tide:
        here = tide._parts.registrations.start(Registration("api", URL, ttl=60))
        await here.wait_registered()
        lose_all(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        if by == "the block":
            await here.deregister()
    (level, what, there) = told.lines[-1]
    assert (level, there) == ("WARNING", 1)
    assert what.startswith("given up, but not deregistered (")
    assert "etcd has not answered in time" not in what
    assert "stays in etcd for 61.5 s at the most" in what
    heal(store)
    assert published(store)
    await anyio.sleep(61.5)
    assert not published(store)


async def test_who_was_never_there_is_not_deregistered(told: Told) -> None:
    """Given up before etcd could be asked at all: nothing was there, and the log does not say that it was."""
    lose_all(told._store)
    async with connected(told._store) as tide, tide.register("api", URL):
        pass
    assert told.lines[-1] == ("INFO", "given up while it was not in etcd", 0)
