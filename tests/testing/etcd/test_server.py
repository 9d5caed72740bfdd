"""One real etcd process: its life, its data, and that nothing of it is left."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

import tideover
from tideover.testing.etcd import EtcdExited, EtcdServer

pytestmark = pytest.mark.etcd

# Half of etcd's defaults: a restarted member sits out an election timeout before it leads
FAST = ("--heartbeat-interval=50", "--election-timeout=500")
SOURCE = Path(tideover.__file__).parents[1]


@pytest.fixture
def anyio_backend() -> str:
    """Async tests here run on asyncio."""
    return "asyncio"


@pytest.fixture
def server() -> Iterator[EtcdServer]:
    """A running member."""
    with EtcdServer(args=FAST) as running:
        yield running


def _exists(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return False
    return True


def _root(server: EtcdServer) -> Path:
    assert server.data_dir is not None
    return server.data_dir.parent


def _member_id(server: EtcdServer) -> tuple[int, int]:
    header = json.loads(server.etcdctl("get", "x", "--write-out=json"))["header"]
    return header["cluster_id"], header["revision"]


def test_a_server_answers_inside_its_block_and_is_gone_after_it() -> None:
    """The block ends with no process and no directory; the log stays readable."""
    with EtcdServer() as server:
        pid, root = server.pid, _root(server)
        assert server.running
        assert server.answers()
        assert server.version().startswith("3.")
        assert server.etcdctl("put", "a", input="from standard input") == "OK\n"
        assert server.etcdctl("get", "a", "--print-value-only") == "from standard input\n"

    assert not _exists(pid)
    assert not root.exists()
    assert server.pid is None
    assert not server.answers()
    assert server.endpoint.rpartition(":")[2] in server.log()


def test_nothing_is_left_after_an_exception_in_the_block() -> None:
    """The body's error comes out unchanged and the process is reaped."""
    with pytest.raises(ZeroDivisionError), EtcdServer() as server:
        pid, root = server.pid, _root(server)
        raise ZeroDivisionError

    assert not _exists(pid)
    assert not root.exists()


@pytest.mark.parametrize("kill", [False, True], ids=["stop", "kill"])
def test_a_restart_keeps_data_endpoint_and_identity(server: EtcdServer, *, kill: bool) -> None:
    """Only the process is new, whether it ended in order or crashed."""
    server.etcdctl("put", "a", "1")
    before = server.endpoint, server.peer_url, _member_id(server)
    pid = server.pid

    server.restart(kill=kill)
    server.wait_ready()

    assert (server.endpoint, server.peer_url, _member_id(server)) == before
    assert server.etcdctl("get", "a", "--print-value-only") == "1\n"
    assert server.pid != pid
    assert not _exists(pid)


def test_wiping_brings_back_an_empty_etcd_with_the_same_or_a_new_cluster_id(server: EtcdServer) -> None:
    """Revisions begin anew; only a new token makes the loss visible in the cluster id."""
    server.etcdctl("put", "a", "1")
    cluster_id, _ = _member_id(server)

    server.kill()
    server.wipe()
    server.start()
    server.wait_ready()
    assert _member_id(server) == (cluster_id, 1)

    server.kill()
    server.wipe(token="another")
    server.start()
    server.wait_ready()
    assert _member_id(server)[0] != cluster_id


def test_a_paused_server_accepts_connections_and_answers_nothing(server: EtcdServer) -> None:
    """A pause looks like a hung machine, and ends without loss."""
    pid = server.pid
    server.pause()

    assert server.state == "paused"
    assert server.paused
    assert server.running
    host, _, port = server.endpoint.rpartition(":")
    socket.create_connection((host, int(port)), timeout=1).close()
    assert not server.answers(timeout=0.2)

    server.resume()
    assert server.state == "running"
    assert server.answers(timeout=5)
    assert server.pid == pid


@pytest.mark.parametrize("end", [EtcdServer.stop, EtcdServer.kill, EtcdServer.close], ids=lambda f: f.__name__)
def test_a_paused_server_can_be_ended_in_every_way(server: EtcdServer, end: Callable[[EtcdServer], None]) -> None:
    """Neither stop nor kill hangs on a frozen process."""
    pid = server.pid
    server.pause()

    end(server)

    assert not server.running
    assert not server.paused
    assert not _exists(pid)


