"""What is made on the way to etcd is an outage, never its refusal: certificates, proxies, and who is no etcd."""

from __future__ import annotations

import os
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import anyio
import anyio.to_thread
import grpc
import pytest
from cryptography import x509

import tideover
from tests.etcd.certificates import Authority
from tests.etcd.one_loop import anyio_backend, one_loop
from tests.etcd.ways import Listener, connecting, haproxy, listening, nginx, saying, silent
from tests.store.provocation import fault_of, meaning
from tideover import Diagnosis, HealthState, Source, Tls
from tideover.coordinator.coordinator import Coordinator
from tideover.etcd.adapter import EtcdStore
from tideover.etcd.http_proxy import proxy_for
from tideover.etcd.transports import VARIABLE
from tideover.store.endpoints import Address
from tideover.store.faults import Fault, StoreFault
from tideover.store.leases import LeaseGrant
from tideover.store.operations import LeaseResult, Put, Range
from tideover.testing import EtcdServer

__all__ = ["anyio_backend", "one_loop"]

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd, pytest.mark.anyio, pytest.mark.takes(45)]

UNREACHABLE = ("unreachable", True, False)
LOCALHOST = x509.IPAddress(ip_address("127.0.0.1"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA that clients trust."""
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine is told of proxies is not what is tested; where a test names one, gRPC is chosen."""
    if os.environ.get(VARIABLE) != "grpc":
        monkeypatch.delenv(VARIABLE, raising=False)
    for variable in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)


async def faults_at(endpoint: str, tls: Tls | None = None) -> list[Fault]:
    """Return how a read and a write at an endpoint fail."""
    store = EtcdStore([endpoint], tls=tls)
    try:
        return [
            await fault_of(store.call(op, member=endpoint, timeout=8)) for op in (Range(b"k"), Put(b"k", b"v"))
        ]
    finally:
        await store.aclose()


@asynccontextmanager
async def cut_off(endpoint: str, tls: Tls | None = None) -> AsyncIterator[Coordinator]:
    """Connect to what is in etcd's place; it must count as an outage."""
    async with tideover.connect(endpoint, tls=tls, cache_dir=False, start_timeout=3) as tide:
        assert (tide.health.state, tide.health.diagnosis) == (HealthState.UNAVAILABLE, Diagnosis.CUT_OFF)
        for call in (tide.config.fetch("k"), tide.config.put("k", "v")):
            with pytest.raises(tideover.Unavailable):
                await call
        yield tide


# Certificates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("san", "days"),
    [
        ((), (-1.0, 1.0)),
        ((x509.IPAddress(ip_address("10.9.9.9")),), (-1.0, 1.0)),
        ((x509.DNSName("etcd.internal"),), (-1.0, 1.0)),
        ((LOCALHOST,), (-2.0, -1.0)),
        ((LOCALHOST,), (1.0, 2.0)),
    ],
    ids=["no SAN", "another address", "names only", "expired", "not yet valid"],
)
async def test_a_certificate_that_is_not_believed(
    tmp_path: Path, authority: Authority, san: tuple[x509.GeneralName, ...], days: tuple[float, float]
) -> None:
    """Whatever is wrong with the server's certificate, nobody was asked and nothing sent; the words say TLS."""
    signed = authority.sign("127.0.0.1", file=tmp_path.name, san=san, days=days)
    with EtcdServer(tls=Tls(cert=signed.cert, key=signed.key)) as server:
        for fault in await faults_at(server.endpoint, Tls(ca=authority.cert)):
            assert meaning(fault) == UNREACHABLE, fault
            assert "TLS configuration" in fault.brief
        assert server.etcdctl("get", "k") == ""


async def test_a_certificate_renewed_without_its_names(tmp_path: Path) -> None:
    """etcd comes back with a certificate without SAN: an outage, with values from memory and LOCAL locks."""
    authority = Authority(tmp_path)
    good, bare = authority.sign("good"), authority.sign("127.0.0.1", san=())
    with EtcdServer(tls=Tls(cert=good.cert, key=good.key)) as server:
        tls = Tls(ca=authority.cert)
        async with tideover.connect(server.endpoint, tls=tls, cache_dir=tmp_path / "cache") as tide:
            await tide.config.put("a", "1")
            assert (await tide.config.fetch("a")).source is Source.QUORUM
            server.kill()
            server._tls = Tls(cert=bare.cert, key=bare.key)
            await anyio.to_thread.run_sync(server.start)
            await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=10)
            assert tide.health.diagnosis is Diagnosis.CUT_OFF
            assert "TLS configuration error" in tide.status().sentence
            reading = await tide.config.fetch("a")
            assert (reading.value, reading.source) == ("1", Source.MEMORY)
            with pytest.raises(tideover.CircuitOpen):
                await tide.config.put("a", "2")
            async with tide.lock("x", timeout=5, on_outage="local") as held:
                assert str(held.mode) == "local"
            server.kill()
            server._tls = Tls(cert=good.cert, key=good.key)
            await anyio.to_thread.run_sync(server.start)
            await tide.health.wait_for(HealthState.AVAILABLE, timeout=10)
            await tide.config.put("a", "3")


