"""Several real etcd processes: quorum, leader, and that nothing of them is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import tideover
from tests.etcd.certificates import Authority
from tideover.testing.etcd import EtcdCluster, EtcdExited, EtcdServer

pytestmark = pytest.mark.etcd

# Half of etcd's defaults, for quicker elections
FAST = ("--heartbeat-interval=50", "--election-timeout=500")
SOURCE = Path(tideover.__file__).parents[1]


@pytest.fixture
def anyio_backend() -> str:
    """Async tests here run on asyncio."""
    return "asyncio"


@pytest.mark.anyio
async def test_tls(tmp_path: Path) -> None:
    """With TLS clients need the CA and a certificate; leaders, etcdctl, kills and restarts work as without."""
    authority = Authority(tmp_path)
    client = authority.sign("client").trusting(authority.cert)
    with EtcdCluster(args=FAST, tls=authority.sign("etcd").trusting(authority.cert)) as cluster:
        endpoints = [f"https://{endpoint}" for endpoint in cluster.endpoints]
        async with tideover.connect(*endpoints, tls=client, cache_dir=False) as tide:
            assert (await tide.config.put("k", "v")).visible
        async with tideover.connect(*cluster.endpoints, cache_dir=False) as plain:
            assert plain.health.state is tideover.HealthState.UNAVAILABLE
        assert cluster.etcdctl("get", "--print-value-only", "/config/k") == "v\n"
        leader = cluster.leader()
        assert await cluster.find_leader() is leader
        leader.kill()
        assert cluster.leader() is not leader
        leader.start()
        cluster.wait_ready()
        assert all(member.answers() for member in cluster.members)
    with pytest.raises(ValueError, match="needs a certificate"):
        EtcdCluster(tls=tideover.Tls(ca=authority.cert))


@pytest.fixture
def cluster() -> Iterator[EtcdCluster]:
    """Three running members."""
    with EtcdCluster(args=FAST) as running:
        yield running


@pytest.fixture
def starting() -> Iterator[Callable[[int], EtcdCluster]]:
    """Starts clusters of any size without waiting until they are ready."""
    with ExitStack() as stack:

        def start(size: int) -> EtcdCluster:
            cluster = EtcdCluster(size)
            stack.callback(cluster.close)
            cluster.start()
            return cluster

        yield start


def _exists(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return False
    return True


def _pids_with(text: str) -> list[str]:
    """Return the processes of this machine that have the text in their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes() if folder.name.isdigit() else b""
        except OSError:
            continue  # ended meanwhile
        if text.encode() in command:
            found.append(folder.name)
    return found


def test_a_cluster_serves_inside_its_block_and_is_gone_after_it() -> None:
    """All members form one cluster; afterwards no process and no directory is left."""
    with EtcdCluster() as cluster:
        pids = [member.pid for member in cluster.members]
        roots = [member.data_dir.parent for member in cluster.members if member.data_dir]
        assert len(set(cluster.endpoints)) == 3
        assert cluster.etcdctl("put", "a", "1") == "OK\n"
        assert [member.etcdctl("get", "a", "--print-value-only") for member in cluster.members] == ["1\n"] * 3
        assert repr(cluster) == "<EtcdCluster running=3/3 paused=0>"

    assert len(roots) == 3
    assert not any(map(_exists, pids))
    assert not any(root.exists() for root in roots)


def test_nothing_is_left_after_an_exception_in_the_block() -> None:
    """Dead and paused members are cleaned up like all others."""
    with pytest.raises(ZeroDivisionError), EtcdCluster() as cluster:
        pids = [member.pid for member in cluster.members]
        cluster.members[0].kill()
        cluster.members[1].pause()
        raise ZeroDivisionError

    assert not any(map(_exists, pids))


def test_two_clusters_at_once_do_not_meet() -> None:
    """Each has its own ports and its own data."""
    with EtcdCluster(2, args=FAST) as one, EtcdCluster(2, args=FAST) as two:
        one.etcdctl("put", "a", "1")

        assert not set(one.endpoints) & set(two.endpoints)
        assert two.etcdctl("get", "a") == ""


