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
import pytest

from tests.history.events import Event
from tests.history.leaders import check_leaders
from tests.history.recorder import read_history
from tests.netns.cluster import ROOT
from tideover import connect
from tideover.testing import EtcdServer
from tideover.testing.etcd.binary import child_environment

pytestmark = [pytest.mark.etcd, pytest.mark.anyio, pytest.mark.takes(40)]

SCRIPT = Path(__file__).with_name("leading.py")


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


def test_handover_by_a_server_that_is_told_to_end(tmp_path: Path) -> None:
    """uvicorn with two workers gets SIGTERM: within 200 ms of the leader's last moment another process leads."""
    with EtcdServer() as server:
        arguments = [str(tmp_path), "server", "step_down", server.endpoint]
        with running("leader_server.py", *arguments) as uvicorn:
            (first,) = await_events(tmp_path, "enter", 1)
            await_events(tmp_path, "ready", 2)
            arguments[1] = "other"
            with running("leader_client.py", *arguments) as other:
                await_events(tmp_path, "ready", 3)
                told = time.clock_gettime(time.CLOCK_MONOTONIC)
                uvicorn.terminate()
                *_, last = await_events(tmp_path, "enter", 2, by="other")
                left = next(e for e in await_events(tmp_path, "exit", 1) if e.pid == first.pid)
                print(f"told to end, left after {left.at - told:.3f} s, replaced after {last.at - told:.3f} s")
                # The other worker may have been elected first, and have left as well.
                *_, latest = [e for e in await_events(tmp_path, "exit", 1) if e.at < last.at]
                assert last.at - latest.at < 0.2
                assert last.at - told < 2
                assert uvicorn.wait(10) == 0
                other.terminate()
                assert other.wait(10) == 0
        assert check_leaders(read_history(tmp_path)).violations == []


@contextmanager
def running(script: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of the bench's processes on this machine's network until the block ends."""
    path = ROOT / "tests" / "netns" / script
    process = subprocess.Popen(
        [sys.executable, str(path), *arguments], env=child_environment(PYTHONPATH=f"{ROOT}:{ROOT / 'src'}")
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def await_events(folder: Path, kind: str, count: int, *, by: str = "") -> list[Event]:
    """Wait until so many events of a kind are recorded, one of them by a process; return them."""
    deadline = time.monotonic() + 20
    while True:
        found = [event for event in read_history(folder) if event.kind == kind]
        if len(found) >= count and (not by or found[-1].process == by):
            return found
        assert time.monotonic() < deadline, f"not {count} of {kind}"
        time.sleep(0.02)