def test_stop_ends_the_process_in_order(server: EtcdServer) -> None:
    """etcd gets the chance to say goodbye, unlike with kill."""
    time.sleep(0.3)  # it answers a moment before it listens to signals
    server.stop()

    assert "received signal" in server.log()


def test_stop_kills_a_process_that_does_not_end_in_time(tmp_path: Path) -> None:
    """The timeout of stop is kept, even by a program deaf to SIGTERM."""
    deaf = tmp_path / "etcd"
    deaf.write_text("#!/bin/sh\ntrap '' TERM\necho deaf\nwhile :; do sleep 0.05; done\n")
    deaf.chmod(0o755)
    server = EtcdServer(binary=deaf, fsync=True)
    server.start()
    try:
        while "deaf" not in server.log():
            time.sleep(0.01)
        pid = server.pid
        server.stop(timeout=0.2)
        assert not _exists(pid)
    finally:
        server.close()


def test_ending_a_stopped_server_does_nothing() -> None:
    """stop, kill and close may be repeated, also before any start."""
    server = EtcdServer()
    server.stop()
    server.kill()
    server.close()
    server.close()

    assert not server.running
    assert server.log() == ""


def test_calls_in_the_wrong_order_are_refused(server: EtcdServer) -> None:
    """Each misuse is a RuntimeError that names the server and the reason."""
    with pytest.raises(RuntimeError, match="is running already"):
        server.start()
    with pytest.raises(RuntimeError, match="it is running"):
        server.wipe()
    with pytest.raises(RuntimeError, match="is not paused"):
        server.resume()
    server.pause()
    with pytest.raises(RuntimeError, match="is paused already"):
        server.pause()
    server.kill()
    with pytest.raises(RuntimeError, match="is not running"):
        server.pause()
    with pytest.raises(RuntimeError, match="is not paused"):
        server.resume()
    with pytest.raises(RuntimeError, match="was not started"):
        server.wait_ready()
    with pytest.raises(RuntimeError, match="was started before"):
        server.join([server], token="late")
    server.close()
    with pytest.raises(RuntimeError, match="is closed"):
        server.start()


def test_a_failed_start_shows_the_end_of_the_log() -> None:
    """The reason is in the error, and nothing is left behind."""
    server = EtcdServer(args=["--no-such-flag"])

    with pytest.raises(EtcdExited, match="no-such-flag") as caught, server:
        pass

    assert caught.value.returncode != 0
    assert "no-such-flag" in caught.value.log_tail
    assert server.state == "closed"


def test_a_server_that_crashes_later_is_reported_and_can_be_started_again(server: EtcdServer) -> None:
    """An end that nobody asked for is an error of the next wait, not a hang."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.running:
        time.sleep(0.01)

    with pytest.raises(EtcdExited, match=r"exited with -9"):
        server.wait_ready()

    server.start()
    server.wait_ready()


def test_waiting_too_long_shows_the_end_of_the_log(server: EtcdServer) -> None:
    """A server that never gets ready explains itself."""
    server.pause()

    first, *_, last = server.log().splitlines()
    shown = rf"not ready in 0\.1 s; the log ends:\n{re.escape(first)}\n(.*\n)*{re.escape(last)}"
    with pytest.raises(TimeoutError, match=shown):
        server.wait_ready(timeout=0.1)


def test_a_port_taken_before_the_first_start_is_exchanged() -> None:
    """Losing the race for a port costs a moment, not the test run."""
    server = EtcdServer()
    first = server.endpoint
    with socket.create_server(("127.0.0.1", int(first.rpartition(":")[2]))), server:
        assert server.endpoint != first
        assert server.etcdctl("put", "a", "1") == "OK\n"


def test_a_known_endpoint_is_never_exchanged(server: EtcdServer) -> None:
    """A port taken during a stop is an error, since clients hold the old endpoint."""
    server.stop()
    with socket.create_server(("127.0.0.1", int(server.endpoint.rpartition(":")[2]))):
        server.start()
        with pytest.raises(EtcdExited, match="address already in use"):
            server.wait_ready()


def test_a_directory_of_the_caller_is_kept_and_used_again(tmp_path: Path) -> None:
    """Data in a given directory outlives the server, and another server continues with it."""
    with EtcdServer(data_dir=tmp_path / "data", args=FAST) as first:
        first.etcdctl("put", "a", "1")
    (tmp_path / "data" / "note").write_text("of the caller")

    with EtcdServer(data_dir=tmp_path / "data", args=FAST) as second:
        assert second.etcdctl("get", "a", "--print-value-only") == "1\n"
        second.kill()
        second.wipe()

    assert (tmp_path / "data" / "note").exists()
    assert not (tmp_path / "data" / "member").exists()


def test_the_process_is_out_of_reach_of_the_terminal(server: EtcdServer) -> None:
    """Ctrl-C goes to the session of the tests, and etcd has its own."""
    assert server.pid is not None
    assert os.getsid(server.pid) == server.pid


def test_settings_in_the_environment_do_not_disturb(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that configures some other etcd does not configure this one."""
    monkeypatch.setenv("ETCD_LISTEN_CLIENT_URLS", "http://127.0.0.1:1")
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", "http://127.0.0.1:1")

    with EtcdServer() as server:
        assert server.etcdctl("put", "a", "1") == "OK\n"


