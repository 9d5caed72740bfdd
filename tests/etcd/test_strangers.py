"""What answers at a learned address is not always the member that was learned: it sees no token, no password."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import grpc
import pytest

import tideover
from tests.etcd.certificates import Authority
from tests.etcd.impostor import Impostor, Relay
from tideover import HealthState, Tls
from tideover.etcd.adapter import EtcdStore
from tideover.store.endpoints import Address
from tideover.store.faults import FaultKind, StoreFault
from tideover.store.operations import MemberList, Put, Range, Status
from tideover.testing import EtcdCluster, EtcdServer
from tideover.types import Header

pytestmark = [pytest.mark.etcd, pytest.mark.anyio, pytest.mark.version]

ELSEWHERE = (0xBAD, 0xBAD)


def enable_auth(etcd: EtcdServer | EtcdCluster) -> None:
    """Make the users root and app; app may do all with `/shop/`."""
    for command in (
        "user add root:root",
        "user grant-role root root",
        "role add app",
        "role grant-permission --prefix=true app readwrite /shop/",
        "user add app:password",
        "user grant-role app app",
        "auth enable",
    ):
        etcd.etcdctl(*command.split())


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """An etcd that asks for a password, and cheaply so."""
    with EtcdServer(args=("--bcrypt-cost=4",)) as running:
        enable_auth(running)
        yield running


@asynccontextmanager
async def store_at(endpoint: str, tls: Tls | None = None) -> AsyncIterator[EtcdStore]:
    """Connect with a user."""
    store = EtcdStore([endpoint], username="app", password="password", tls=tls)
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def impostor_with(ids: tuple[int, int], credentials: object = None) -> AsyncIterator[Impostor]:
    """Run an impostor."""
    impostor = Impostor(ids)
    await impostor.start(credentials)
    try:
        yield impostor
    finally:
        await impostor.stop()


async def ids_of(store: EtcdStore) -> tuple[int, int]:
    """Return the true member's ids."""
    header: Header = (await store.call(MemberList(), member=store.members[0], timeout=2)).header
    return header.cluster_id, header.member_id


async def test_another_one_is_never_joined(server: EtcdServer) -> None:
    """Who answers with other ids than the list has is refused, and has been asked nothing but who it is."""
    async with store_at(server.endpoint) as store, impostor_with(ELSEWHERE) as impostor:
        expected = await ids_of(store)
        with pytest.raises(StoreFault, match="another member answers") as caught:
            await store.add(Address(f"127.0.0.1:{impostor.port}"), expected=expected, timeout=2)
        assert caught.value.fault.kind is FaultKind.FOREIGN
        assert len(store.members) == 1
        assert impostor.seen
        assert impostor.secrets == []


async def test_a_true_member_is_shown_the_token(server: EtcdServer) -> None:
    """A learned member that is who it should be is used like any other: reads, watches and logins go there."""
    async with Relay(int(server.endpoint.rpartition(":")[2])).running() as relay:
        async with store_at(server.endpoint) as store:
            await store.add(Address(relay.endpoint), expected=await ids_of(store), timeout=2)
            await store.call(Put(b"/shop/a", b"1"), member=relay.endpoint, timeout=2)
            opening = store.watch(b"/shop/", None, start_revision=0, member=relay.endpoint, timeout=2)
            async with opening as watch:
                assert watch.opened_at


@pytest.mark.parametrize("what", ["read", "write", "watch", "renew", "login"])
async def test_an_address_that_is_given_to_another(server: EtcdServer, what: str) -> None:
    """A process at a learned member's address, after it, is sent no token and no password by anything we do."""
    async with (
        Relay(int(server.endpoint.rpartition(":")[2])).running() as relay,
        impostor_with(ELSEWHERE) as impostor,
        store_at(server.endpoint) as store,
    ):
        await store.add(Address(relay.endpoint), expected=await ids_of(store), timeout=2)
        await store.call(Range(b"/shop/a"), member=relay.endpoint, timeout=2)
        relay.lead_to(impostor.port)
        # Time for gRPC to hear that its connection is gone.
        await anyio.sleep(0.1)
        if what == "login":
            assert store._login
            store._login.forget(store._login._token or "")
        with anyio.fail_after(8):
            while not impostor.seen:
                # The first attempts end with the old connection.
                with pytest.raises(StoreFault):
                    if what == "watch":
                        opening = store.watch(b"/shop/", None, start_revision=0, member=relay.endpoint, timeout=2)
                        async with opening as watch:
                            await watch.receive()
                    elif what == "renew":
                        async with store.keep_alive(member=relay.endpoint) as stream:
                            await stream.renew(1)
                    elif what == "write":
                        await store.call(Put(b"/shop/a", b"2"), member=relay.endpoint, timeout=2)
                    else:
                        await store.call(Range(b"/shop/a"), member=relay.endpoint, timeout=2)
        assert impostor.secrets == []


