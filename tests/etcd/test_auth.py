"""Rights against a real etcd: what is denied to one prefix or one watch harms no other."""

from __future__ import annotations

import logging
import math
import random
import time
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import pytest

import tideover
from tests.etcd.metrics import gauge
from tests.etcd.users import LOGIN, PASSWORD, Login, enable_auth, root_does, until
from tests.telemetry.recording import install
from tideover import Diagnosis, HealthState, Source
from tideover.epoch.marker import catch_up
from tideover.etcd.adapter import EtcdStore
from tideover.prefixes import followed as following
from tideover.store.faults import Fault, FaultKind, StoreFault
from tideover.store.leases import LeaseGrant
from tideover.store.operations import LeaseResult, Put, Range
from tideover.testing import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.anyio, pytest.mark.takes(50), pytest.mark.version]


async def test_a_denied_watch_harms_no_other(guarded: EtcdServer) -> None:
    """Watches that are refused leave those that are open alone, and those that are opened next."""
    store = EtcdStore([guarded.endpoint], **LOGIN)
    try:
        member = store.members[0]
        async with store.watch(b"/config/h", None, start_revision=0, member=member, timeout=5) as watch:
            for _ in range(5):
                with pytest.raises(StoreFault) as caught:
                    async with store.watch(b"/other", None, start_revision=0, member=member, timeout=5):
                        pytest.fail("it was opened")
                assert caught.value.fault.kind is FaultKind.PERMISSION
                async with store.watch(b"/config/h", None, start_revision=0, member=member, timeout=5) as another:
                    await store.call(Put(b"/config/h", b"1"), member=member, timeout=5)
                    with anyio.fail_after(2):
                        for one in (watch, another):
                            assert len((await one.receive()).events) == 1
    finally:
        await store.aclose()


async def test_a_refused_lease_harms_no_other(guarded: EtcdServer) -> None:
    """etcd 3.5.28 and later refuses a lease for one key under it and ends its stream: all others are renewed."""
    store = EtcdStore([guarded.endpoint], **LOGIN)
    try:
        member = store.members[0]
        first = random.getrandbits(62)
        leases = range(first, first + 200)
        for lease in leases:
            await store.call(LeaseGrant(60, lease), member=member, timeout=5)
        await root_does(guarded, f"put --lease={leases[70]:x} /secret/a b")
        refuses = tuple(map(int, guarded.version().split("."))) >= (3, 5, 28)
        async with store.keep_alive(member=member) as renewing:
            for _ in range(3):
                answers: dict[int, LeaseResult | Fault] = {}
                with anyio.fail_after(10):
                    await renewing.renew_all(leases, answers.__setitem__)
                refused = {lease: a.kind for lease, a in answers.items() if isinstance(a, Fault)}
                assert refused == ({leases[70]: FaultKind.PERMISSION} if refuses else {})
                assert len(answers) == len(leases)
    finally:
        await store.aclose()


async def test_whoever_has_no_rights_has_an_entry_applied(guarded: EtcdServer) -> None:
    """A user without a right to any key lets a member apply an entry of the log, by which it learns the term."""
    await root_does(guarded, "user add nobody:nobody")
    store = EtcdStore([guarded.endpoint], username="nobody", password="nobody")
    try:
        member = store.members[0]
        with pytest.raises(StoreFault, match="permission denied"):
            await store.call(Range(b"/config/a"), member=member, timeout=5)
        before = _applied(guarded)
        await catch_up(store, member)
        assert _applied(guarded) == before + 1
    finally:
        await store.aclose()


def _applied(guarded: EtcdServer) -> float:
    return gauge(guarded, "etcd_server_proposals_applied_total")


async def test_a_denied_watch_does_not_hang(guarded: EtcdServer) -> None:
    """A watch of what the user may not read is refused, in time and as what it is."""
    store = EtcdStore([guarded.endpoint], **LOGIN)
    try:
        with anyio.fail_after(2), pytest.raises(StoreFault) as caught:
            async with store.watch(b"/other", None, start_revision=0, member=store.members[0], timeout=5):
                pytest.fail("it was opened")
        assert caught.value.fault.kind is FaultKind.PERMISSION
    finally:
        await store.aclose()


async def test_a_followed_prefix_that_may_not_be_read(guarded: EtcdServer) -> None:
    """`get` raises PermissionDenied, default or not; etcd is not called away."""
    async with tideover.connect(guarded.endpoint, namespace="/other", cache_dir=False, **LOGIN) as tide:
        assert tide.health.state is HealthState.AVAILABLE
        with pytest.raises(tideover.PermissionDenied):
            tide.config.get("timeout", default="1")
        with pytest.raises(tideover.PermissionDenied):
            await tide.config.put("timeout", 1)
        said = "Config '/other/config/' may not be read: etcd denies it to this user."
        report = tide.status()
        assert (said in report.sentence, report.config[0].denied) == (True, True)


