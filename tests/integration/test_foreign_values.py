"""Values that others have written under the keys that tideover reads, in a real etcd: nothing fails but they."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from tests.integration.foreign import trial
from tideover import HealthState, RecordCorrupt, connect
from tideover.clock import Stamp
from tideover.discovery.endpoint import Endpoint
from tideover.elections.record_document import RecordDocument
from tideover.epoch.rules import EpochMarker
from tideover.etcd.adapter import EtcdStore
from tideover.locks.hold_document import encode
from tideover.locks.rules.overlaps import Hold
from tideover.store.operations import Delete, Put
from tideover.testing import EtcdServer
from tideover.types import LockMode

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.any_etcd]

BEGAN, SEEN = Stamp(1e9, 5.0, "boot"), Stamp(1e9 + 9.0, 14.0, "boot")
HOLD = Hold("a-1", "orders", "a", "host/1", LockMode.LOCAL, 0, BEGAN, None, SEEN)
DOCUMENTS = {
    "tideover/ledger/": encode(HOLD),
    "elections/": RecordDocument("a", 3, "step_down", 15.0, "w", candidates=("a@h:1",)).encode(),
    "services/api/": Endpoint("http://a", metadata={"zone": "a"}).encode(),
}
MARKER = EpochMarker(7, "h", 1, 1).encode()
# What no document may hold, whatever its name is.
HARM = ["1e999", "1" + "0" * 400, "-Infinity", r'"\ud800"', "[" * 40 + "]" * 40, "1" * 4301]


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """Run an etcd."""
    with EtcdServer() as running:
        running.wait_ready()
        yield running


@pytest.fixture
async def store(server: EtcdServer) -> AsyncIterator[EtcdStore]:
    """Return a way for others to write anything."""
    others = EtcdStore([server.endpoint])
    yield others
    await others.aclose()


async def call(store: EtcdStore, op: Any) -> None:
    """Make a call as another client would."""
    await store.call(op, member=store.members[0], timeout=5)


def spoilt(document: bytes) -> Iterator[bytes]:
    """Return a document with harm in the place of each of its members, beside what is none at all."""
    fields = json.loads(document)
    for number, name in enumerate(fields):
        held = json.dumps({**fields, name: "HARM"}).replace('"HARM"', HARM[number % len(HARM)])
        yield held.encode()
    yield from (json.dumps({**fields, "more": "HARM"}).replace('"HARM"', harm).encode() for harm in HARM)
    yield from (b"", b"\xff\x00", b"null", b"[]", b"[" * 2000, b"\x1b[2J\x07\nok", document[:-1])
    yield document[:-1] + b"," + document[1:]
    yield b"[" + b"[]," * 100_000 + b"[]]"


async def test_all_else_works_beside_foreign_values(server: EtcdServer, store: EtcdStore) -> None:
    """With scores of foreign values among holds, records and registrations a service starts, works and ends.

    Locks, leaders and endpoints of everybody else are found, true conflicts too; the foreign keys are all named,
    and nothing is left of them when they have been deleted, without a restart.
    """
    keys = {
        f"/shop/{place}{number}/x": value
        for place, document in DOCUMENTS.items()
        for number, value in enumerate(spoilt(document))
    }
    keys["/shop/tideover/sessions/none of ours"] = b""
    assert len(keys) < 100
    async with connect(server.endpoint, namespace="/shop", cache_dir=False, start_timeout=5) as old:
        await old.config.put("rate", 1)
        for key, value in {**keys, "/shop/config/rate": b"[" * 2000}.items():
            await call(store, Put(key.encode(), value))
        holds = HOLD, Hold("b-1", "orders", "b", "host/2", LockMode.LOCAL, 0, BEGAN, SEEN, SEEN)
        for hold in holds:
            await call(store, Put(f"/shop/tideover/ledger/{hold.id}".encode(), encode(hold)))
        async with (
            connect(server.endpoint, namespace="/shop", cache_dir=False, start_timeout=5) as tide,
            tide.lock("orders") as held,
            tide.leader("reaper") as term,
            tide.register("api", "http://10.0.0.7:8000"),
        ):
            services = old.discover("api")
            assert [endpoint.url for endpoint in await services.wait_for(1, timeout=5)] == ["http://10.0.0.7:8000"]
            assert (held.mode, bool(term.token)) == (LockMode.DISTRIBUTED, True)
            with pytest.raises(RecordCorrupt):
                async with tide.leader("0/x"):
                    pass
            assert old.config.read("rate", int, default=7).value == 7
            await tide.config.put("other", 3)
            (conflict,) = await tide.lock_conflicts()
            assert conflict.name == "orders"
            for one in old, tide:
                assert (one.health.state, one.status().restarts) == (HealthState.AVAILABLE, 0)
            assert {value.key for value in await tide.foreign_values()} == set(keys)
            ours = {value.key for value in tide.status().rejected} | {value.key for value in old.status().rejected}
            assert ours >= {key for key in keys if "/elections/" not in key and "/sessions/" not in key} | {"rate"}
            await named_by_the_commands(server, "/shop/services/api/0/x")
            for key in [*keys, "/shop/config/rate"]:
                await call(store, Delete(key.encode()))
            assert await tide.foreign_values() == ()
            assert await tide.election("0/x").current() is None
            with anyio.fail_after(5):
                while any("/services/" in value.key for value in old.status().rejected):
                    await anyio.sleep(0.01)


async def named_by_the_commands(server: EtcdServer, key: str) -> None:
    """`tideover status` and `tideover doctor` name a key, escaped, and go on."""
    for command, code in ("status", 0), ("doctor", 1):
        line = [sys.executable, "-P", "-m", "tideover.cli", command, "-e", server.endpoint, "-n", "/shop"]
        done = await anyio.run_process(line, check=False)
        assert (done.returncode, done.stderr) == (code, b"")
        assert f"{key} at revision ".encode() in done.stdout
        assert b"\x1b" not in done.stdout


async def test_a_foreign_epoch_is_no_outage(server: EtcdServer, store: EtcdStore) -> None:
    """Whatever stands in the marker's place, those who run go on and others start; it is named, and left alone."""
    key = b"/depot/tideover/epoch"
    async with connect(server.endpoint, namespace="/depot", cache_dir=False, start_timeout=5) as old:
        async with old.lock("orders"):
            for value in [*spoilt(MARKER), MARKER.replace(b"7", b"9223372036854775808")]:
                await call(store, Put(key, value))
                await old._parts.epoch.confirm(2)
                async with connect(server.endpoint, namespace="/depot", cache_dir=False, start_timeout=5) as new:
                    assert new.health.state is HealthState.AVAILABLE
                    await new.config.put("rate", 1)
                    assert [value.key for value in new.status().rejected] == [key.decode()]
                    assert [value.key for value in await new.foreign_values()] == [key.decode()]
            await call(store, Delete(key))
            await old._parts.epoch.confirm(2)
            assert await old.foreign_values() == ()
            status = old.status()
            assert (status.rejected, status.identity.error, status.identity.resets) == ((), None, 0)
            assert (old.health.state, old.epoch, status.restarts) == (HealthState.AVAILABLE, 1, 0)


async def test_whatever_is_written_under_whatever_key(server: EtcdServer) -> None:
    """Forty drawn values, of every kind and under every key: see the module, which draws more of them."""
    await trial(server, 40)