def test_the_quorum_can_be_lost_and_restored(cluster: EtcdCluster) -> None:
    """A survivor answers but is not healthy; with the dead members back the data is there."""
    cluster.etcdctl("put", "a", "1")
    endpoints = cluster.endpoints

    killed = cluster.lose_quorum()

    assert killed == cluster.members[:2]
    assert cluster.members[2].answers()
    with pytest.raises(TimeoutError, match="running=1/3"):
        cluster.wait_ready(timeout=0.5)
    with pytest.raises(RuntimeError, match="deadline exceeded"):
        cluster.etcdctl("get", "a", "--command-timeout=300ms")
    assert cluster.etcdctl("get", "a", "--consistency=s", "--print-value-only") == "1\n"

    assert cluster.restore_quorum() == killed
    cluster.wait_ready()
    assert cluster.endpoints == endpoints
    assert cluster.etcdctl("get", "a", "--print-value-only") == "1\n"


# What one member knows by itself.
OWN_WORD = ("get", "a", "--consistency=s", "--print-value-only")


def _leave_behind(cluster: EtcdCluster, member: EtcdServer, how: str, *login: str) -> int:
    """Take a member away, write, bring the member back without waiting; return the revision it has to reach."""
    getattr(member, how)()
    for _ in range(24):  # megabytes: more than the sockets between two members hold
        cluster.etcdctl(*login, "put", "bulk", input="x" * 1_000_000)
    written = json.loads(cluster.etcdctl(*login, "put", "a", "newest", "--write-out=json"))
    member.resume() if how == "pause" else member.start()
    return int(written["header"]["revision"])


@pytest.mark.parametrize("how", ["pause", "kill"])
def test_a_survivor_has_what_was_written_before_the_loss(cluster: EtcdCluster, how: str) -> None:
    """However far behind the member is that will be left: afterwards it knows the newest value."""
    straggler = cluster.followers()[0]
    cluster.etcdctl("put", "a", "old")
    _leave_behind(cluster, straggler, how)

    killed = cluster.lose_quorum(survivor=straggler)

    assert set(killed) == set(cluster.members) - {straggler}
    assert straggler.etcdctl(*OWN_WORD) == "newest\n"


def test_a_survivor_that_asks_for_a_password_has_it_too() -> None:
    """Where etcd has users, the kit needs no login to know what a member has applied."""
    with EtcdCluster(args=(*FAST, "--bcrypt-cost=4")) as cluster:
        for command in ("user add root:root", "user grant-role root root", "auth enable"):
            cluster.etcdctl(*command.split())
        cluster.wait_applied()
        straggler = cluster.followers()[0]
        revision = _leave_behind(cluster, straggler, "pause", "--user=root:root")

        cluster.lose_quorum(survivor=straggler)

        (status,) = json.loads(straggler.etcdctl("endpoint", "status", "--write-out=json"))
        assert status["Status"]["header"]["revision"] == revision


@pytest.mark.anyio
async def test_what_was_waited_for_can_be_read_from_every_member(cluster: EtcdCluster) -> None:
    """After `applied()`, and after `wait_applied()`, a serializable read at any member has the newest value."""
    one, two = cluster.followers()
    for straggler in (one, two):
        cluster.etcdctl("put", "a", "old")
        _leave_behind(cluster, straggler, "pause")
        if straggler is one:
            await cluster.applied()
        else:
            cluster.wait_applied()
        assert [member.etcdctl(*OWN_WORD) for member in cluster.members] == ["newest\n"] * 3


@pytest.mark.anyio
async def test_a_survivor_that_cannot_catch_up_is_not_waited_for(cluster: EtcdCluster) -> None:
    """A paused survivor may lag; without a quorum its loss is over at once, and a wait ends at the timeout."""
    paused, _ = cluster.followers()
    cluster.etcdctl("put", "a", "old")
    paused.pause()
    cluster.wait_applied()
    cluster.etcdctl("put", "a", "newest")

    assert len(cluster.lose_quorum(survivor=paused)) == 2
    assert cluster.lose_quorum() == ()
    paused.resume()
    with pytest.raises(TimeoutError, match=r"running=1/3.* has not applied all writes after 0\.1 s"):
        cluster.wait_applied(timeout=0.1)
    with pytest.raises(TimeoutError, match=r"running=1/3.* has not applied all writes after 0\.1 s"):
        await cluster.applied(timeout=0.1)

    cluster.kill_all()
    with pytest.raises(RuntimeError, match="no member"):
        cluster.wait_applied()


