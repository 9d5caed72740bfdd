"""TLS against a real etcd that insists on client certificates."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import tideover
from tests.etcd.certificates import Authority, Signed
from tideover import HealthState, Tls
from tideover.etcd.adapter import EtcdStore
from tideover.etcd.tls import TlsFiles, read_material
from tideover.store.faults import FaultKind, StoreFault
from tideover.store.operations import Put, Range
from tideover.testing import EtcdServer

needs_etcd = pytest.mark.etcd


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the certificates are."""
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    """The CA of servers and clients."""
    return Authority(folder)


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Authority:
    """A CA that nobody trusts."""
    return Authority(folder, "stranger")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Signed:
    """The client's certificate."""
    return authority.sign("client")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[EtcdServer]:
    """An etcd that takes only clients of its CA."""
    with EtcdServer(tls=authority.sign("etcd.internal").trusting(authority.cert)) as running:
        yield running


@asynccontextmanager
async def _open(server: EtcdServer, tls: Tls | None, *, look_every: float = 60.0) -> AsyncIterator[EtcdStore]:
    store = EtcdStore([server.endpoint], tls=tls, look_every=look_every)
    try:
        yield store
    finally:
        await store.aclose()


async def _read(store: EtcdStore) -> int:
    return (await store.call(Range(b"k"), member=store.members[0], timeout=5)).header.revision


@needs_etcd
@pytest.mark.anyio
async def test_both_ends_show_certificates(server: EtcdServer, authority: Authority, client: Signed) -> None:
    """With certificates on both ends configuration is read, written and followed as without."""
    tls = client.trusting(authority.cert)
    async with tideover.connect(f"https://{server.endpoint}", tls=tls, cache_dir=False) as tide:
        assert tide.health.state is HealthState.AVAILABLE
        await tide.config.put("timeout", 2.5)
        assert tide.config.get("timeout", float) == 2.5
        await anyio.to_thread.run_sync(server.etcdctl, "put", "/config/timeout", "3.5")
        with anyio.fail_after(2):
            while tide.config.get("timeout", float) != 3.5:
                await anyio.sleep(0.01)


@needs_etcd
@pytest.mark.anyio
async def test_the_name_to_expect_can_be_given(server: EtcdServer, authority: Authority, client: Signed) -> None:
    """`server_name` is what the certificate must say, instead of the endpoint's host."""
    tls = Tls(ca=authority.cert, cert=client.cert, key=client.key, server_name="etcd.internal")
    async with _open(server, tls) as store:
        assert await _read(store) > 0


@needs_etcd
@pytest.mark.anyio
@pytest.mark.parametrize("mistake", ["ca", "no certificate", "stranger's certificate", "server_name"])
async def test_mistakes_are_called_tls_configuration(
    server: EtcdServer, authority: Authority, stranger: Authority, client: Signed, mistake: str
) -> None:
    """A wrong CA, a missing or untrusted certificate and a wrong name are outages whose message says TLS."""
    wrong = stranger.sign("outsider")
    tls = {
        "ca": Tls(ca=stranger.cert, cert=client.cert, key=client.key),
        "no certificate": Tls(ca=authority.cert),
        "stranger's certificate": Tls(ca=authority.cert, cert=wrong.cert, key=wrong.key),
        "server_name": Tls(ca=authority.cert, cert=client.cert, key=client.key, server_name="elsewhere"),
    }[mistake]
    async with _open(server, tls) as store:
        with pytest.raises(StoreFault, match="TLS configuration") as caught:
            await _read(store)
    assert caught.value.fault.kind is FaultKind.UNREACHABLE


@needs_etcd
@pytest.mark.anyio
async def test_the_status_says_tls(server: EtcdServer, stranger: Authority) -> None:
    """A coordinator that cannot connect says in its status and to its callers that it is for TLS."""
    async with tideover.connect(server.endpoint, tls=Tls(ca=stranger.cert), cache_dir=False) as tide:
        assert tide.health.state is HealthState.UNAVAILABLE
        assert "TLS configuration" in tide.status().sentence
        with pytest.raises(tideover.Unavailable, match="TLS configuration"):
            await tide.config.fetch("timeout")


@needs_etcd
@pytest.mark.anyio
async def test_certificates_are_rotated_without_a_restart(tmp_path: Path) -> None:
    """New files are used as soon as they are whole; half a rotation harms no connection that works."""
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    both = tmp_path / "both.pem"
    both.write_bytes(old.cert.read_bytes() + new.cert.read_bytes())
    ours = old.sign("client", file="ours")
    tls = Tls(ca=both, cert=ours.cert, key=ours.key)
    with EtcdServer(tls=new.sign("server").trusting(new.cert)) as server:
        async with _open(server, tls, look_every=0.0) as store:
            with pytest.raises(StoreFault, match="TLS configuration"):
                await _read(store)  # etcd does not trust the old CA
            next_ = new.sign("client", file="next")
            os.replace(next_.cert, ours.cert)
            with pytest.raises(StoreFault, match="TLS configuration"):
                await _read(store)  # half a rotation is left alone
            os.replace(next_.key, ours.key)
            assert await _read(store) > 0

            third = new.sign("client", file="third")
            shutil.copy(third.key, ours.key)
            assert await _read(store) > 0
            shutil.copy(third.cert, ours.cert)
            for _ in range(20):
                await store.call(Put(b"k", b"v"), member=server.endpoint, timeout=5)


