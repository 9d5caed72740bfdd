"""Members cut off from a client that was told of one of them, or of a name for all of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.netns.bench import Bench

pytestmark = [pytest.mark.etcd, pytest.mark.netns]


def test_the_member_in_use_is_cut_off(bench: Bench, tmp_path: Path) -> None:
    """Told of one name for three members: the one in use is cut off; no read takes 1 s; it is back within 2 s.

    The same for a client that was told of one member, by address: the others come from the list.
    """
    bench.cluster.etcdctl("put", "/config/members", "1")
    hosts = tmp_path / "hosts"
    members = [bench.network.host(name) for name in ("m1", "m2", "m3")]
    hosts.write_text("".join(f"{member.address} etcd.internal\n" for member in members))
    bench.client("named", "fetch", "members", on="c1", told=["etcd.internal:2379"], hosts=hosts)
    follower = bench.cluster.host_of(bench.cluster.followers()[0])
    bench.client("told", "fetch", "members", on="c2", told=[f"{bench.network.host(follower).address}:2379"])
    time.sleep(2)
    for name, host in (("named", "c1"), ("told", "c2")):
        known = {e["endpoint"] for e in bench.events(name, "member") if e["answers"]}
        assert known == set(bench.cluster.endpoints)
        lost = bench.active(name)
        endpoint = bench.cluster.on(lost).endpoint
        cut = bench.note(f"cut {host} from {lost}")
        bench.network.partition(host, lost)
        time.sleep(5)
        assert bench.active(name) != lost
        healed = bench.note("heal")
        bench.network.heal()
        found = bench.await_(
            lambda name=name, endpoint=endpoint, healed=healed: [  # type: ignore[misc]
                e for e in bench.events(name, "member", since=healed) if e["endpoint"] == endpoint and e["answers"]
            ],
            within=5,
            what=f"return of {lost}",
        )
        fetched = bench.readings(name, "fetch", since=cut)
        print(f"{name}: slowest {max(e['took'] for e in fetched):.3f} s, back after {found[0].at - healed:.2f} s")
        assert found[0].at - healed < 2
        assert {e["source"] for e in fetched} == {"quorum"}
        assert max(e["took"] for e in fetched) < 1
        assert bench.events(name, "failed", since=cut) == []
        assert bench.states(name, since=cut) == []
