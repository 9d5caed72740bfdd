"""How many of a client's links are cut decides what it says: some are nothing to it, all are CUT_OFF."""

from __future__ import annotations

import time

import pytest

from tests.netns.bench import Bench

pytestmark = [pytest.mark.etcd, pytest.mark.netns]


def test_one_some_and_no_links(bench: Bench) -> None:
    """With two links, and with one, the client goes on as if nothing were; with none it is CUT_OFF, and back."""
    bench.client("writer", "write", "links", on="c3")
    clients = {"two": "c1", "one": "c2"}
    for name, host in clients.items():
        bench.client(name, "fetch", "links", on=host)
    time.sleep(1)
    used = {name: bench.active(name) for name in clients}
    cut = bench.note("cut c1 from the member in use, c2 from that and another")
    for name, host in clients.items():
        others = [m for m in ("m1", "m2", "m3") if m != used[name]]
        for member in [used[name], *(others[:1] if name == "one" else [])]:
            bench.network.partition(host, member)
    time.sleep(8)
    for name in clients:
        assert bench.states(name, since=cut) == []
        assert {e["source"] for e in bench.readings(name, "fetch", since=cut) if e["began"] > cut + 6} == {
            "quorum"
        }
        assert {e["why"] for e in bench.events(name, "state", since=cut + 6)} <= {"healthy"}

    lost = bench.note("cut c2 off")
    bench.network.isolate("c2", among=("m1", "m2", "m3"))
    assert bench.await_state("one", "unavailable", within=12.0, since=lost) - lost < 9
    assert bench.events("one", "state", since=lost)[-1]["why"] == "cut_off"
    assert bench.states("two", since=cut) == []
    healed = bench.note("heal")
    bench.network.heal()
    assert bench.await_state("one", "available", within=10.0, since=healed) - healed < 3
    assert bench.events("one", "state", since=healed)[-1]["why"] == "healthy"