def test_nobody_is_killed_while_a_survivor_lags(cluster: EtcdCluster) -> None:
    """A loss that would lose what was written is an error, and the cluster is as before."""
    leader, survivor = cluster.leader(), cluster.followers()[0]
    # Until there is another leader the survivor cannot know whether it has everything.
    leader.pause()
    with pytest.raises(TimeoutError, match=r"running=3/3.* has not applied all writes after 0 s"):
        cluster.lose_quorum(survivor=survivor, timeout=0)
    leader.resume()
    cluster.wait_ready()
    assert [member.running for member in cluster.members] == [True, True, True]


def test_the_survivor_of_a_lost_quorum_can_be_chosen(cluster: EtcdCluster) -> None:
    """All but the chosen member die."""
    leader = cluster.leader()

    killed = cluster.lose_quorum(survivor=leader)

    assert leader.running
    assert set(killed) == set(cluster.members) - {leader}


def test_losing_the_quorum_of_five_spares_two(starting: Callable[[int], EtcdCluster]) -> None:
    """No more members die than are needed, and those already dead count."""
    cluster = starting(5)
    cluster.members[4].kill()

    killed = cluster.lose_quorum(survivor=cluster.members[0])

    assert len(killed) == 2
    assert [member.running for member in cluster.members] == [True, False, False, True, False]
    assert cluster.lose_quorum() == ()


def test_a_cluster_of_one_loses_its_quorum_with_its_member(starting: Callable[[int], EtcdCluster]) -> None:
    """There is no survivor to choose."""
    cluster = starting(1)

    with pytest.raises(ValueError, match="cannot survive"):
        cluster.lose_quorum(survivor=cluster.members[0])

    assert cluster.lose_quorum() == cluster.members


def test_a_dead_leader_is_replaced(cluster: EtcdCluster) -> None:
    """After the leader's death another member leads, and the healthy rest counts as ready."""
    old = cluster.leader()
    assert set(cluster.followers()) == set(cluster.members) - {old}

    old.kill()
    new = cluster.leader()

    assert new is not old
    cluster.wait_ready()
    assert set(cluster.followers()) == set(cluster.members) - {old, new}


def test_a_paused_leader_is_replaced_and_returns_as_a_follower(cluster: EtcdCluster) -> None:
    """A leader that wakes up in an old term is not taken for the leader."""
    old = cluster.leader()
    old.pause()
    new = cluster.leader()
    old.resume()

    assert new is not old
    assert cluster.leader() is not old
    cluster.wait_ready()


def test_without_a_running_member_there_is_no_leader(starting: Callable[[int], EtcdCluster]) -> None:
    """Asking is refused at once rather than waited for."""
    cluster = starting(3)
    assert cluster.kill_all() == cluster.members
    assert cluster.kill_all() == ()

    with pytest.raises(RuntimeError, match="no member"):
        cluster.leader()
    with pytest.raises(RuntimeError, match="no member"):
        cluster.wait_ready()


def test_a_whole_cluster_comes_back_with_its_data_or_wiped(cluster: EtcdCluster) -> None:
    """A stop keeps the data; a wipe of all members begins an empty cluster."""
    cluster.etcdctl("put", "a", "1")
    with pytest.raises(RuntimeError, match="members are running"):
        cluster.start()
    with pytest.raises(RuntimeError, match="members are running"):
        cluster.wipe()

    cluster.stop()
    assert cluster.start_all() == cluster.members
    cluster.wait_ready()
    assert cluster.etcdctl("get", "a", "--print-value-only") == "1\n"

    cluster.kill_all()
    cluster.wipe()
    cluster.start()
    cluster.wait_ready()
    assert cluster.etcdctl("get", "a") == ""


def test_stop_lets_every_member_end_in_order(cluster: EtcdCluster) -> None:
    """Each gets the signal that lets it say goodbye, a paused one too."""
    cluster.followers()[0].pause()

    cluster.stop()

    assert all("received signal" in member.log() for member in cluster.members)
    assert not any(member.running for member in cluster.members)


