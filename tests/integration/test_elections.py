"""Elections on real clusters, with real processes and real time."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tideover import Standing, connect
from tideover.testing import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.anyio, pytest.mark.takes(40)]

SCRIPT = Path(__file__).with_name("leading.py")


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, as the etcd adapter does."""
    return "asyncio"


class Leading:
    """A process that runs `leading.py`."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments], stdout=subprocess.PIPE, text=True
        )
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))

    def next(self, what: str, within: float) -> dict[str, Any]:
        """Return the next line, which must be of that kind."""
        found = self._lines.get(timeout=within)
        assert found["what"] == what, found
        return found

    @property
    def silent(self) -> bool:
        """Whether it has said nothing more."""
        return self._lines.empty()


@contextmanager
def leading(*arguments: str) -> Iterator[Leading]:
    """Run a process until the block ends."""
    process = Leading(*arguments)
    try:
        process.next("ready", 20)
        yield process
    finally:
        process.process.kill()
        process.process.wait()
        assert process.process.stdout is not None
        process.process.stdout.close()


async def test_handover_and_takeover_by_processes() -> None:
    """A leader that was stopped knows it on waking; its successor had waited; a killed one is replaced in time."""
    with EtcdServer() as server:
        with leading("reaper", "6", "step_down", server.endpoint) as one:
            first = one.next("leads", 5)
            with leading("reaper", "6", "step_down", server.endpoint) as other:
                time.sleep(1)
                one.process.send_signal(signal.SIGSTOP)
                stopped = time.monotonic()
                second = other.next("leads", 12)
                # ttl and margin are 7 s, counted from the last renewal, which was up to 2 s ago.
                assert 4.9 < second["at"] - stopped < 7.5
                assert second["token"] > first["token"]
                one.process.send_signal(signal.SIGCONT)
                resumed = one.next("resumed", 5)
                assert resumed["leads"] is False
                assert one.next("lost", 5)["at"] - resumed["at"] < 0.5
                assert other.silent
                other.process.kill()
                killed = time.monotonic()
                third = one.next("leads", 12)
                assert 4.9 < third["at"] - killed < 7 + 2
                assert third["token"] > second["token"]


async def test_handover_within_milliseconds() -> None:
    """On real etcd a resignation is followed by the next leader within 200 ms, ten times in a row."""
    with EtcdServer() as server:
        async with (
            connect(server.endpoint, cache_dir=False) as one,
            connect(server.endpoint, cache_dir=False) as two,
        ):
            took: list[float] = []
            tokens: list[int] = []
            leader, waiting = one, two
            term = leader.election("reaper")
            tokens.append((await term.campaign()).token)
            for _ in range(10):
                async with anyio.create_task_group() as tasks:
                    following = waiting.election("reaper")
                    tasks.start_soon(following.campaign)
                    await anyio.sleep(0.2)
                    resigned = time.monotonic()
                    await term.resign()
                took.append(time.monotonic() - resigned)
                term, leader, waiting = following, waiting, leader
                tokens.append((await term.campaign()).token)
            assert max(took) < 0.2
            assert tokens == sorted(set(tokens))


async def test_quorum_loss_longer_than_the_ttl() -> None:
    """Ten seconds without a quorum and a ttl of 6 s: who stays goes on, who steps down returns, same tokens."""
    with EtcdCluster(3) as cluster:
        async with connect(*cluster.endpoints, cache_dir=False) as one:
            stay, down = one.election("stay"), one.election("down")
            staying = await stay.campaign(ttl=6, on_outage="stay")
            stepping = await down.campaign(ttl=6, on_outage="step_down")
            async with connect(*cluster.endpoints, cache_dir=False) as two, anyio.create_task_group() as tasks:
                rivals = [two.election("stay"), two.election("down")]
                tasks.start_soon(lambda: rivals[0].campaign(ttl=6, on_outage="stay"))
                tasks.start_soon(lambda: rivals[1].campaign(ttl=6, on_outage="step_down"))
                await anyio.sleep(1)
                await anyio.to_thread.run_sync(cluster.lose_quorum)
                await anyio.sleep(10)
                assert str(staying.standing) == "unconfirmed"
                assert not stepping.leads
                assert two.observe_leaders() == {}
                await anyio.to_thread.run_sync(cluster.restore_quorum)
                with anyio.fail_after(6):
                    again = await down.campaign(ttl=6, on_outage="step_down")
                    while staying.standing is not Standing.HELD:
                        await anyio.sleep(0.05)
                assert again.token == stepping.token
                await anyio.sleep(8)
                again.check()
                staying.check()
                assert two.observe_leaders() == {}
                tasks.cancel_scope.cancel()
