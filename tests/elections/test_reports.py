"""What the log says of a leadership is what has become of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from tests.support import connected
from tideover import HealthState, LeadershipLost, while_leader
from tideover.store.operations import Put, Range
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio

KEY = b"/elections/reaper"


def set_down(store: MemoryStore, *, down: bool) -> None:
    """Take all members away, or bring them back."""
    store.down = set(store.members) if down else set()
    store.touch()


@contextmanager
def told(caplog: pytest.LogCaptureFixture) -> Iterator[list[tuple[str, str]]]:
    """Collect the level and the words of each line about a leadership, without election and token."""
    lines: list[tuple[str, str]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            name, _, text = record.getMessage().partition(": ")
            if name == "tideover.leadership.change":
                lines.append((record.levelname, text.partition(": ")[2]))

    handler = Handler()
    caplog.set_level(logging.INFO, "tideover")
    logging.getLogger("tideover").addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger("tideover").removeHandler(handler)


async def vacant(store: MemoryStore) -> bool:
    """Return what etcd says of the office."""
    found = (await store.call(Range(KEY), member=store.members[0], timeout=1)).entries[KEY]
    return bool(json.loads(found.value)["vacant"])


async def test_a_loss_at_the_deadline_is_a_warning_and_the_same_term_is_led_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A deadline that passes is a WARNING with the reason, not "resigned"; a term that goes on is "led again"."""
    store = MemoryStore()
    with told(caplog) as lines:
        async with connected(store) as tide, anyio.create_task_group() as tasks:

            @while_leader("reaper")
            async def reap() -> None:
                await anyio.sleep_forever()

            tasks.start_soon(reap)
            await anyio.sleep(5)
            set_down(store, down=True)
            await anyio.sleep(16)
            assert [level for level, _ in lines] == ["INFO", "WARNING"]
            assert "could not be renewed in time (" in lines[1][1]
            set_down(store, down=False)
            await tide.health.wait_for(HealthState.AVAILABLE)
            await anyio.sleep(3)
            assert not await vacant(store)
            assert lines[2:] == [("INFO", "led again")]
            tasks.cancel_scope.cancel()
        assert await vacant(store)
    assert lines[3:] == [("INFO", "resigned")]


async def test_a_body_that_is_ending_is_not_led_again(caplog: pytest.LogCaptureFixture) -> None:
    """A loss is told once: what etcd says while the body cleans up is for the next candidacy."""
    store = MemoryStore()
    with told(caplog) as lines:
        async with connected(store) as tide:
            with pytest.raises(LeadershipLost):
                async with tide.leader("reaper"):
                    try:
                        await anyio.sleep(5)
                        set_down(store, down=True)
                        await anyio.sleep_forever()
                    finally:
                        with anyio.CancelScope(shield=True):
                            for down in (False, True, False):
                                set_down(store, down=down)
                                await anyio.sleep(30)
                                assert tide.status().elections[0].standing is None
                                assert [level for level, _ in lines] == ["INFO", "WARNING"]
            async with tide.leader("reaper"):
                await anyio.sleep(1)
                assert tide.status().elections[0].standing is not None
    assert lines[2:] == [("INFO", "led again"), ("INFO", "resigned")]


async def test_a_term_taken_by_another_in_between_is_not_led_again(caplog: pytest.LogCaptureFixture) -> None:
    """Who leads with another token is "elected", whether this process has led before or not."""
    store = MemoryStore()
    async with connected(store) as tide, connected(store) as other:
        with told(caplog) as lines:
            for candidate in (tide, other, tide):
                async with candidate.leader("reaper"):
                    pass
    assert [what for _, what in lines] == ["elected", "resigned"] * 3


async def test_a_body_that_raises_is_a_warning_with_its_class(caplog: pytest.LogCaptureFixture) -> None:
    """What the body raises is named by its class alone, also if it does so at once; its text is the caller's."""
    store = MemoryStore()
    with told(caplog) as lines:
        async with connected(store) as tide:
            with pytest.raises(ValueError, match="secret"):
                async with tide.leader("reaper"):
                    raise ValueError("secret")
            assert await vacant(store)
    assert lines == [("INFO", "elected"), ("WARNING", "resigned because its body raised ValueError")]


async def test_a_cancellation_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """A body that is cancelled, or exits the process, has given its office up: INFO."""
    with told(caplog) as lines:
        async with connected(MemoryStore()) as tide:
            with anyio.move_on_after(1):
                async with tide.leader("reaper"):
                    await anyio.sleep_forever()
            with pytest.raises(SystemExit):
                async with tide.leader("reaper"):
                    raise SystemExit(0)
    assert lines == [("INFO", "elected"), ("INFO", "resigned")] * 2


@pytest.mark.parametrize("by", ["the body", "the handle", "the coordinator"])
async def test_resigned_is_said_only_where_etcd_knows(by: str, caplog: pytest.LogCaptureFixture) -> None:
    """Who leaves office while etcd is away has not resigned: WARNING, why, and when the next can be elected."""
    store = MemoryStore()
    with told(caplog) as lines:
        async with connected(store) as tide:
            if by == "the body":
                async with tide.leader("reaper"):
                    await anyio.sleep(1)
                    set_down(store, down=True)
            else:
                handle = tide.election("reaper")
                await handle.campaign()
                await anyio.sleep(1)
                set_down(store, down=True)
                if by == "the handle":
                    await handle.resign()
    set_down(store, down=False)
    assert not await vacant(store)
    (_, elected), (level, left) = lines
    assert elected == "elected"
    assert level == "WARNING"
    assert "resigned" not in left
    assert "etcd could not be told (" in left
    assert "has been there for 16.5 s" in left
    assert ("the coordinator is closed" in left) is (by == "the coordinator")


async def test_closing_resigns_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    """A coordinator that closes under a body resigns once, saying why; the body gets `LeadershipLost`."""
    store = MemoryStore()
    with told(caplog) as lines, pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as tasks:

            async def lead() -> None:
                async with tide.leader("reaper"):
                    await anyio.sleep_forever()

            async with connected(store) as tide:
                tasks.start_soon(lead)
                await anyio.sleep(1)
            assert await vacant(store)
    assert caught.group_contains(LeadershipLost)
    assert lines == [("INFO", "elected"), ("INFO", "resigned: the coordinator is closed")]


async def test_a_definite_no_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A record that another has overwritten with what is none ends the candidacy, and the loss is told."""
    store = MemoryStore()
    with told(caplog) as lines:
        async with connected(store) as tide:
            with pytest.raises(LeadershipLost):
                async with tide.leader("reaper"):
                    await store.call(Put(KEY, b"nonsense"), member=store.members[0], timeout=1)
                    await anyio.sleep(60)
    assert lines == [
        ("INFO", "elected"),
        ("WARNING", "leads no more: somebody who writes no records has taken over"),
    ]
