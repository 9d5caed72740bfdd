"""What a service logs through the loss of a quorum and its return: few lines, and what they say is so in etcd.

At each line that says that something is done, etcd is read as `etcdctl` reads it, at that very moment.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from tests.telemetry.test_reference import table
from tideover import Coordinator, HealthState, LeadershipLost, LockLost, LockUnavailable, Source, connect
from tideover.testing import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.any_etcd, pytest.mark.takes(20)]

MOST_LINES = 30
DONE = re.compile(r"\b(resigned|deregistered|written|live)\b")
KEYS = {"resigned": "/elections/reaper", "deregistered": "/services/billing/"}


class Witness(logging.Handler):
    """Hears every line, and asks etcd about those that say that something is done.

    Args:
        cluster: The cluster.

    Attributes:
        lines: What was logged, with its level.
        asked: The lines that say that something is done.
        untrue: Those of them that were not so.
    """

    def __init__(self, cluster: EtcdCluster) -> None:
        super().__init__(logging.INFO)
        self.lines: list[tuple[str, str]] = []
        self.asked: list[str] = []
        self.untrue: list[str] = []
        self._cluster = cluster

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self.lines.append((record.levelname, text))
        said = text.replace("not deregistered", "")
        for word in {match[1] for match in DONE.finditer(said)}:
            self.asked.append(text)
            if not self._is_so(word):
                self.untrue.append(text)

    def _is_so(self, word: str) -> bool:
        found = read(self._cluster, KEYS.get(word, "/config/"))
        if word == "resigned":
            return found is not None and '"vacant":true' in found.replace(" ", "")
        if word == "deregistered":
            return found == ""
        return found is not None

    @contextmanager
    def listening(self) -> Iterator[Witness]:
        """Hear the lines of the block."""
        logger = logging.getLogger("tideover")
        before = logger.level
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        try:
            yield self
        finally:
            logger.removeHandler(self)
            logger.setLevel(before)


def read(cluster: EtcdCluster, prefix: str) -> str | None:
    """Return what a quorum has under a prefix; None if there is none that answers."""
    try:
        return cluster.etcdctl("get", "--prefix", prefix, timeout=1.0)
    except Exception:  # however it says that nobody answers
        return None


async def keep_a_lock(tide: Coordinator) -> None:
    """Hold a lock whenever that is possible."""
    while True:
        try:
            async with tide.lock("orders/42", ttl=5):
                await anyio.sleep_forever()
        except (LockLost, LockUnavailable):
            await anyio.sleep(0.5)


async def keep_leading(tide: Coordinator) -> None:
    """Lead whenever that is possible."""
    while True:
        try:
            async with tide.leader("reaper", ttl=5):
                await anyio.sleep_forever()
        except LeadershipLost:
            continue


async def watch_the_status(tide: Coordinator, cluster: EtcdCluster, wrong: list[str]) -> None:
    """Look whether what is called live is what a quorum has."""
    while True:
        await anyio.sleep(0.5)
        if tide.config.read("rate").source is Source.LIVE and "is live" in tide.status().sentence:
            shown = tide.config.get("rate")
            found = await anyio.to_thread.run_sync(read, cluster, "/config/rate")
            # What was written in between is live in a moment.
            if found and shown not in found and tide.config.get("rate") not in found:
                wrong.append(f"{shown} is live, and etcd has {found}")


async def through_an_outage(tide: Coordinator, cluster: EtcdCluster, down: tuple[EtcdServer, ...]) -> None:
    """Kill members, wait until all that goes with it has been told, and start them again."""
    for member in down:
        member.kill()
    with anyio.fail_after(30):
        while tide.health.state is HealthState.AVAILABLE:
            await anyio.sleep(0.1)
    await anyio.sleep(4)
    for member in down:
        await anyio.to_thread.run_sync(member.start)
    await tide.health.wait_for(HealthState.AVAILABLE, timeout=40)
    with anyio.fail_after(30):
        while {each.source for each in tide.status().config} != {Source.LIVE}:
            await anyio.sleep(0.1)
        while {each.source for each in tide.status().services} != {Source.LIVE}:
            await anyio.sleep(0.1)


async def test_what_is_said_through_an_outage_is_so() -> None:
    """Each line has an event of the reference and none is an ERROR; there are at most 30, and none says that
    something is done which is not: also where the service ends while etcd is away."""
    wrong: list[str] = []
    with EtcdCluster() as cluster, Witness(cluster).listening() as witness:
        cluster.etcdctl("put", "/config/rate", "5")
        down = cluster.members[:2]
        async with connect(*cluster.endpoints, cache_dir=False, discover=["billing"]) as tide:
            async with (
                tide.register("billing", "http://10.0.0.7:8000", ttl=5),
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(keep_a_lock, tide)
                tasks.start_soon(keep_leading, tide)
                tasks.start_soon(watch_the_status, tide, cluster, wrong)
                with anyio.fail_after(20):
                    while not tide.status().elections or tide.status().elections[0].standing is None:
                        await anyio.sleep(0.1)
                await through_an_outage(tide, cluster, down)
                cluster.etcdctl("put", "/config/rate", "6")
                await anyio.sleep(1)
                tasks.cancel_scope.cancel()
        async with connect(*cluster.endpoints, cache_dir=False) as tide:
            async with tide.register("billing", "http://10.0.0.8:8000", ttl=5):
                for member in down:
                    member.kill()
                await tide.health.wait_for(HealthState.DEGRADED, timeout=30)
    assert witness.untrue == []
    assert wrong == []
    known = table("Events")
    for level, text in witness.lines:
        name = text.partition(": ")[0]
        assert name in known, text
        assert level in known[name].cells[0], text
        assert level != "ERROR", text
    assert len(witness.lines) <= MOST_LINES
    said = {word for text in witness.asked for word in DONE.findall(text)}
    assert {"resigned", "deregistered"} <= said