@pytest.mark.parametrize("given", ["endpoint", "address", "server_name"])
async def test_a_name_with_its_final_dot(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """An absolute name is looked up with its dot and verified without it, wherever it was given."""
    signed = authority.sign("etcd.internal", file="dotted")
    with EtcdServer(tls=Tls(cert=signed.cert, key=signed.key)) as server:
        asked: list[str] = []
        # Who looks the name up is a proxy, for this machine knows no such name.
        with listening(connecting(asked, to=server.endpoint)) as proxy:
            endpoint, name = server.endpoint, None
            tls = Tls(ca=authority.cert)
            if given == "endpoint":
                endpoint = f"etcd.internal.:{endpoint.rpartition(':')[2]}"
                monkeypatch.setenv("http_proxy", f"http://{proxy}")
            elif given == "address":
                name = "etcd.internal."
            else:
                tls = Tls(ca=authority.cert, server_name="etcd.internal.")
            store = EtcdStore([Address(endpoint, name)], tls=tls)
            try:
                assert (await store.call(Range(b"k"), member=endpoint, timeout=5)).header.revision > 0
            finally:
                await store.aclose()
        assert asked == ([endpoint] if given == "endpoint" else [])


# Who is no etcd -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (saying(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), "speaks no gRPC"),
        (saying(b"SSH-2.0-OpenSSH_9.2\r\n"), "speaks no gRPC"),
        (saying(b"\0\1\2\3" * 100), "speaks no gRPC"),
        (lambda _: None, ""),
        (silent, ""),
    ],
    ids=["http/1.1", "ssh", "junk", "hangs up", "silent"],
)
async def test_something_else_listens(answer: object, said: str) -> None:
    """A port where no etcd is: an outage; what speaks another protocol is called that."""
    with listening(answer) as endpoint:  # type: ignore[arg-type]
        for fault in await faults_at(endpoint):
            assert meaning(fault) == UNREACHABLE, fault
            assert said in fault.brief
            assert not fault.tls


async def test_silence_over_tls_is_no_tls_error(authority: Authority) -> None:
    """A frozen member lets a handshake hang: that says nothing against anybody's certificates."""
    with listening(silent) as endpoint:
        for fault in await faults_at(endpoint, Tls(ca=authority.cert)):
            assert meaning(fault) == UNREACHABLE, fault
            assert not fault.tls


@pytest.mark.parametrize("protocols", [[], ["http/1.1"]], ids=["no ALPN", "http/1.1"])
async def test_a_tls_server_without_http2(authority: Authority, protocols: list[str]) -> None:
    """A trusted server that does not agree on HTTP/2 is a configuration error of TLS."""
    signed = authority.sign("web")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(signed.cert, signed.key)
    if protocols:
        context.set_alpn_protocols(protocols)
    with listening(silent, context) as endpoint:
        for fault in await faults_at(endpoint, Tls(ca=authority.cert)):
            assert (meaning(fault), fault.tls) == (UNREACHABLE, True), fault


async def test_another_grpc_server() -> None:
    """A gRPC server that is no etcd knows none of its services: an outage, and no refusal of the request."""
    other = grpc.aio.server()
    endpoint = f"127.0.0.1:{other.add_insecure_port('127.0.0.1:0')}"
    await other.start()
    try:
        async with cut_off(endpoint) as tide:
            assert "Method not found" in tide.status().sentence
    finally:
        await other.stop(None)


# The proxy of the environment -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "answer", "said"),
    [
        ("http_proxy", saying(b"HTTP/1.1 403 Forbidden\r\n\r\n"), "HTTP proxy returned response code 403"),
        ("http_proxy", saying(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), "response code 407"),
        ("https_proxy", saying(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), "response code 502"),
        ("grpc_proxy", lambda _: None, ""),
        ("http_proxy", silent, ""),
    ],
    ids=["403", "407", "502", "hangs up", "silent"],
)
async def test_a_proxy_that_does_not_connect(
    server: EtcdServer, monkeypatch: pytest.MonkeyPatch, variable: str, answer: object, said: str
) -> None:
    """The environment is obeyed; then the proxy and the variable are named wherever etcd would be blamed."""
    with listening(answer) as proxy:  # type: ignore[arg-type]
        monkeypatch.setenv(variable, f"http://user:hidden@{proxy}")
        async with cut_off(server.endpoint) as tide:
            await _says(tide, f"by way of the proxy {proxy}, see {variable} and no_proxy")
            assert said in tide.status().sentence
            with pytest.raises(tideover.Unavailable, match=f"by way of the proxy {proxy}") as caught:
                await tide.config.put("k", "v")
            assert "hidden" not in f"{tide.status().sentence} {caught.value}"