def test_a_single_wiped_member_is_refused_by_its_cluster(cluster: EtcdCluster) -> None:
    """etcd does not let a member return without its data; the error shows its reason."""
    member = cluster.members[0]
    member.kill()
    member.wipe()
    member.start()

    with pytest.raises(EtcdExited, match="already been bootstrapped"):
        cluster.wait_ready()


def test_a_port_taken_before_the_first_start_moves_the_whole_cluster() -> None:
    """Every member learns the new ports of all."""
    cluster = EtcdCluster()
    first = cluster.endpoints
    with socket.create_server(("127.0.0.1", int(first[1].rpartition(":")[2]))), cluster:
        assert not set(cluster.endpoints) & set(first)
        assert cluster.etcdctl("put", "a", "1") == "OK\n"


def test_a_cluster_has_at_least_one_member() -> None:
    """A size below one is refused with its value."""
    with pytest.raises(ValueError, match="0"):
        EtcdCluster(0)


@pytest.mark.anyio
async def test_async_use_finds_the_leader_and_leaves_nothing_behind() -> None:
    """The async side waits for the cluster and for elections without a thread."""
    async with EtcdCluster(args=FAST) as cluster:
        pids = [member.pid for member in cluster.members]
        old = await cluster.find_leader()
        old.kill()
        assert await cluster.find_leader() is not old
        cluster.restore_quorum()
        await cluster.ready()

        cluster.lose_quorum(survivor=cluster.members[0])
        with pytest.raises(TimeoutError, match="running=1/3"):
            await cluster.ready(timeout=0.3)

    assert not any(map(_exists, pids))


@pytest.mark.anyio
async def test_without_a_quorum_the_search_for_a_leader_ends() -> None:
    """A cluster that never had a quorum has no leader, and the search keeps its timeout."""
    cluster = EtcdCluster()
    try:
        cluster.members[0].start()
        with pytest.raises(TimeoutError, match=r"no leader after 0\.2 s"):
            await cluster.find_leader(timeout=0.2)
        with pytest.raises(TimeoutError, match=r"no leader after 0\.2 s"):
            cluster.leader(timeout=0.2)
    finally:
        cluster.close()


SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has it ignored
from tideover.testing.etcd import EtcdCluster
"""
IN_BLOCK = SCRIPT + "with EtcdCluster():\n    print('ready', flush=True)\n    time.sleep(60)\n"
NO_BLOCK = SCRIPT + "c = EtcdCluster()\nc.start()\nc.wait_ready()\nc.members[0].pause()\n1 / 0\n"


@pytest.fixture
def script(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Collects the child interpreters of a test and ends those that are left."""
    children: list[subprocess.Popen[str]] = []
    yield children
    for child in children:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def _run(code: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_ctrl_c_in_the_block_leaves_nothing_behind(tmp_path: Path, script: list[subprocess.Popen[str]]) -> None:
    """A program interrupted while its cluster runs takes the cluster with it."""
    script.append(child := _run(IN_BLOCK, tmp_path))
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    assert len(_pids_with(str(tmp_path))) == 3

    child.send_signal(signal.SIGINT)

    assert child.wait(timeout=20) != 0
    assert _pids_with(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("started", [1, 2, 3])
def test_ctrl_c_half_way_through_the_start_leaves_nothing_behind(
    tmp_path: Path, script: list[subprocess.Popen[str]], started: int
) -> None:
    """Whichever member is just being started, none is lost from sight."""
    script.append(child := _run(IN_BLOCK, tmp_path))
    deadline = time.monotonic() + 20
    while len(list(tmp_path.glob("tideover-etcd-*"))) < started and time.monotonic() < deadline:
        pass  # no sleep: the next member follows within a millisecond

    child.send_signal(signal.SIGINT)

    assert child.wait(timeout=20) != 0
    assert _pids_with(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_never_closes_its_cluster_leaves_nothing_behind(
    tmp_path: Path, script: list[subprocess.Popen[str]]
) -> None:
    """The end of the interpreter ends the members, a paused one too."""
    script.append(child := _run(NO_BLOCK, tmp_path))

    assert child.wait(timeout=30) == 1
    assert _pids_with(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []
