"""Users and passwords against a real etcd whose tokens live for four seconds."""

from __future__ import annotations

import gc
import logging
import math
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

import anyio
import anyio.abc
import anyio.to_thread
import pytest

import tideover
from tests.canaries import canary
from tests.telemetry.recording import install
from tideover import Diagnosis, HealthState, Source
from tideover.epoch.marker import catch_up
from tideover.etcd.adapter import EtcdStore
from tideover.policies import Password
from tideover.prefixes import followed as following
from tideover.store.faults import Fault, FaultKind, StoreFault
from tideover.store.operations import Put, Range
from tideover.testing import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.anyio, pytest.mark.takes(80), pytest.mark.version]

PASSWORD = canary("auth-password")


class Login(TypedDict):
    """Who logs in, and with what."""

    username: str
    password: str


LOGIN = Login(username="app", password=PASSWORD)
TTL = 4


@pytest.fixture
def anyio_backend() -> str:
    """The store belongs to asyncio."""
    return "asyncio"


def _administer(etcd: EtcdServer | EtcdCluster, *commands: str) -> None:
    for command in commands:
        etcd.etcdctl("--user=root:root", *command.split())


def _enable_auth(etcd: EtcdServer | EtcdCluster) -> None:
    """Make the users root and app; app may do all with `/config/`."""
    for command in (
        "user add root:root",
        "user grant-role root root",
        "role add app",
        "role grant-permission --prefix=true app readwrite /config/",
        f"user add app:{PASSWORD}",
        "user grant-role app app",
        "auth enable",
    ):
        etcd.etcdctl(*command.split())


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """An etcd that asks for a password, with the least cost of checking one."""
    with EtcdServer(args=(f"--auth-token-ttl={TTL}", "--bcrypt-cost=4")) as running:
        _enable_auth(running)
        yield running


async def _root(server: EtcdServer, *commands: str) -> None:
    await anyio.to_thread.run_sync(_administer, server, *commands)


async def _until(condition: Callable[[], object], within: float) -> None:
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.01)


async def test_tokens_expire_and_nobody_notices(server: EtcdServer, caplog: pytest.LogCaptureFixture) -> None:
    """Over several lives of a token every write is seen once and in order, and nothing fails or is degraded.

    A lease that is renewed over one stream all the while is the same, and so is what it keeps.
    """
    caplog.set_level(logging.WARNING, "tideover")
    seen: list[str | None] = []
    async with (
        tideover.connect(server.endpoint, cache_dir=False, namespace="/config/app", **LOGIN) as tide,
        tide.session(ttl=5) as session,
        tide.lock("x", ttl=5) as held,
    ):
        assert tide.health.state is HealthState.AVAILABLE
        await session.put("a", "1")
        lease, token = session.lease_id, held.token
        changes = tide.config.changes("n/")

        async def follow() -> None:
            async for change in changes:
                seen.append(change.value)  # noqa: PERF401 - it has no end

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            for number in range(4):
                await tide.config.put("n/x", number)
                await anyio.sleep(0.5)
                await tide.config.fetch("n/x", int)
                await anyio.sleep(0 if number % 2 else TTL + 0.7)
                session.check()
                held.check()
            await _until(lambda: seen == ["0", "1", "2", "3"], within=2)
            tasks.cancel_scope.cancel()
        await session.put("b", "2")
        assert (session.lease_id, held.token) == (lease, token)
        assert tide.config.read("n/x", int).source is Source.LIVE
        assert tide.status().restarts == 0
    assert caplog.records == []


async def test_an_expired_token_is_renewed_once_for_all(server: EtcdServer) -> None:
    """Calls that are refused for their token together log in once; reads, writes and watches go on."""
    store = EtcdStore([server.endpoint], **LOGIN)
    try:
        member = store.members[0]
        await store.call(Put(b"/config/k", b"1"), member=member, timeout=5)
        assert store._login is not None
        first = store._login._token
        await anyio.sleep(TTL + 1.5)
        tokens = set()

        async def write() -> None:
            await store.call(Put(b"/config/k", b"2"), member=member, timeout=5)
            assert store._login is not None
            tokens.add(store._login._token)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(write)
        assert len(tokens) == 1
        assert tokens != {first}

        await anyio.sleep(TTL + 1.5)
        async with store.watch(b"/config/k", None, start_revision=1, member=member, timeout=5) as watch:
            assert len((await watch.receive()).events) == 11
    finally:
        await store.aclose()


