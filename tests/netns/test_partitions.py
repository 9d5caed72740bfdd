"""Real partitions: a real client, a real cluster, and links that swallow packets. See tests/netns/network.py.

Each test ends with the check of the whole history (the `bench` fixture): values never go back, and no reading
claims to be younger than it is, measured against the writes that etcd acknowledged.
"""

from __future__ import annotations

import itertools
import time

import pytest

from tests.netns.bench import Bench

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.takes(70)]

# An idle client asks every 5 s at the most, an answer is missing after 0.5 s, and 3 s of that are an outage.
DECLARED_WITHIN = 9.0
BACK_WITHIN = 3.0
_numbers = itertools.count()


@pytest.fixture
def key() -> str:
    """Return a key that no other test uses."""
    return f"bench/{next(_numbers)}"


def test_cut_off_and_back(bench: Bench, key: str) -> None:
    """Cut off from all members, silently: declared in 9 s; back within 3 s after a short cut and a long one."""
    bench.client("writer", "write", key, on="c3")
    bench.client("short", "read", key, on="c1")
    bench.client("long", "read", key, on="c2")
    time.sleep(1)
    cut = bench.note("cut off c1 and c2")
    bench.network.isolate("c1")
    bench.network.isolate("c2")
    for name in ("short", "long"):
        declared = bench.await_state(name, "unavailable", within=12.0, since=cut)
        assert declared - cut < DECLARED_WITHIN

    for name, host, length in (("short", "c1", 10.0), ("long", "c2", 25.0)):
        time.sleep(max(0.0, cut + length - time.monotonic()))
        healed = bench.note(f"heal {host}")
        bench.network.heal(host)
        # Pairs of two isolated hosts are mended with the first; clients have nothing to say to each other.
        assert bench.await_state(name, "available", within=10.0, since=healed) - healed < BACK_WITHIN
        time.sleep(0.5)
        live = [e for e in bench.readings(name, "read", since=healed) if e["source"] == "live" and e["age"] < 1]
        assert live
        assert live[0].at - healed < BACK_WITHIN
        assert bench.states(name, since=cut) == ["unavailable", "available"]
    assert max(e["age"] for e in bench.readings("long", "read", since=cut)) > 20
    assert max(e["took"] for e in bench.readings("long", "read", since=cut)) < 0.25
    assert bench.states("writer", since=cut) == []


def test_cut_off_from_the_member_in_use(bench: Bench, key: str) -> None:
    """Cut off from the member in use only: no change of state, another member is used, and fetches go on."""
    bench.client("writer", "write", key, on="c3")
    bench.client("client", "fetch", key, on="c1")
    time.sleep(1)
    member = bench.active("client")
    cut = bench.note(f"cut c1 from {member}")
    bench.network.partition("c1", member)
    time.sleep(6)
    assert bench.active("client") != member
    assert bench.states("client", since=cut) == []
    fetched = bench.readings("client", "fetch", since=cut)
    assert len(fetched) > 10
    assert bench.events("client", "failed", since=cut) == []
    # The one under way at the cut waits for its deadline's share; those after the switch are as fast as ever.
    assert {e["source"] for e in fetched if e["began"] > cut + 4} == {"quorum"}
    assert {e["source"] for e in bench.readings("client", "read", since=cut + 4)} == {"live"}


def test_minority_side(bench: Bench, key: str) -> None:
    """Members split 1|2: who reaches only the one is DEGRADED and reads MEMBER; who reaches all is AVAILABLE."""
    leader = bench.cluster.host_of(bench.cluster.leader())
    minority = next(host for host in ("m1", "m2", "m3") if host != leader)
    bench.client("writer", "write", key, on="c3")
    # At that member from the start: what another one has shown it first would be newer than what this one knows.
    bench.client("inside", "fetch", key, on="c1", using=minority)
    bench.client("everywhere", "fetch", key, on="c2")
    time.sleep(1)
    cut = bench.note(f"split {minority} off, with c1")
    # The client first: between the cuts a member of the majority could show it what the minority never learns.
    for side in ("c1", minority):
        for other in {"m1", "m2", "m3"} - {minority}:
            bench.network.partition(side, other)
    assert bench.await_state("inside", "degraded", within=12.0, since=cut) - cut < DECLARED_WITHIN
    degraded = time.monotonic()
    time.sleep(4)
    fetched = bench.readings("inside", "fetch", since=degraded)
    assert len(fetched) > 5
    assert {e["source"] for e in fetched if e["began"] > degraded} == {"member"}
    assert max(e["took"] for e in fetched if e["began"] > degraded) < 1
    assert bench.states("everywhere", since=cut) == []
    assert {e["source"] for e in bench.readings("everywhere", "fetch", since=degraded)} == {"quorum"}

    healed = bench.note("heal")
    bench.network.heal()
    # A member of 3.4 that was cut off makes the others elect anew when it returns (no pre-vote): wait for that.
    bench.cluster.wait_ready()
    whole = bench.note("whole again")
    assert bench.await_state("inside", "available", within=10.0, since=healed) - whole < BACK_WITHIN
    assert bench.states("inside", since=cut) == ["degraded", "available"]


def test_one_way(bench: Bench, key: str) -> None:
    """Only requests are lost, or only answers: either is an outage like any other, declared and over in time."""
    bench.client("writer", "write", key, on="c3")
    bench.client("mute", "read", key, on="c1")
    bench.client("deaf", "read", key, on="c2")
    time.sleep(1)
    cut = bench.note("c1 cannot send, c2 cannot receive")
    for member in ("m1", "m2", "m3"):
        bench.network.partition("c1", member, one_way=True)
        bench.network.partition(member, "c2", one_way=True)
    for name in ("mute", "deaf"):
        assert bench.await_state(name, "unavailable", within=12.0, since=cut) - cut < DECLARED_WITHIN
    healed = bench.note("heal")
    bench.network.heal()
    for name in ("mute", "deaf"):
        assert bench.await_state(name, "available", within=10.0, since=healed) - healed < BACK_WITHIN
        assert bench.states(name, since=cut) == ["unavailable", "available"]


def test_leader_cut_off_from_its_peers(bench: Bench, key: str) -> None:
    """The leader loses its peers but not its clients, who use it: they go on through the majority, never older."""
    leader = bench.cluster.host_of(bench.cluster.leader())
    bench.client("writer", "write", key, on="c3", using=leader)
    bench.client("client", "fetch", key, on="c1", using=leader)
    time.sleep(1)
    cut = bench.note(f"cut {leader} off from its peers")
    bench.network.isolate(leader, among=("m1", "m2", "m3"))
    time.sleep(7)
    for name in ("client", "writer"):
        assert bench.active(name) != leader
        assert bench.states(name, since=cut) == []
    late = [e for e in bench.readings("client", "fetch", since=cut + 5) if e["began"] > cut + 5]
    assert {e["source"] for e in late} == {"quorum"}
    assert len(late) > 3
    assert max(e["age"] for e in late) < 1
    assert len(bench.events("writer", "written", since=cut + 5)) > 10
    healed = bench.note("heal")
    bench.network.heal()
    time.sleep(2)
    for name in ("client", "writer"):
        assert bench.states(name, since=healed) == []