async def _says(tide: Coordinator, said: str) -> None:
    """Wait until the status says something: an attempt to connect takes up to a second."""
    with anyio.fail_after(10):
        while said not in tide.status().sentence:
            await anyio.sleep(0.05)


async def test_a_proxy_that_nobody_runs(server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that refuses connections, and one whose name nobody knows, are named; `no_proxy` spares etcd."""
    for proxy in ("127.0.0.1:9", "no.such.host.invalid:3128"):
        monkeypatch.setenv("http_proxy", f"http://{proxy}")
        for fault in await faults_at(server.endpoint):
            assert meaning(fault) == UNREACHABLE
            assert f"by way of the proxy {proxy}" in fault.brief
    monkeypatch.setenv("no_proxy", "10.0.0.0/8, 127.0.0.0/8")
    async with tideover.connect(server.endpoint, cache_dir=False) as tide:
        assert tide.health.state is HealthState.AVAILABLE


async def test_a_proxy_decides(
    server: EtcdServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each member that a proxy is named for is reached over gRPC, and the log says why; others are not.

    What was named is stronger: over tideover's own transport etcd is reached directly.
    """
    spared, *others = server.endpoint, "10.9.9.8:2379", "10.9.9.9:2379"
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.0/8")
    with caplog.at_level("INFO", "tideover"):
        store = EtcdStore([spared, others[0]])
        with pytest.raises(StoreFault, match=r"127\.0\.0\.1:9"):
            await store.add(Address(others[1]), timeout=3)
        assert [(store.transport(each), store.way(each)) for each in store.members] == [
            ("http2", ""),
            ("grpc", "by way of the proxy 127.0.0.1:9, see http_proxy and no_proxy"),
        ]
        await store.call(Range(b"k"), member=spared, timeout=5)
        await store.aclose()
    told = [line for line in caplog.messages if line.startswith("tideover.transport.proxied: ")]
    assert [[each in line for each in (spared, *others)] for line in told] == [
        [False, True, False],
        [False, False, True],
    ]
    caplog.clear()
    monkeypatch.delenv("no_proxy")
    for name in ("argument", "variable"):
        if name == "variable":
            monkeypatch.setenv(VARIABLE, "http2")
        store = EtcdStore([spared], transport="http2" if name == "argument" else None)
        await store.call(Range(b"k"), member=spared, timeout=5)
        assert (store.transport(spared), store.way(spared)) == ("http2", "")
        await store.aclose()
    assert caplog.messages == []


async def test_through_a_proxy(server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some reach etcd only so: with a proxy that connects, all is as without; what etcd says is etcd's."""
    asked: list[str] = []
    listener = Listener(connecting(asked))
    monkeypatch.setenv("http_proxy", f"http://{listener.endpoint}")
    try:
        async with tideover.connect(server.endpoint, cache_dir=False) as tide:
            await tide.config.put("k", "v")
            async with tide.lock("x", timeout=5):
                assert tide.config.get("k") == "v"
            with pytest.raises(tideover.InvalidRequest, match="etcdserver: request is too large") as caught:
                await tide.config.put("k", "x" * 1_600_000)
            assert "by way of" not in str(caught.value)
            assert set(asked) == {server.endpoint}
            listener.close()
            await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=10)
            assert "by way of the proxy" in tide.health.sentence
    finally:
        listener.close()


@pytest.mark.parametrize(
    ("environment", "endpoint", "named"),
    [
        ({}, "10.0.0.1:2379", ""),
        ({"http_proxy": "http://p:1"}, "10.0.0.1:2379", "p:1, see http_proxy"),
        ({"http_proxy": "http://p"}, "10.0.0.1:2379", "p:443, see http_proxy"),
        ({"http_proxy": "http://p:1", "https_proxy": "http://q:2"}, "a:1", "q:2, see https_proxy"),
        ({"http_proxy": "http://p:1", "grpc_proxy": ""}, "a:1", ""),
        ({"http_proxy": "p:1"}, "a:1", ""),
        ({"http_proxy": "https://p:1"}, "a:1", ""),
        ({"http_proxy": "http://p:x"}, "a:1", ""),
        ({"HTTP_PROXY": "http://p:1"}, "a:1", ""),
        ({"http_proxy": "http://p:1", "NO_PROXY": "a"}, "a:1", "p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "b, .etcd.internal"}, "m1.ETCD.internal:1", ""),
        ({"http_proxy": "http://p:1", "no_proxy": "tcd.internal"}, "etcd.internal:1", "p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "etcd.internal"}, "etcd.internal.:1", "p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "*"}, "a:1", "p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "a:1"}, "a:1", "p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": ""}, "a:1", "p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "fd00::/8"}, "[fd00::1]:1", ""),
        ({"http_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, "11.0.0.1:1", "p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "a", "no_grpc_proxy": "b"}, "a:1", "p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "x/y"}, "a:1", "p:1"),
    ],
)
def test_which_proxy_is_obeyed(environment: dict[str, str], endpoint: str, named: str) -> None:
    """The rules are gRPC's own, not those of other programs: see the module."""
    text = proxy_for(endpoint, environment)
    assert bool(text) is bool(named)
    assert named in text


@pytest.mark.parametrize(
    ("environment", "host"),
    [
        ({}, "127.0.0.1"),
        ({"no_proxy": "127.0.0.1"}, "127.0.0.1"),
        ({"no_proxy": "127.0.0.0/8"}, "127.0.0.1"),
        ({"no_proxy": "0.0.1"}, "127.0.0.1"),
        ({"no_proxy": "*"}, "127.0.0.1"),
        ({"no_proxy": ".LOCALHOST"}, "localhost"),
        ({"no_proxy": "ocalhost"}, "localhost"),
        ({"no_proxy": "127.0.0.1"}, "localhost"),
        ({"no_grpc_proxy": "", "no_proxy": "127.0.0.1"}, "127.0.0.1"),
        ({"NO_PROXY": "127.0.0.1"}, "127.0.0.1"),
        ({"grpc_proxy": ""}, "127.0.0.1"),
    ],
)
async def test_grpc_obeys_as_we_say(
    server: EtcdServer, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], host: str
) -> None:
    """A proxy is named exactly where gRPC goes through one."""
    asked: list[str] = []
    with listening(connecting(asked)) as proxy:
        for variable, value in {"http_proxy": f"http://{proxy}", **environment}.items():
            monkeypatch.setenv(variable, value)
        endpoint = f"{host}:{server.endpoint.rpartition(':')[2]}"
        store = EtcdStore([endpoint])
        try:
            await store.call(Range(b"k"), member=endpoint, timeout=5)
        finally:
            await store.aclose()
        assert bool(proxy_for(endpoint)) is bool(asked)


