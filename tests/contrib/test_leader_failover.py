"""Requests for the leader through real failovers: a real etcd, real processes, both libraries at once."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.asgi.test_route_to_the_leader import running
from tests.contrib.led_service import ELECTION
from tests.contrib.libraries import LIBRARIES
from tideover import Coordinator, connect
from tideover.testing import EtcdServer
from tideover.testing.etcd.ports import ReservedPort

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.any_etcd, pytest.mark.takes(20)]

PROCESSES = 3
# Seconds: longer than any failover takes, so that a request that waits for the next leader is answered by it.
PATIENCE = 30.0


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, where most users of httpx are."""
    return "asyncio"


@dataclass
class Writer:
    """Writes to the leader, again and again, by a client of one library.

    Attributes:
        library: Which one.
        served: Who has served each write, and whether it led.
        failed: What else has become of writes.
    """

    library: str
    served: list[tuple[int, bool]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    async def run(self, tide: Coordinator) -> None:
        """Write until cancelled."""
        client, ours = (
            importlib.import_module(self.library),
            importlib.import_module(f"tideover.contrib.{self.library}"),
        )
        transport = ours.DiscoveryTransport(tide)
        async with client.AsyncClient(transport=transport, timeout=PATIENCE) as calling:
            while True:
                await self._write(client, calling)
                await anyio.sleep(0.01)

    async def _write(self, client: Any, calling: Any) -> None:
        try:
            answer = await calling.post("http://jobs%2Freaper.leader/write", content=b"once")
        except client.TransportError as exc:
            self.failed.append(type(exc).__name__)
            return
        if answer.status_code == 200:
            self.served.append((answer.json()["pid"], answer.json()["leads"]))
        else:
            self.failed.append(str(answer.status_code))

    def leader(self) -> int:
        """Return who has served the last write; 0 if nobody has."""
        return self.served[-1][0] if self.served else 0


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[str, list[int]]]:
    """Run an etcd and the service; give the endpoint and the processes' ids."""
    ports = [str(ReservedPort().number) for _ in range(PROCESSES)]
    with (
        EtcdServer() as etcd,
        running(etcd, tmp_path / "log", "-m", "tests.contrib.led_service", *ports) as served,
    ):
        assert served.stdout is not None
        yield etcd.endpoint, [int(pid) for pid in served.stdout.readline().split()]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    with anyio.fail_after(PATIENCE):
        while not condition():
            await anyio.sleep(0.02)


async def test_writes_reach_only_who_leads(service: tuple[str, list[int]]) -> None:
    """One leader ends, the next one stands still, the third one is killed: whoever serves a write leads.

    No write is lost but one that was under way to a process that ended: it may have been done, and its caller is
    told. What waited in the socket of the process that stood still is refused there, and served
    by the next leader.
    """
    endpoint, processes = service
    writers = [Writer(library) for library in LIBRARIES]

    def led_by_another(former: int) -> bool:
        return all(writer.leader() not in (0, former) for writer in writers)

    async with connect(endpoint, cache_dir=False) as tide:
        async with anyio.create_task_group() as tasks:
            for writer in writers:
                tasks.start_soon(writer.run, tide)
            await until(lambda: led_by_another(0))
            first = writers[0].leader()
            os.kill(first, signal.SIGTERM)
            await until(lambda: led_by_another(first))
            before = [len(writer.failed) for writer in writers]
            second = writers[0].leader()
            os.kill(second, signal.SIGSTOP)
            await until(lambda: another_leads(tide, second))
            os.kill(second, signal.SIGCONT)
            await until(lambda: led_by_another(second))
            assert [len(writer.failed) for writer in writers] == before, writers
            third = writers[0].leader()
            os.kill(third, signal.SIGKILL)
            await until(lambda: led_by_another(third))
            tasks.cancel_scope.cancel()
    for writer in writers:
        assert all(leads for _, leads in writer.served)
        assert set(writer.failed) <= {"ReadError", "RemoteProtocolError", "WriteError"}, writer.failed
        assert len(writer.failed) <= 2, "one request was under way to each process that ended"
        order = list(dict.fromkeys(pid for pid, _ in writer.served))
        assert order == [first, second, third, second][: len(order)]
        assert set(order) <= set(processes)


def another_leads(tide: Coordinator, former: int) -> bool:
    """Whether somebody else than a process is known to lead."""
    try:
        return not tide.follow_leader(ELECTION).pick().name.split(" ")[0].endswith(f":{former}")
    except LookupError:
        return False