async def test_a_denied_watch_harms_no_other(server: EtcdServer) -> None:
    """Watches that are refused leave those that are open alone, and those that are opened next."""
    store = EtcdStore([server.endpoint], **LOGIN)
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


async def test_an_open_watch_outlives_its_token(server: EtcdServer) -> None:
    """A watch goes on when its stream's token has expired; new ones get a stream with a new token."""
    store = EtcdStore([server.endpoint], **LOGIN)
    try:
        member = store.members[0]
        async with store.watch(b"/config/t", None, start_revision=0, member=member, timeout=5) as old:
            await anyio.sleep(TTL + 1.5)
            async with store.watch(b"/config/t", None, start_revision=0, member=member, timeout=5) as new:
                await store.call(Put(b"/config/t", b"1"), member=member, timeout=5)
                with anyio.fail_after(2):
                    for watch in (old, new):
                        assert len((await watch.receive()).events) == 1
                assert len(store._watches[member]._streams) == 2
            assert len(store._watches[member]._streams) == 1
    finally:
        await store.aclose()


async def test_whoever_has_no_rights_has_an_entry_applied(server: EtcdServer) -> None:
    """A user without a right to any key lets a member apply an entry of the log, by which it learns the term."""
    await _root(server, "user add nobody:nobody")
    store = EtcdStore([server.endpoint], username="nobody", password="nobody")
    try:
        member = store.members[0]
        with pytest.raises(StoreFault, match="permission denied"):
            await store.call(Range(b"/config/a"), member=member, timeout=5)
        before = _applied(server)
        await catch_up(store, member)
        assert _applied(server) == before + 1
    finally:
        await store.aclose()