# Proxies before etcd --------------------------------------------------------------------------------------------


async def test_nginx_passes_all_that_is_small(server: EtcdServer, tmp_path: Path) -> None:
    """Behind nginx as documented all is as without: reads, writes, watches, sessions, locks."""
    with nginx(tmp_path, f"grpc_pass grpc://{server.endpoint};") as (endpoint,):
        await _use(endpoint)


@pytest.mark.parametrize("mode", ["tcp", "http"])
async def test_haproxy_passes_all(server: EtcdServer, tmp_path: Path, mode: str) -> None:
    """Behind HAProxy, in either mode, all is as without, up to etcd's own limits."""
    with haproxy(tmp_path, server.endpoint, mode=mode) as endpoint:
        await _use(endpoint)
        async with tideover.connect(endpoint, sync_members=False, cache_dir=False) as tide:
            await tide.config.put("large", "x" * 1_400_000)
            with pytest.raises(tideover.InvalidRequest, match="etcdserver: request is too large"):
                await tide.config.put("large", "x" * 1_600_000)


async def _use(endpoint: str) -> None:
    async with (
        tideover.connect(endpoint, sync_members=False, cache_dir=False) as tide,
        tide.session(ttl=5) as session,
        tide.lock("x", timeout=5) as held,
    ):
        assert tide.health.state is HealthState.AVAILABLE
        await session.put("s", "1")
        for number in range(3):
            await tide.config.put("n", number)
            with anyio.fail_after(3):
                while tide.config.get("n", int, default=-1) != number:
                    await anyio.sleep(0.01)
        await anyio.sleep(2.5)
        session.check()
        held.check()


