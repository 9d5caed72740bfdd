"""Writes reach the leader and nobody else: real servers, a real etcd, and HAProxy as the guide has it.

All is started at once and shared, and two elections fail over at the same time, because each takes a ttl.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.asgi.elected import TTL, WORKERS
from tests.etcd.ways import running_haproxy
from tideover.testing import EtcdServer
from tideover.testing.etcd.ports import ReservedPort

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd, pytest.mark.takes(12)]

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "how-to" / "route-to-the-leader.md"
# Seconds: the margin of the ttl.
MARGIN = 1.0
# For clients without TLS, which would read all CAs of the system, each of them.
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def haproxy_config(frontends: dict[str, ReservedPort], servers: list[ReservedPort]) -> str:
    """Return the guide's configuration, with a section for each election, at these ports."""
    (text,) = re.findall(r"^```haproxy\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    defaults, section = text.split("\n\n")
    for port in servers:
        section = re.sub(r"10\.0\.0\.\d:8000", f"127.0.0.1:{port.number}", section, count=1)
    sections = [
        section.replace("reaper", name).replace("127.0.0.1:8080", f"127.0.0.1:{port.number}")
        for name, port in frontends.items()
    ]
    return "\n\n".join([defaults, *sections])


@contextmanager
def running(etcd: EtcdServer, log: Path, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python; what it complains of is in a file."""
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, *args],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=out,
            env={**os.environ, "ENDPOINT": etcd.endpoint},
        )
        try:
            yield process
        finally:
            process.communicate(timeout=30)


@dataclass
class Fleet:
    """Three processes behind HAProxy, and a server with workers.

    Attributes:
        processes: Their ids.
        ports: Theirs.
        frontends: HAProxy's port for each election.
        shared: The port of the workers.
    """

    processes: list[int]
    ports: list[ReservedPort]
    frontends: dict[str, ReservedPort]
    shared: ReservedPort


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """All servers, started together."""
    folder = tmp_path_factory.mktemp("leaders")
    ports, shared = [ReservedPort() for _ in range(3)], ReservedPort()
    frontends = {"reaper": ReservedPort(), "mailer": ReservedPort()}
    with ExitStack() as stack:
        etcd = stack.enter_context(EtcdServer())
        numbers = [str(port.number) for port in (*ports, shared)]
        served = stack.enter_context(running(etcd, folder / "log", "-m", "tests.asgi.elected", *numbers))
        config = haproxy_config(frontends, ports)
        stack.enter_context(running_haproxy(folder, config, ports=list(frontends.values())))
        assert served.stdout is not None
        yield Fleet([int(pid) for pid in served.stdout.readline().split()], ports, frontends, shared)


def ask(method: str, port: ReservedPort, path: str, timeout: float = 5.0) -> httpx.Response:
    """Make a request over a connection of its own; one that is not answered is a 599."""
    try:
        return httpx.request(method, f"http://127.0.0.1:{port.number}{path}", timeout=timeout, verify=PLAIN)
    except httpx.TransportError as exc:
        return httpx.Response(599, text=repr(exc))


def until(condition: Any, patience: float = 30.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@dataclass
class Writer:
    """Writes for one election through HAProxy, again and again.

    Attributes:
        served: The process and the time, by the boot-time clock, of each write that was served as leader.
        refused: The status of all others.
    """

    port: ReservedPort
    name: str
    served: list[tuple[str, float]] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Write until stopped."""
        while not self.stopped.wait(0.03):
            answer = ask("POST", self.port, f"/write/{self.name}")
            if answer.status_code == 200:
                self.served.append((answer.json()["process"], time.monotonic()))
            else:
                self.refused.append(answer.status_code)


def test_writes_reach_the_leader_alone(fleet: Fleet) -> None:
    """Through the death of one leader and the standstill of another, no request is served but by the leader.

    What reaches a former leader, or waited in its socket while it stood still, is refused with 503.
    """
    a, b, c = fleet.ports
    for port in fleet.ports:
        until(lambda port=port: ask("GET", port, "/_tideover/readyz").status_code == 200)
    names = [ask("GET", port, "/_tideover/livez").text.split()[1] for port in fleet.ports]
    writers = [Writer(port, name) for name, port in fleet.frontends.items()]
    reaper, mailer = writers
    for port, name in [(a, "reaper"), (b, "mailer")]:
        assert ask("POST", port, f"/stand/{name}").status_code == 200
        until(lambda port=port, name=name: ask("GET", port, f"/_tideover/leader/{name}").status_code == 200)
    for port, name in [(b, "reaper"), (c, "reaper"), (a, "mailer"), (c, "mailer")]:
        assert ask("POST", port, f"/stand/{name}").status_code == 200
    threads = [threading.Thread(target=writer.run) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        until(lambda: all(writer.served for writer in writers))
        os.kill(fleet.processes[0], signal.SIGKILL)
        os.kill(fleet.processes[1], signal.SIGSTOP)
        # What the kernel takes for a process that stands still waits for it, whatever a load balancer does.
        queued = socket.create_connection(("127.0.0.1", b.number))
        queued.sendall(b"POST /write/mailer HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\n\r\n")
        until(lambda: all(writer.served[-1][0] == names[2] for writer in writers))
        os.kill(fleet.processes[1], signal.SIGCONT)
        queued.settimeout(10)
        assert queued.recv(4096).startswith(b"HTTP/1.1 503 ")
        queued.close()
        # It knows who leads when it has read the record again.
        until(lambda: str(ask("GET", b, "/_tideover/leader/mailer").json().get("holder")).startswith(names[2]))
        assert ask("GET", b, "/_tideover/leader/mailer").status_code == 503
        assert ask("POST", b, "/write/mailer").status_code == 503
        known = len(mailer.served)
        until(lambda: len(mailer.served) > known + 5)
    finally:
        for writer in writers:
            writer.stopped.set()
        for thread in threads:
            thread.join()
    for writer, former in ((reaper, names[0]), (mailer, names[1])):
        order = [process for process, _ in writer.served]
        # One leader, then the next: no write was served by the former one after the first by its successor.
        assert order == [former] * order.count(former) + [names[2]] * order.count(names[2])
        last = max(at for process, at in writer.served if process == former)
        first = min(at for process, at in writer.served if process == names[2])
        assert first - last > TTL - TTL / 3 - MARGIN
    # Once it leads again is seen by the next check, every write is served: HAProxy's own 503 is all there was.
    assert set(reaper.refused) | set(mailer.refused) <= {502, 503, 504, 599}


def test_workers_that_share_a_port(fleet: Fleet) -> None:
    """Each answer names its worker, and one of four leads: a check is answered for that worker alone."""
    answers: dict[str, set[tuple[int, int]]] = {}

    def leaders() -> set[str]:
        """Return who has answered as leader."""
        return {name for name, seen in answers.items() if (200, 200) in seen}

    def complete() -> bool:
        """Whether all workers have been met, and one of them as leader; by one connection the same one answers."""
        with httpx.Client(base_url=f"http://127.0.0.1:{fleet.shared.number}", timeout=5, verify=PLAIN) as client:
            try:
                checked, written = client.get("/_tideover/leader/shared"), client.post("/write/shared")
            except httpx.TransportError:
                return False
        name = checked.headers["Tideover-Process"]
        assert written.json().get("process", name) == name
        answers.setdefault(name, set()).add((checked.status_code, written.status_code))
        return len(answers) == WORKERS and bool(leaders())

    until(complete)
    assert len(leaders()) == 1
    others = [seen for name, seen in answers.items() if name not in leaders()]
    assert all(status == 503 for seen in others for pair in seen for status in pair)