def _applied(server: EtcdServer) -> int:
    with urllib.request.urlopen(f"http://{server.endpoint}/metrics", timeout=5) as reply:
        found = re.search(r"^etcd_server_proposals_applied_total (\S+)$", reply.read().decode(), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


async def test_a_denied_watch_does_not_hang(server: EtcdServer) -> None:
    """A watch of what the user may not read is refused, in time and as what it is."""
    store = EtcdStore([server.endpoint], **LOGIN)
    try:
        with anyio.fail_after(2), pytest.raises(StoreFault) as caught:
            async with store.watch(b"/other", None, start_revision=0, member=store.members[0], timeout=5):
                pytest.fail("it was opened")
        assert caught.value.fault.kind is FaultKind.PERMISSION
    finally:
        await store.aclose()


async def test_a_wrong_password(server: EtcdServer) -> None:
    """A refused login is no outage: UNAUTHORIZED with its sentence, and AuthenticationFailed from every call."""
    wrong = Login(username="app", password="wrong")
    async with tideover.connect(server.endpoint, cache_dir=False, **wrong) as tide:
        assert tide.health.diagnosis is Diagnosis.UNAUTHORIZED
        assert "refuses this client's credentials: " in tide.status().sentence
        assert "invalid user ID or password" in tide.status().sentence
        with pytest.raises(tideover.AuthenticationFailed):
            tide.config.get("timeout", float, default=1.0)
        with pytest.raises(tideover.AuthenticationFailed):
            await tide.config.fetch("timeout")
        with pytest.raises(tideover.AuthenticationFailed):
            await tide.config.put("timeout", 1)
        assert tide.status().restarts == 0
    with pytest.raises(tideover.AuthenticationFailed):
        async with tideover.connect(server.endpoint, cache_dir=False, require="etcd", **wrong):
            pytest.fail("it was entered")


async def test_no_user_where_etcd_wants_one(server: EtcdServer) -> None:
    """Without a login etcd's refusal is one of the credentials."""
    async with tideover.connect(server.endpoint, cache_dir=False) as tide:
        assert tide.health.diagnosis is Diagnosis.UNAUTHORIZED
        with pytest.raises(tideover.AuthenticationFailed, match="user name is empty"):
            await tide.config.fetch("timeout")


async def test_a_password_that_is_changed_under_a_client(server: EtcdServer) -> None:
    """Declared after the usual time; what is known stays served, labelled; the old password back, all is well."""
    async with tideover.connect(server.endpoint, cache_dir=False, **LOGIN) as tide:
        await tide.config.put("timeout", 2.5)
        try:
            await anyio.to_thread.run_sync(lambda: _passwd(server, "changed"))
            began = time.monotonic()
            await _until(lambda: tide.health.state is HealthState.UNAVAILABLE, within=12)
            assert time.monotonic() - began >= 3
            assert tide.health.diagnosis is Diagnosis.UNAUTHORIZED
            reading = tide.config.read("timeout", float)
            assert (reading.value, reading.source, reading.stale) == (2.5, Source.MEMORY, True)
        finally:
            await anyio.to_thread.run_sync(lambda: _passwd(server, PASSWORD))
        await _until(lambda: tide.config.read("timeout", float).source is Source.LIVE, within=5)
        assert tide.status().restarts == 0


@pytest.mark.parametrize("form", ["file", "function", "async function"])
async def test_a_password_that_is_rotated(server: EtcdServer, tmp_path: Path, form: str) -> None:
    """A changed password is used at the next refused token, without a restart and without an outage."""
    now = [PASSWORD]
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")

    async def ask() -> str:
        return now[0]

    sources: dict[str, Password] = {"file": path, "function": lambda: now[0], "async function": ask}
    async with tideover.connect(server.endpoint, cache_dir=False, username="app", password=sources[form]) as tide:
        await tide.config.put("timeout", 1.5)
        try:
            for password in ("changed", "changed-again"):
                await anyio.to_thread.run_sync(lambda new=password: _passwd(server, new))  # type: ignore[misc]
                # As whatever mounts secrets does it: whole, in place of the old one.
                (tmp_path / "new").write_text(f"{password}\n")
                (tmp_path / "new").rename(path)
                now[0] = password
                await tide.config.put("timeout", 2.5)
                await anyio.sleep(3.5)
                assert tide.health.state is HealthState.AVAILABLE
                assert tide.config.read("timeout", float).source is Source.LIVE
        finally:
            await anyio.to_thread.run_sync(lambda: _passwd(server, PASSWORD))
        assert tide.status().restarts == 0


async def test_a_refusal_does_not_hide_a_new_password(server: EtcdServer) -> None:
    """A refused password is believed for 2 s without asking etcd; another one is tried at once."""
    now = ["wrong"]
    store = EtcdStore([server.endpoint], username="app", password=lambda: now[0])
    try:
        member = store.members[0]
        tried = []
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(StoreFault) as caught:
                await store.call(Range(b"/config/k"), member=member, timeout=5)
            assert caught.value.fault.kind is FaultKind.AUTHENTICATION
            tried.append(time.monotonic() - began)
        assert store._login is not None
        refused_at = store._login._refused_at
        now[0] = PASSWORD
        await store.call(Range(b"/config/k"), member=member, timeout=5)
        assert time.monotonic() - refused_at < 2
    finally:
        await store.aclose()


async def test_a_password_file_that_is_gone(
    server: EtcdServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage that names the file, declared as any other; values from memory; over when the file is back."""
    path = tmp_path / "password"
    path.write_text(PASSWORD)
    async with tideover.connect(server.endpoint, cache_dir=False, username="app", password=path) as tide:
        await tide.config.put("timeout", 2.5)
        path.rename(tmp_path / "away")
        # Whose password changed has no valid token any more.
        await anyio.to_thread.run_sync(lambda: _passwd(server, PASSWORD))
        await _until(lambda: tide.health.state is HealthState.UNAVAILABLE, within=12)
        assert tide.health.diagnosis is Diagnosis.CUT_OFF
        assert "the password file cannot be read (No such file or directory): " in tide.status().sentence
        reading = tide.config.read("timeout", float)
        assert (reading.value, reading.source, reading.stale) == (2.5, Source.MEMORY, True)
        with pytest.raises(tideover.Unavailable):
            await tide.config.put("timeout", 3.5)
        (tmp_path / "away").rename(path)
        await _until(lambda: tide.config.read("timeout", float).source is Source.LIVE, within=5)
        await tide.config.put("timeout", 4.5)
        assert tide.status().restarts == 0
    assert PASSWORD not in caplog.text


async def test_a_start_without_a_password(server: EtcdServer, tmp_path: Path) -> None:
    """A source that gives none at the start is an outage at the start: entered, or `Unavailable` if required."""
    missing = tmp_path / "missing"
    async with tideover.connect(server.endpoint, cache_dir=False, username="app", password=missing) as tide:
        assert tide.config.get("timeout", float, default=1.0) == 1.0
        assert "the password file cannot be read (No such file" in tide.status().sentence
    with pytest.raises(tideover.Unavailable, match="the password file cannot be read"):
        async with tideover.connect(
            server.endpoint, cache_dir=False, username="app", password=missing, require="etcd"
        ):
            pytest.fail("it was entered")


def _passwd(server: EtcdServer, password: str) -> None:
    server.etcdctl("--user=root:root", "user", "passwd", "app", "--interactive=false", input=f"{password}\n")


async def test_a_followed_prefix_that_may_not_be_read(server: EtcdServer) -> None:
    """`get` raises PermissionDenied, default or not; etcd is not called away."""
    async with tideover.connect(server.endpoint, namespace="/other", cache_dir=False, **LOGIN) as tide:
        assert tide.health.state is HealthState.AVAILABLE
        with pytest.raises(tideover.PermissionDenied):
            tide.config.get("timeout", default="1")
        with pytest.raises(tideover.PermissionDenied):
            await tide.config.put("timeout", 1)
        said = "Config '/other/config/' may not be read: etcd denies it to this user."
        report = tide.status()
        assert (said in report.sentence, report.config[0].denied) == (True, True)


async def test_a_denied_prefix_costs_another_nothing(server: EtcdServer) -> None:
    """Where one prefix is denied, the other is followed and proven by reads that are not."""
    prefixes = ("no/", "yes/")
    await _root(server, "role revoke-permission app /config/ --prefix=true")
    await _root(server, "role grant-permission --prefix=true app readwrite /config/yes/")
    try:
        async with tideover.connect(server.endpoint, follow=prefixes, cache_dir=False, **LOGIN) as tide:
            with pytest.raises(tideover.PermissionDenied):
                tide.config.get("no/x", default="")
            await _until(lambda: tide.config.read("yes/x").source is Source.LIVE, within=1)
            await anyio.sleep(13)  # longer than a proof counts
            assert tide.config.read("yes/x").source is Source.LIVE
    finally:
        await _root(server, "role revoke-permission app /config/yes/ --prefix=true")
        await _root(server, "role grant-permission --prefix=true app readwrite /config/")


async def test_rights_taken_away_from_an_open_watch(server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open watch goes on delivering, so a read finds out; given back, the rights are noticed too."""
    monkeypatch.setattr(following, "RIGHTS_EVERY", 0.5)
    async with tideover.connect(server.endpoint, cache_dir=False, **LOGIN) as tide:
        await tide.config.put("timeout", 2.5)
        await _until(lambda: tide.config.get("timeout", float, default=0.0) == 2.5, within=2)
        known = tide.status().config[0].keys
        try:
            await _root(server, "user revoke-role app app")
            with anyio.fail_after(3), pytest.raises(tideover.PermissionDenied):
                while True:
                    tide.config.get("timeout", float)
                    await anyio.sleep(0.01)
            # What was read before is still held, and may not be used: it is neither live nor served from anywhere.
            assert tide.status().config[0].keys == known
            said = "Config '/config/' may not be read: etcd denies it to this user."
            assert said in tide.status().sentence
        finally:
            await _root(server, "user grant-role app app")
        await _until(lambda: tide.status().config[0].error is None, within=8)
        assert tide.config.get("timeout", float) == 2.5
        assert "Config '/config/' is live." in tide.status().sentence


async def test_credentials_are_shown_nowhere(
    server: EtcdServer, caplog: pytest.LogCaptureFixture, tmp_path: Path
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
            tideover.connect(server.endpoint, password=password)
        async with tideover.connect(server.endpoint, cache_dir=tmp_path / password[:3], **login) as tide:
            try:
                await tide.config.put("timeout", 2.5)
            except tideover.AuthenticationFailed as exc:
                shown.append(repr(exc))
            store = tide._store
            assert isinstance(store, EtcdStore)
            assert store._login is not None
            if store._login._token:
                secrets.add(store._login._token)
            parts = [tide, tide.options, tide.config, tide.health, store, store._login, tide._lanes]
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
        _enable_auth(cluster)
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
            await _until(lambda: tide.config.read("timeout", float).source is Source.LIVE, within=15)
            assert tide.status().restarts == 0


async def test_an_etcd_without_users_is_asked_without_a_token() -> None:
    """A login is no obstacle where etcd has no users yet, and is used as soon as it has."""
    with EtcdServer(args=("--bcrypt-cost=4",)) as server:
        async with tideover.connect(server.endpoint, cache_dir=False, **LOGIN) as tide:
            await tide.config.put("timeout", 1.5)
            await anyio.to_thread.run_sync(_enable_auth, server)
            await tide.config.put("timeout", 2.5)
            assert tide.config.get("timeout", float) == 2.5


async def test_members_that_leave_are_forgotten(server: EtcdServer) -> None:
    """A login that was made at a member that has left keeps nothing of it."""
    store = EtcdStore([server.endpoint, server.endpoint.replace("127.0.0.1", "localhost")], **LOGIN)
    try:
        login = store._login
        assert login is not None
        for member in store.members:
            login._token = None
            await store.call(Put(b"/config/k", b"1"), member=member, timeout=5)
        assert len(login._locks) == 2
        store.remove(store.members[1])
        await anyio.sleep(2.5)
        store._retired.clear()
        gc.collect()
        assert len(login._locks) == 1
    finally:
        await store.aclose()


async def test_a_silent_member_costs_the_others_no_login(server: EtcdServer) -> None:
    """A call that one member leaves unanswered is no reason to have another one check the password again."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as silent:
        endpoint = f"127.0.0.1:{silent.extra(anyio.abc.SocketAttribute.local_port)}"
        store = EtcdStore([server.endpoint, endpoint], **LOGIN)
        try:
            assert store._login
            await store.call(Range(b"/config/a"), member=server.endpoint, timeout=2)
            token = store._login._token
            for _ in range(3):
                with pytest.raises(StoreFault):
                    await store.call(Range(b"/config/a"), member=endpoint, timeout=0.2)
                await store.call(Range(b"/config/a"), member=server.endpoint, timeout=2)
                assert store._login._token == token
        finally:
            await store.aclose()


async def test_a_token_from_the_future_of_a_restored_etcd(tmp_path: Path) -> None:
    """etcd does not refuse it but waits for its time to come: one call is lost, and the next one logs in again."""
    with EtcdServer(args=("--bcrypt-cost=4",)) as etcd:
        _enable_auth(etcd)
        etcd.etcdctl("--user=root:root", "snapshot", "save", str(tmp_path / "backup"))
        store = EtcdStore([etcd.endpoint], **LOGIN)
        try:
            for _ in range(50):
                await store.call(Put(b"/config/a", b"1"), member=etcd.endpoint, timeout=2)
            assert store._login
            store._login.forget(store._login._token or "")
            await store.call(Range(b"/config/a"), member=etcd.endpoint, timeout=2)
            etcd.kill()
            etcd.restore(tmp_path / "backup")
            etcd.start()
            etcd.wait_ready()
            store.renew(etcd.endpoint)
            with pytest.raises(StoreFault) as caught:
                await store.call(Range(b"/config/a"), member=etcd.endpoint, timeout=0.8)
            assert caught.value.fault.kind is FaultKind.DEADLINE
            found = await store.call(Range(b"/config/a"), member=etcd.endpoint, timeout=2)
            assert not found.entries
        finally:
            await store.aclose()
