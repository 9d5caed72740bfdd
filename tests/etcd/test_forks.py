"""gRPC and forks: a worker forked after all was closed is healthy; one forked while connected is refused.

Those of the other transport are in `http2/test_forks`.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import anyio
import pytest

from tideover import Closed, Unavailable, connect
from tideover.etcd import forks
from tideover.etcd.adapter import EtcdStore
from tideover.etcd.rpc_errors import UsageError
from tideover.store.endpoints import Address
from tideover.store.faults import StoreFault
from tideover.store.operations import Range
from tideover.testing import EtcdServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.etcd,
    pytest.mark.any_etcd,
    pytest.mark.takes(40),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]

ROOT = Path(__file__).parents[2]


def play(*scene: str) -> list[dict[str, Any]]:
    """Run a scene of `tests/etcd/forking.py`; return what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.etcd.forking", *scene],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# After all was closed -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("over_grpc")
@pytest.mark.parametrize("trouble", ["none", "cancelled", "renewed", "kept"])
def test_fork_after_close(etcd_server: EtcdServer, trouble: str) -> None:
    """Connect, close, fork at once: each child finds etcd AVAILABLE and ends at once, whatever happened before."""
    rounds = 8
    *said, last = play("after_close", etcd_server.endpoint, trouble, str(rounds))
    assert [each["child"] for each in said] == ["available"] * rounds
    # Milliseconds; a child that hears nothing takes the 3 s of its start, and hangs at its end.
    assert max(each["seconds"] for each in said) < 10
    assert (last["kept"] > 0) is (trouble == "kept")


@pytest.mark.usefixtures("over_grpc")
def test_fork_where_it_was_closed(etcd_server: EtcdServer) -> None:
    """The same in the very event loop, while the closed coordinator and its lock are still referred to."""
    *said, here = play("closed_in_the_loop", etcd_server.endpoint)
    assert [each["child"] for each in said] == ["available"] * 4
    assert here["here"].endswith("closed>")


@pytest.mark.usefixtures("over_grpc")
def test_made_before_the_fork(etcd_server: EtcdServer) -> None:
    """A coordinator that was made before a fork is entered in each child, and is another process's in each."""
    children, here = play("made_before", etcd_server.endpoint)
    each = [*children["each"], *here["each"]]
    assert [said.split()[:2] for said in each] == [["available", "True"]] * 3
    assert len({said.split()[2] for said in each}) == 3


@pytest.mark.usefixtures("over_grpc")
async def test_nothing_of_grpc_is_left(etcd_server: EtcdServer) -> None:
    """A closed coordinator refers to no channel, without a collection; what is asked all the same is refused."""
    gc.collect()
    gc.disable()
    try:
        async with connect(etcd_server.endpoint, cache_dir=False) as tide:
            store = tide._parts.store
            assert isinstance(store, EtcdStore)
            member = store._channels[etcd_server.endpoint]
            channels = [weakref.ref(each.channel) for each in (member.urgent, member.bulk)]
            kv, auth, bulk = member.kv, member.auth, member.bulk
        assert [channel() for channel in channels] == [None, None]
    finally:
        gc.enable()
    with pytest.raises(StoreFault):
        await store.call(Range(b"a"), member=etcd_server.endpoint, timeout=1)
    for call in (kv.Range, auth.Authenticate, bulk.watch.Watch):
        with pytest.raises(UsageError):
            call(None)
    assert bulk.channel.get_state().name == "SHUTDOWN"
    assert "shutdown" in repr(member)


@pytest.mark.usefixtures("over_grpc")
async def test_a_close_that_is_cut_short_lets_go_all_the_same(etcd_server: EtcdServer) -> None:
    """Even if closing is cancelled, the store counts as closed: a later fork is not refused for it."""
    store = EtcdStore([etcd_server.endpoint])
    assert store in forks._open
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.aclose()
    assert store not in forks._open
    await anyio.sleep(0.1)


async def test_what_a_forked_child_learns(etcd_server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that may not use gRPC goes without the members that only gRPC reaches, and uses the others."""
    for variable in ("grpc_proxy", "https_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("TIDEOVER_TRANSPORT", raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(forks, "_forked_from", 1)
    store = EtcdStore([etcd_server.endpoint])
    try:
        assert (await store.call(Range(b"a"), member=etcd_server.endpoint, timeout=5)).header.revision > 0
        with pytest.raises(StoreFault, match="was forked") as refused:
            await store.add(Address("10.9.9.9:2379"), timeout=1)
        assert not refused.value.fault.applied
    finally:
        await store.aclose()
    with pytest.raises(Closed, match="was forked"):
        EtcdStore(["10.9.9.9:2379"])


# While connected ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("over_grpc")
def test_fork_while_connected(etcd_server: EtcdServer) -> None:
    """Children that connect, or use the parent's, are refused and told of spawn; the parent's puts never fail."""
    (said,) = play("while_open", etcd_server.endpoint, "fork")
    *connecting, busy, inherited = said["children"]
    assert len(connecting) == 3
    for refusal in (*connecting, inherited):
        assert refusal.startswith("Closed: this process (")
        assert "was forked from" in refusal
        assert "`spawn`" in refusal
        assert "connect after the fork" not in refusal
    assert busy == "done"
    assert (said["errors"], said["state"]) == ([], "available")
    assert said["puts"] >= 100


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_start_methods_while_connected(etcd_server: EtcdServer, method: str) -> None:
    """Children that are no copies of the parent connect, and nobody harms anybody."""
    (said,) = play("while_open", etcd_server.endpoint, method)
    assert said["children"] == ["available"] * 3 + ["done"]
    assert (said["errors"], said["state"]) == ([], "available")


@pytest.mark.usefixtures("over_grpc")
async def test_a_fork_in_an_outage_is_refused_too(etcd_server: EtcdServer) -> None:
    """Nobody need have answered: what counts is that gRPC is open."""
    with pytest.raises(Unavailable):
        async with connect("127.0.0.1:1", cache_dir=False) as tide:
            assert tide._parts.store in forks._open
            await tide.config.put("key", "value")
    assert tide._parts.store not in forks._open