@pytest.mark.parametrize("way", ["nginx", "haproxy", "tls"])
async def test_where_streams_are_few(server: EtcdServer, authority: Authority, tmp_path: Path, way: str) -> None:
    """Behind nginx (128), HAProxy (100) and on etcd 3.5.1 over TLS (250) leases, watches and calls find room."""
    with ExitStack() as running:
        tls = None
        if way == "nginx":
            (endpoint,) = running.enter_context(nginx(tmp_path, f"grpc_pass grpc://{server.endpoint};"))
        elif way == "haproxy":
            endpoint = running.enter_context(haproxy(tmp_path, server.endpoint, mode="http"))
        else:
            signed = authority.sign("server")
            endpoint = running.enter_context(EtcdServer(tls=Tls(cert=signed.cert, key=signed.key))).endpoint
            tls = Tls(ca=authority.cert)
        store = EtcdStore([endpoint], tls=tls)
        try:
            await _crowd(store)
        finally:
            await store.aclose()


async def _crowd(store: EtcdStore) -> None:
    member, urgent = store.members[0], store.urgent()
    first = random.getrandbits(62)
    leases = range(first, first + 300)
    renewed: list[int] = []

    async def hold(lease: int) -> None:
        await store.call(LeaseGrant(60, lease), member=member, timeout=20)
        async with urgent.keep_alive(member=member) as renewing:
            renewed.append((await renewing.renew(lease)).ttl)
            await everybody.wait()

    async def use(number: int) -> None:
        for over in (store, urgent):
            await over.call(Put(b"/k/%d" % number, b"v"), member=member, timeout=20)

    everybody = anyio.Event()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for lease in leases:
                tasks.start_soon(hold, lease)
            while len(renewed) < len(leases):
                await anyio.sleep(0.01)
            for number in range(150):
                tasks.start_soon(use, number)
            async with (
                urgent.keep_alive(member=member) as renewing,
                store.watch(b"/k/", b"/k0", start_revision=0, member=member, timeout=10),
                urgent.watch(b"/k/", b"/k0", start_revision=0, member=member, timeout=10),
            ):
                answers: dict[int, LeaseResult | Fault] = {}
                await renewing.renew_all(leases, answers.__setitem__)
                assert len(answers) == len(leases)
            everybody.set()
    assert renewed == [60] * len(leases)


async def test_nginx_takes_a_put_for_too_large(server: EtcdServer, tmp_path: Path) -> None:
    """Between nginx's limit and etcd's nginx refuses a put: a no that names the proxy; nothing is written."""
    locations = [
        f"grpc_pass grpc://{server.endpoint};",
        f"client_max_body_size 0; grpc_pass grpc://{server.endpoint};",
    ]
    with nginx(tmp_path, *locations) as (endpoint, unlimited):
        async with tideover.connect(endpoint, sync_members=False, cache_dir=False) as tide:
            with pytest.raises(tideover.InvalidRequest, match=r"status: 413 \(not etcd's limit.*nginx") as caught:
                await tide.config.put("big", "x" * 1_200_000)
            assert not isinstance(caught.value, tideover.Unavailable)
            assert tide.health.state is HealthState.AVAILABLE
            assert (await tide.config.fetch("big", default=None)).value is None
        async with tideover.connect(unlimited, sync_members=False, cache_dir=False) as tide:
            await tide.config.put("big", "x" * 1_200_000)


async def test_what_proxies_say_in_etcds_place(tmp_path: Path) -> None:
    """HTTP's statuses, which gRPC turns into codes such as PERMISSION_DENIED, are outages, not etcd's refusals."""
    statuses = (400, 401, 403, 404, 405, 421, 429, 500, 502, 503, 504)
    with nginx(tmp_path, *(f"return {status};" for status in statuses)) as endpoints:
        for status, endpoint in zip(statuses, endpoints, strict=True):
            for fault in await faults_at(endpoint):
                assert fault.message == f"Received http2 header with status: {status}"
                assert meaning(fault) == ("unreachable", True, status >= 500)
                assert "not etcd's answer" in fault.brief
        async with cut_off(endpoints[statuses.index(403)]) as tide:
            await _says(tide, "that of a proxy before it")


async def test_a_proxy_whose_etcd_is_gone(tmp_path: Path) -> None:
    """nginx and HAProxy that reach no etcd: an outage in the words of each."""
    with EtcdServer() as server:
        with (
            nginx(tmp_path, f"grpc_pass grpc://{server.endpoint};") as (behind_nginx,),
            haproxy(tmp_path, server.endpoint) as behind_haproxy,
            haproxy(tmp_path, server.endpoint, mode="http") as behind_http,
        ):
            server.kill()
            for endpoint, said in (
                (behind_nginx, "that of a proxy before it"),
                (behind_haproxy, ""),
                (behind_http, ""),  # it tries for three seconds before it says 503
            ):
                async with cut_off(endpoint) as tide:
                    await _says(tide, said)