async def test_a_denied_prefix_costs_another_nothing(guarded: EtcdServer) -> None:
    """Where one prefix is denied, the other is followed and proven by reads that are not."""
    prefixes = ("no/", "yes/")
    await root_does(guarded, "role revoke-permission app /config/ --prefix=true")
    await root_does(guarded, "role grant-permission --prefix=true app readwrite /config/yes/")
    try:
        async with tideover.connect(guarded.endpoint, follow=prefixes, cache_dir=False, **LOGIN) as tide:
            with pytest.raises(tideover.PermissionDenied):
                tide.config.get("no/x", default="")
            await until(lambda: tide.config.read("yes/x").source is Source.LIVE, within=1)
            await anyio.sleep(13)  # longer than a proof counts
            assert tide.config.read("yes/x").source is Source.LIVE
    finally:
        await root_does(guarded, "role revoke-permission app /config/yes/ --prefix=true")
        await root_does(guarded, "role grant-permission --prefix=true app readwrite /config/")


async def test_rights_taken_away_from_an_open_watch(guarded: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open watch goes on delivering, so a read finds out; given back, the rights are noticed too."""
    monkeypatch.setattr(following, "RIGHTS_EVERY", 0.5)
    async with tideover.connect(guarded.endpoint, cache_dir=False, **LOGIN) as tide:
        await tide.config.put("timeout", 2.5)
        await until(lambda: tide.config.get("timeout", float, default=0.0) == 2.5, within=2)
        known = tide.status().config[0].keys
        try:
            await root_does(guarded, "user revoke-role app app")
            with anyio.fail_after(3), pytest.raises(tideover.PermissionDenied):
                while True:
                    tide.config.get("timeout", float)
                    await anyio.sleep(0.01)
            # What was read before is still held, and may not be used: it is neither live nor served from anywhere.
            assert tide.status().config[0].keys == known
            said = "Config '/config/' may not be read: etcd denies it to this user."
            assert said in tide.status().sentence
        finally:
            await root_does(guarded, "user grant-role app app")
        await until(lambda: tide.status().config[0].error is None, within=8)
        assert tide.config.get("timeout", float) == 2.5
        assert "Config '/config/' is live." in tide.status().sentence


async def test_credentials_are_shown_nowhere(
    guarded: EtcdServer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Neither password nor token is in a log, a repr, a span, the status, an error or a file."""
    caplog.set_level(logging.DEBUG)
    recorded = install()
    recorded.clear()
    shown: list[str] = []
    secrets = {PASSWORD, "wrong-pass-phrase"}
    for password in sorted(secrets):
        login = Login(username="app", password=password)
        with pytest.raises(ValueError) as half:
            tideover.connect(guarded.endpoint, password=password)
        async with tideover.connect(guarded.endpoint, cache_dir=tmp_path / password[:3], **login) as tide:
            try:
                await tide.config.put("timeout", 2.5)
            except tideover.AuthenticationFailed as exc:
                shown.append(repr(exc))
            store = tide._parts.store
            assert isinstance(store, EtcdStore)
            assert store._login is not None
            if store._login._token:
                secrets.add(store._login._token)
            parts = [
                tide,
                tide._parts.options,
                tide.config,
                tide.health,
                store,
                store._login,
                tide._parts.client.state,
            ]
            shown += [repr(half.value), *map(repr, parts), str(tide.status().to_dict())]
    spans = recorded.spans()
    assert len(spans) > 2
    shown += [span.to_json() for span in spans] + [caplog.text]
    shown += [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(secrets) == 3
    assert [text for text in shown for secret in secrets if secret in text] == []


async def _fault_of_logging_in(endpoint: str) -> Fault:
    store = EtcdStore([endpoint], **LOGIN)
    try:
        with pytest.raises(StoreFault) as caught:
            await store.call(Put(b"/config/k", b"v"), member=endpoint, timeout=2)
    finally:
        await store.aclose()
    return caught.value.fault


@pytest.mark.parametrize("ttl", [300, 1])
async def test_a_lost_quorum_is_an_outage_and_no_refusal(ttl: int) -> None:
    """With living tokens the survivor serves; with dead ones, which nobody can renew, it is an outage still."""
    with EtcdCluster(args=(f"--auth-token-ttl={ttl}", "--bcrypt-cost=4")) as cluster:
        enable_auth(cluster)
        seen: set[Diagnosis] = set()
        async with tideover.connect(*cluster.endpoints, cache_dir=False, **LOGIN) as tide:
            await tide.config.put("timeout", 2.5)
            cluster.lose_quorum()
            if ttl == 1:
                cluster.members[-1].pause()
                await anyio.sleep(2.5)
                cluster.members[-1].resume()
            declared_at = math.inf
            with anyio.fail_after(10):
                # And on: a refusal would be called one only after an outage has been declared.
                while time.monotonic() < declared_at + 2:
                    if tide.health.state is not HealthState.AVAILABLE:
                        declared_at = min(declared_at, time.monotonic())
                    seen.add(tide.health.diagnosis)
                    assert tide.config.get("timeout", float) == 2.5
                    await anyio.sleep(0.1)
            assert Diagnosis.UNAUTHORIZED not in seen
            assert tide.health.state is not HealthState.AVAILABLE
            if ttl == 300:
                assert tide.health.state is HealthState.DEGRADED
                assert tide.config.read("timeout", float).source is Source.MEMBER
            with pytest.raises(tideover.Unavailable):
                await tide.config.put("timeout", 3.5)
            fault = await _fault_of_logging_in(cluster.endpoints[-1])
            assert fault.outage
            assert not fault.applied
            cluster.restore_quorum()
            await until(lambda: tide.config.read("timeout", float).source is Source.LIVE, within=15)
            assert tide.status().restarts == 0