def test_a_failing_etcdctl_says_why(server: EtcdServer) -> None:
    """The standard error of etcdctl is in the message."""
    with pytest.raises(RuntimeError, match="no-such-command"):
        server.etcdctl("no-such-command")


@pytest.mark.anyio
async def test_async_use_leaves_nothing_behind() -> None:
    """`async with` runs, waits and cleans up as `with` does."""
    async with EtcdServer(args=FAST) as server:
        pid, root = server.pid, _root(server)
        server.restart(kill=True)
        await server.ready()
        assert server.answers()

    assert not _exists(pid)
    assert not root.exists()


@pytest.mark.anyio
async def test_waiting_async_leaves_the_loop_to_others(server: EtcdServer) -> None:
    """Were the loop blocked, nobody could end the pause that the wait is waiting for."""
    server.pause()

    async with anyio.create_task_group() as group:
        group.start_soon(server.ready)
        await anyio.sleep(0.1)
        server.resume()


@pytest.mark.anyio
async def test_a_cancelled_start_leaves_nothing_behind() -> None:
    """Cancellation while waiting for a member that cannot become ready ends its process."""
    absent = EtcdServer(name="absent")
    server = EtcdServer()
    server.join([server, absent], token="never")
    with anyio.move_on_after(0.3) as scope:
        async with server:
            pytest.fail("one of two members cannot be ready")
    absent.close()

    assert scope.cancelled_caught
    assert server.state == "closed"
    assert not _root(server).exists()


def test_the_plugin_gives_tests_running_etcd(tmp_path: Path) -> None:
    """The fixtures of the pytest plugin run a server and a cluster."""
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
        def test_both(etcd_server, etcd_cluster):
            assert etcd_server.etcdctl("put", "a", "1") == "OK\\n"
            assert len(etcd_cluster.endpoints) == 3
            assert etcd_cluster.leader() in etcd_cluster.members
        """)
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tideover_pytest", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.version
def test_restored_from_a_backup(tmp_path: Path) -> None:
    """A restored server has the keys and the revision of the backup, and another cluster id with another token."""
    with EtcdServer() as server:
        server.wait_ready()
        server.etcdctl("put", "a", "old")
        server.etcdctl("snapshot", "save", str(tmp_path / "backup"))
        server.etcdctl("put", "a", "new")
        with pytest.raises(RuntimeError, match="must have been started, and stopped"):
            server.restore(tmp_path / "backup")
        ids = []
        for token in (None, "another"):
            server.kill()
            server.restore(tmp_path / "backup", token=token)
            server.start()
            server.wait_ready()
            found = json.loads(server.etcdctl("get", "a", "-w", "json"))
            assert base64.b64decode(found["kvs"][0]["value"]) == b"old"
            assert found["header"]["revision"] == 2
            ids.append(found["header"]["cluster_id"])
        assert ids[0] != ids[1]
