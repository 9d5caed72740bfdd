"""The bench itself: cuts are silent, one direction at a time, for open connections too; nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netns.namespaces import Namespace, NamespacesImpossible
from tests.netns.network import Host, NetemUnavailable, Network

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[2]

_SERVER = """
import socket
server = socket.create_server(("", 7000))
print("up", flush=True)
connections = []
while True:
    connections.append(server.accept()[0])
    connections[-1].sendall(b"x" * int(connections[-1].recv(16)))
"""
# Connects and asks for so many bytes; prints what happened and the seconds it took.
_DIAL = """
import socket, sys, time
host, size = sys.argv[1], int(sys.argv[2])
began = time.monotonic()
try:
    with socket.create_connection((host, 7000), timeout=1) as connection:
        connection.sendall(str(size).encode())
        while size > 0:
            size -= len(connection.recv(65536))
        what = "served"
except OSError as exc:
    what = type(exc).__name__
print(what, time.monotonic() - began)
"""
# Connects, then asks for a byte whenever a line comes on standard input.
_KEEP = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 7000), timeout=1)
print("up", flush=True)
sys.stdin.readline()
connection.sendall(b"1")
try:
    print(len(connection.recv(16)))
except OSError as exc:
    print(type(exc).__name__)
"""


# Counts datagrams until there has been none for half a second.
_COUNT = """
import socket
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("", 7001))
print("up", flush=True)
count = 0
try:
    while True:
        receiver.recv(16)
        receiver.settimeout(0.5)
        count += 1
except TimeoutError:
    print(count)
"""
_SEND = """
import socket, sys, time
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(int(sys.argv[2])):
    sender.sendto(b"x", (sys.argv[1], 7001))
    if number % 50 == 0:
        time.sleep(0.005)
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[Network]:
    """Three hosts; `b` and `c` serve."""
    with Network(["a", "b", "c"]) as network, serving(network.host("b")), serving(network.host("c")):
        yield network


def arriving(source: Host, target: Host) -> float:
    """Send datagrams from host to host; return the share that arrives."""
    sent = 2000
    with python(target, _COUNT) as counting:
        source.namespace.run(sys.executable, "-c", _SEND, target.address, str(sent))
        return int(counting.communicate(timeout=10)[0]) / sent


@pytest.fixture(autouse=True)
def mended(pair: Network) -> Iterator[None]:
    """Leave no cut to the next test."""
    yield
    pair.heal()


@contextmanager
def python(host: Host, code: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run code on a host and wait for its first line."""
    command = [*host.launcher, sys.executable, "-c", code, *args]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


@contextmanager
def serving(host: Host) -> Iterator[None]:
    """Serve bytes on a host."""
    with python(host, _SERVER):
        yield


def dial(source: Host, target: Host, size: int = 1) -> tuple[str, float]:
    """Return what becomes of a new connection, and the seconds it took."""
    what, took = source.namespace.run(sys.executable, "-c", _DIAL, target.address, str(size)).split()
    return what, float(took)


@pytest.mark.parametrize(("source", "target"), [("a", "b"), ("b", "a")])
def test_a_cut_is_silent_either_way(pair: Network, source: str, target: str) -> None:
    """Requests lost, or answers lost: a connection is neither refused nor made, others work; heal mends it."""
    a, b, c = pair.hosts
    pair.partition(source, target, one_way=True)
    what, took = dial(a, b)
    assert what == "TimeoutError"
    assert took > 0.9
    assert dial(a, c)[0] == "served"
    pair.heal()
    assert dial(a, b)[0] == "served"


def test_one_way_really_is(pair: Network) -> None:
    """Packets of the other direction still arrive."""
    a, b, _ = pair.hosts
    count = 'grep -h "" /sys/class/net/eth0/statistics/tx_packets; grep ^Tcp: /proc/net/snmp | tail -1'
    pair.partition("b", "a", one_way=True)
    before = int(b.namespace.run("sh", "-c", count).split()[11])
    dial(a, b)
    assert int(b.namespace.run("sh", "-c", count).split()[11]) > before  # TCP segments received by b
    pair.heal()
    pair.partition("a", "b", one_way=True)
    before = int(b.namespace.run("sh", "-c", count).split()[11])
    dial(a, b)
    assert int(b.namespace.run("sh", "-c", count).split()[11]) == before


