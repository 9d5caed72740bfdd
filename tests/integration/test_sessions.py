"""Sessions on a real etcd: what they promise, what they cost, and what they leave behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
import pytest

import tideover
from tideover import HealthState, KeyTaken, SessionLost, SessionState
from tideover.coordinator.coordinator import Coordinator
from tideover.etcd.keepalive import KeepAliveStream
from tideover.etcd.watch_stream import StreamWatch, WatchStream
from tideover.store.leases import LeaseRevoke
from tideover.testing import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.takes(25)]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """One etcd for the tests that need no cluster."""
    with EtcdServer() as server:
        yield server


def leases(server: EtcdServer | EtcdCluster) -> list[str]:
    """Return the leases there are, as etcdctl shows them."""
    if isinstance(server, EtcdCluster):
        server.wait_applied()  # one member lists what it knows, whichever etcdctl asks
    return [line for line in server.etcdctl("lease", "list").splitlines()[1:] if line]


async def revoke(tide: Coordinator, lease: int) -> None:
    """Take a lease away, as etcd might."""
    assert tide._parts.store is not None
    await tide._parts.store.call(LeaseRevoke(lease), member=tide._parts.client.state.active, timeout=2)


async def test_a_session_and_its_keys(server: EtcdServer, caplog: pytest.LogCaptureFixture) -> None:
    """Keys stand under the lease and its session's own key; leaving takes both away, and logs nothing."""
    async with tideover.connect(server.endpoint, namespace="/s", cache_dir=False, start_timeout=5) as tide:
        async with tide.session(ttl=6) as session:
            own = await session.put("workers/7", "here")
            lease = f"{session.lease_id:x}"
            shown = server.etcdctl("lease", "timetolive", lease, "--keys")
            assert "/s/workers/7" in shown
            assert f"/s/tideover/sessions/{lease}" in shown
            assert f'"create_revision":{own.create_revision},' in server.etcdctl("get", "/s/workers/7", "-w=json")
            async with tide.session(ttl=6) as other:
                with pytest.raises(KeyTaken):
                    await other.put("workers/7", "elsewhere")
            await anyio.sleep(2.5)
            session.check()
            assert session.state is SessionState.ALIVE
            (status,) = tide.status().sessions
            assert status.seconds_left > 2
        assert server.etcdctl("get", "/s/", "--prefix", "--keys-only").split() == ["/s/tideover/epoch"]
        assert leases(server) == []
        assert own.gone.reason == "closed by its owner"
        assert caplog.messages == []
        assert tide.status().restarts == 0


async def test_a_lease_taken_away_is_noticed_within_a_moment(server: EtcdServer) -> None:
    """Revoked by somebody, the body is cancelled within 0.1 s of it, seconds before the deadline."""
    async with tideover.connect(server.endpoint, cache_dir=False, start_timeout=5) as tide:
        with pytest.raises(SessionLost, match="etcd has ended the lease"):
            async with tide.session(ttl=6) as session:
                await anyio.sleep(0.3)
                taken_at = time.monotonic()
                await revoke(tide, session.lease_id)
                await anyio.sleep_forever()
        assert time.monotonic() - taken_at < 0.5
        with pytest.raises(SessionLost, match="etcd has ended the lease"):
            async with tide.session(ttl=6) as session:
                await revoke(tide, session.lease_id)
                with anyio.CancelScope(shield=True):
                    await session.lost


async def test_any_thread_may_check(server: EtcdServer) -> None:
    """`check` in a worker thread passes while the session lives, and raises once it is lost."""
    async with tideover.connect(server.endpoint, cache_dir=False, start_timeout=5) as tide:
        session = await tide._parts.sessions.open(6, strict=True)
        await anyio.to_thread.run_sync(session.check)
        session.orphan()
        with pytest.raises(SessionLost):
            await anyio.to_thread.run_sync(session.check)
        await revoke(tide, session.lease_id)


async def test_a_thousand_sessions_leave_nothing(server: EtcdServer) -> None:
    """Opened, lost and closed a thousand times: no lease, stream, task or descriptor more than before."""
    process = psutil.Process()
    async with tideover.connect(server.endpoint, cache_dir=False, start_timeout=5) as tide:

        async def one(number: int) -> None:
            try:
                async with tide.session(ttl=15) as session:
                    await session.put(f"k/{number}")
                    if number % 2:
                        await revoke(tide, session.lease_id)
                        await session.lost
            except SessionLost:
                assert number % 2

        async def many(numbers: range) -> None:
            for start in numbers[::25]:
                async with anyio.create_task_group() as tasks:
                    for number in range(start, start + 25):
                        tasks.start_soon(one, number)

        def counts() -> tuple[int, int, int]:
            gc.collect()
            tasks = (
                tide._parts.client.home._tasks.__dict__.get("_tasks", ()) if tide._parts.client.home._tasks else ()
            )
            return len(anyio.get_running_tasks()), process.num_fds(), len(tasks)

        async def quiet() -> None:
            # The stream that watches the keys of all sessions stays for the next ones, up to 2 s.
            watches = tide._parts.sessions._watches
            assert watches is not None
            with anyio.fail_after(3):
                while watches._group is not None:
                    await anyio.sleep(0.05)
            await anyio.sleep(0.3)

        await many(range(50))
        await quiet()
        before = counts()
        await many(range(50, 1050))
        await quiet()
        after = counts()
        assert after[0] <= before[0] + 1
        assert after[1] <= before[1]
        assert after[2] <= before[2]
        assert len(tide._parts.sessions._sessions) == 0
        assert tide.status().restarts == 0
        # The gauge is per stream: what is left belongs to the followed prefix alone.
        streams = StreamWatch, WatchStream, KeepAliveStream
        open_ones = Counter(
            type(one).__name__ for one in gc.get_objects() if type(one) in streams and "ended" not in repr(one)
        )
        assert open_ones["StreamWatch"] <= 1
        assert open_ones["WatchStream"] <= 1
        assert open_ones["KeepAliveStream"] == 0
    assert leases(server) == []
    assert server.etcdctl("get", "/k/", "--prefix") == ""