async def test_the_moment_in_which_a_connection_breaks(server: EtcdServer) -> None:
    """A call sent as its connection breaks may reach another process: its answer is refused, as are later ones."""
    async with (
        Relay(int(server.endpoint.rpartition(":")[2])).running() as relay,
        impostor_with(ELSEWHERE) as impostor,
        store_at(server.endpoint) as store,
    ):
        await store.add(Address(relay.endpoint), expected=await ids_of(store), timeout=2)
        await store.call(Range(b"/shop/a"), member=relay.endpoint, timeout=2)
        relay.lead_to(impostor.port)
        with pytest.raises(StoreFault):
            await store.call(Range(b"/shop/a"), member=relay.endpoint, timeout=2)
        seen = len(impostor.secrets)
        for _ in range(3):
            with pytest.raises(StoreFault, match="another member answers"):
                await store.call(Range(b"/shop/a"), member=relay.endpoint, timeout=2)
        assert len(impostor.secrets) == seen <= 1


async def test_who_is_silent_is_told_nothing(server: EtcdServer) -> None:
    """Somebody who takes the connection and never answers is not logged in to."""
    received = bytearray()
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as silent,
        anyio.create_task_group() as tasks,
        store_at(server.endpoint) as store,
    ):
        expected = await ids_of(store)

        async def listen(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                async for data in stream:
                    received.extend(data)

        tasks.start_soon(silent.serve, listen)
        port = silent.extra(anyio.abc.SocketAttribute.local_port)
        with pytest.raises(StoreFault):
            await store.add(Address(f"127.0.0.1:{port}"), expected=expected, timeout=1)
        assert b"password" not in received
        assert b"Authenticate" not in received
        tasks.cancel_scope.cancel()


async def test_tls_tells_who_repeats_the_ids(tmp_path: Path) -> None:
    """Over TLS a process without the members' certificate is sent nothing, even if it claims to be the member."""
    ours, theirs = Authority(tmp_path), Authority(tmp_path, "stranger")
    signed, forged = ours.sign("etcd.internal"), theirs.sign("etcd.internal", file="forged")
    credentials = grpc.ssl_server_credentials([(forged.key.read_bytes(), forged.cert.read_bytes())])
    tls = Tls(ca=ours.cert)
    with EtcdServer(tls=Tls(ca=None, cert=signed.cert, key=signed.key), args=("--bcrypt-cost=4",)) as etcd:
        async with store_at(etcd.endpoint, tls) as store:
            header = (await store.call(Status(), member=etcd.endpoint, timeout=5)).header
            ids = header.cluster_id, header.member_id
            async with (
                impostor_with(ids, credentials) as impostor,
                Relay(int(etcd.endpoint.rpartition(":")[2])).running() as relay,
            ):
                await store.add(Address(relay.endpoint), expected=ids, timeout=5)
                await store.call(Range(b"/shop/a"), member=relay.endpoint, timeout=5)
                relay.lead_to(impostor.port)
                for _ in range(5):
                    with pytest.raises(StoreFault):
                        await store.call(Range(b"/shop/a"), member=relay.endpoint, timeout=1)
                with pytest.raises(StoreFault):
                    await store.add(Address(f"127.0.0.1:{impostor.port}"), expected=ids, timeout=2)
                assert impostor.seen == []


async def test_a_cluster_whose_list_leads_astray(server: EtcdServer) -> None:
    """With a list that names a stranger's address, a client goes on, says so, and the stranger has no token."""
    async with impostor_with(ELSEWHERE) as impostor:
        cluster = EtcdCluster(args=("--bcrypt-cost=4",))
        cluster.members[2]._args += (f"--advertise-client-urls=http://127.0.0.1:{impostor.port}",)
        with cluster:
            enable_auth(cluster)
            async with tideover.connect(
                cluster.endpoints[0], cache_dir=False, namespace="/shop", username="app", password="password"
            ) as tide:
                with anyio.fail_after(10):
                    while not any("another member" in (member.error or "") for member in tide.status().members):
                        await anyio.sleep(0.05)
                with anyio.fail_after(10):
                    while cluster.endpoints[1] not in [m.endpoint for m in tide.status().members if m.answers]:
                        await anyio.sleep(0.05)
                assert tide.health.state is HealthState.AVAILABLE
    assert impostor.seen
    assert impostor.secrets == []