def test_open_connections_are_cut_too(pair: Network) -> None:
    """A connection made before the cut gets no answer, and no error either."""
    a, b, _ = pair.hosts
    with python(a, _KEEP, b.address) as kept:
        pair.partition("a", "b")
        assert kept.communicate("go\n", timeout=5)[0] == "TimeoutError\n"


def test_isolate_and_heal_of_one(pair: Network) -> None:
    """An isolated host reaches nobody; healing one host leaves the cuts of others."""
    a, b, c = pair.hosts
    pair.isolate("a", among=("b",))
    pair.partition("b", "c")
    pair.heal("a")
    assert dial(a, b)[0] == "served"
    assert dial(b, c)[0] == "TimeoutError"
    pair.isolate("a")
    assert dial(a, c)[0] == "TimeoutError"


def test_rate(pair: Network) -> None:
    """A megabyte at eight megabit per second takes about a second, and no time again after heal."""
    a, b, _ = pair.hosts
    pair.netem("a", rate=8_000_000)
    what, took = dial(a, b, 1_000_000)
    assert what == "served"
    assert 0.7 < took < 3
    pair.heal()
    assert dial(a, b, 1_000_000)[1] < 0.5


def test_delay_and_loss(pair: Network) -> None:
    """A delay counts once in each direction of each end; where the kernel has no netem, that is said."""
    a, b, _ = pair.hosts
    try:
        pair.netem("a", delay=0.1, loss=0.0)
    except NetemUnavailable:
        pass
    else:
        assert dial(a, b)[1] > 0.35  # two round trips of twice 0.1 s
        pair.heal()
    assert dial(a, b)[1] < 0.1


@pytest.mark.parametrize(("source", "target"), [("a", "b"), ("b", "a")])
def test_lost_packets(pair: Network, source: str, target: str) -> None:
    """About the share asked for is lost, in either direction, and none after heal."""
    pair.lose("a", 0.2)
    assert 0.7 < arriving(pair.host(source), pair.host(target)) < 0.9
    pair.heal()
    assert arriving(pair.host(source), pair.host(target)) == 1


def test_bad_arguments(pair: Network) -> None:
    """Wrong names and empty wishes are refused."""
    with pytest.raises(ValueError):
        Network(["a", "a"])
    with pytest.raises(ValueError):
        pair.partition("a", "a")
    with pytest.raises(ValueError):
        pair.netem("a")
    with pytest.raises(KeyError):
        pair.partition("a", "nobody")


def test_nothing_of_the_machine_is_touched(pair: Network) -> None:
    """Our own network namespace has no interface, address or rule of the bench."""
    for command in (["ip", "address"], ["ip", "rule"], ["ip", "route"], ["ip", "netns"]):
        assert "10.77." not in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_half_built_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it is built leaves no holder, hence no namespace."""
    made: list[Namespace] = []
    build = Network._namespace

    def interrupted(self: Network, owner: Namespace | None) -> Namespace:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(build(self, owner))
        return made[-1]

    monkeypatch.setattr(Network, "_namespace", interrupted)
    with pytest.raises(KeyboardInterrupt), Network(["a", "b", "c"]):
        pass
    assert len(made) == 3
    assert not any(Path(f"/proc/{namespace.pid}").exists() for namespace in made)


def test_kill_9_leaves_nothing() -> None:
    """A process that is killed with a network up leaves no holder either."""
    code = (
        "import time\nfrom tests.netns.network import Network\n"
        "with Network(['a', 'b']) as network:\n"
        "    print(*[host.namespace.pid for host in network.hosts], flush=True); time.sleep(60)"
    )
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        holders = process.stdout.readline().split()
        assert len(holders) == 2
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while any(_alive(pid) for pid in holders):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _alive(pid: str) -> bool:
    """Whether a process exists and is more than an entry that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_impossible_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where namespaces cannot be made, the error says what is needed; nothing is skipped."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NamespacesImpossible, match="iproute2"):
        Namespace()