STALLED = """
import os, signal, sys, anyio, tideover

async def main():
    async with tideover.connect(sys.argv[1], cache_dir=False) as tide:
        try:
            async with tide.session(ttl=5) as session:
                await anyio.sleep(0.3)
                print("stopping", flush=True)
                os.kill(os.getpid(), signal.SIGSTOP)
                try:
                    session.check()
                except tideover.SessionLost as exc:
                    print("check:", exc, flush=True)
                await anyio.sleep(0.05)
                print("went on", flush=True)
        except tideover.SessionLost as exc:
            print("lost:", exc, flush=True)

anyio.run(main)
"""


def test_a_process_that_was_stopped_believes_nothing(server: EtcdServer) -> None:
    """SIGSTOP beyond the deadline: the first `check` raises, and the body is cancelled at its next await."""
    command = [sys.executable, "-c", STALLED, server.endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "stopping\n"
        time.sleep(4.3)
        child.send_signal(signal.SIGCONT)
        said = child.stdout.read()
    assert said.startswith("check: session "), said
    assert "stood still" in said
    assert "went on" not in said
    assert "lost: session " in said


async def test_a_forked_child_may_not_touch_it(server: EtcdServer) -> None:
    """After a fork all of the session raises in the child, with an error that says so; the parent goes on."""
    async with tideover.connect(server.endpoint, cache_dir=False, start_timeout=5) as tide:
        async with tide.session(ttl=6) as session:
            reading, writing = os.pipe()
            pid = os.fork()
            if pid == 0:  # pragma: no cover - in the child
                said = []
                for use in (
                    lambda: session.state,
                    lambda: session.deadline,
                    lambda: session.lost,
                    lambda: session.keys,
                    lambda: session.lease_id,
                    session.check,
                    session.orphan,
                    lambda: session.put("a").send(None),
                    lambda: session.delete("a").send(None),
                    lambda: tide.session(ttl=6).__aenter__().send(None),
                ):
                    try:
                        use()
                        said.append("passed")
                    except tideover.Closed as exc:
                        said.append("forked" if "was forked from" in str(exc) else str(exc))
                    except BaseException as exc:
                        said.append(repr(exc))
                os.write(writing, ",".join(said).encode())
                os._exit(0)
            _, status = await anyio.to_thread.run_sync(lambda: os.waitpid(pid, 0))
            assert status == 0, f"the child ended with wait status {status:#x}"
            os.close(writing)
            said = os.read(reading, 10_000).decode().split(",")
            os.close(reading)
            assert said == ["forked"] * 10
            session.check()
            await session.put("a")
    assert leases(server) == []


@pytest.mark.faults
async def test_the_same_lease_after_a_quorum_lost(pytestconfig: pytest.Config) -> None:
    """Quorum lost for 3 x TTL (short form: 1.2): the same lease and keys, ALIVE; and a loss is seen again."""
    ttls = 3 if pytestconfig.getoption("faults_count") >= 200 else 1.2
    with EtcdCluster(3) as cluster:
        async with tideover.connect(*cluster.endpoints, cache_dir=False, start_timeout=5) as tide:
            async with tide.session(ttl=5, on_outage="wait") as session:
                key = await session.put("a", "1")
                cluster.lose_quorum()
                await anyio.sleep(ttls * session.ttl)
                assert session.state is SessionState.SUSPENDED
                with pytest.raises(SessionLost):
                    session.check()
                cluster.restore_quorum()
                with anyio.fail_after(10):
                    while session.loss() is not None:
                        await anyio.sleep(0.05)
                assert not session.lost
                assert not key.gone
                await cluster.applied()
                shown = cluster.etcdctl("lease", "timetolive", f"{session.lease_id:x}", "--keys")
                assert "/a" in shown
                assert f'"create_revision":{key.create_revision},' in cluster.etcdctl("get", "/a", "-w=json")
                # No watch was tried while the outage was declared, and it misses nothing for that.
                await tide.health.wait_for(HealthState.AVAILABLE, timeout=5)
                await anyio.to_thread.run_sync(cluster.etcdctl, "del", "/a")
                with anyio.fail_after(2):
                    await key.gone
        assert leases(cluster) == []