@needs_etcd
@pytest.mark.anyio
async def test_rotation_under_watches_and_sessions(tmp_path: Path) -> None:
    """Certificates change under open streams: every change is seen once and in order; the lease is the same."""
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    both = tmp_path / "both.pem"
    both.write_bytes(old.cert.read_bytes() + new.cert.read_bytes())
    ours = old.sign("client", file="ours")
    seen: list[str | None] = []
    with EtcdServer(tls=new.sign("server").trusting(both)) as server:
        other = Tls(ca=both, cert=(theirs := old.sign("other", file="theirs")).cert, key=theirs.key)
        async with (
            _open(server, other) as writer,
            tideover.connect(server.endpoint, cache_dir=False, tls=Tls(both, ours.cert, ours.key)) as tide,
            tide.session(ttl=6, on_outage="lose") as session,
            anyio.create_task_group() as tasks,
        ):
            changes = tide.config.changes("n/")

            async def follow() -> None:
                async for change in changes:
                    seen.append(change.value)  # noqa: PERF401 - it has no end

            tasks.start_soon(follow)
            store = tide._parts.store
            assert isinstance(store, EtcdStore)
            store._look_every = 0.0
            lease, streams = session.lease_id, store._watches[server.endpoint]._streams
            written = 0
            for rotation in range(2):
                before = set(streams)
                fresh = new.sign("client", file=f"fresh{rotation}")
                os.replace(fresh.key, ours.key)
                os.replace(fresh.cert, ours.cert)
                with anyio.fail_after(10):
                    while not before.isdisjoint(streams):
                        # A key of its own: of one key, a slow reader is told the newest change alone.
                        put = Put(f"/config/n/{written}".encode(), str(written).encode())
                        await writer.call(put, member=server.endpoint, timeout=5)
                        await tide.config.fetch(f"n/{written}")
                        written += 1
                        await anyio.sleep(0.02)
            with anyio.fail_after(5):
                while len(seen) < written:
                    await anyio.sleep(0.01)
            assert seen == [str(number) for number in range(written)]
            session.check()
            assert (session.lease_id, tide.health.state) == (lease, HealthState.AVAILABLE)
            assert tide.status().restarts == 0
            tasks.cancel_scope.cancel()


def _rewrite(source: Path, target: Path) -> None:
    """Copy a file, a second later by its own time: within one tick of the kernel's clock nobody sees a change."""
    shutil.copy(source, target)
    changed = target.stat().st_mtime_ns + 10**9
    os.utime(target, ns=(changed, changed))


def test_a_set_that_does_not_fit_is_left_alone(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """A certificate without its key is not used, is logged once, and taken when it is whole."""
    first, second = authority.sign("first"), authority.sign("second")
    ours = Signed(tmp_path / "ours.crt", tmp_path / "ours.key")
    shutil.copy(first.cert, ours.cert)
    shutil.copy(first.key, ours.key)
    files = TlsFiles(ours.trusting(authority.cert))
    before = files.material
    assert not files.refresh()
    _rewrite(second.cert, ours.cert)
    assert [files.refresh(), files.refresh()] == [False, False]
    assert files.material is before
    assert len(caplog.records) == 1
    ours.key.unlink()
    assert not files.refresh()
    _rewrite(second.key, ours.key)
    assert files.refresh()
    assert files.material.cert == second.cert.read_bytes()
    assert not files.refresh()


def test_files_that_are_no_certificates_are_refused(tmp_path: Path, authority: Authority, client: Signed) -> None:
    """What cannot be used is refused with the files' names, and with nothing of their content."""
    other = authority.sign("other")
    with pytest.raises(ValueError, match=r"client\.crt.*cannot be used"):
        read_material(Tls(ca=authority.cert, cert=client.cert, key=other.key))
    junk = tmp_path / "junk.pem"
    junk.write_text("secret")
    with pytest.raises(ValueError, match=r"junk\.pem") as caught:
        read_material(Tls(ca=junk))
    assert "secret" not in str(caught.value)


def test_nothing_of_a_key_is_shown(authority: Authority, client: Signed) -> None:
    """The contents of the files are in no repr."""
    files = TlsFiles(client.trusting(authority.cert))
    shown = f"{files!r} {files.material!r}"
    assert client.key.read_text().splitlines()[1] not in shown


def test_without_a_ca_the_systems_are_trusted() -> None:
    """`Tls()` trusts what the machine trusts."""
    material = read_material(Tls())
    assert material.ca is None or b"BEGIN CERTIFICATE" in material.ca
