"""TLS for members behind a name, and at IPv6 addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from tests.etcd.certificates import Authority
from tideover.etcd.adapter import EtcdStore
from tideover.policies import Tls
from tideover.store.endpoints import Address
from tideover.store.faults import StoreFault
from tideover.store.operations import Range
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA of the server."""
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[EtcdServer]:
    """An etcd on both loopback addresses, whose certificate bears a name, 127.0.0.1 and ::1."""
    signed = authority.sign("etcd.internal", also=[ipaddress.ip_address("::1")])
    server = EtcdServer(tls=Tls(cert=signed.cert, key=signed.key))
    port = server.endpoint.rpartition(":")[2]
    server._args = (f"--listen-client-urls=https://127.0.0.1:{port},https://[::1]:{port},unix://console:1",)
    with server:
        yield server


@pytest.mark.parametrize(
    ("host", "name", "trusted"),
    [
        ("[::1]", None, True),
        ("[::1]", "etcd.internal", True),
        ("127.0.0.1", "etcd.internal", True),
        ("127.0.0.1", "elsewhere.internal", False),
    ],
)
async def test_the_certificate_must_bear_what_was_given(
    server: EtcdServer, authority: Authority, host: str, name: str | None, trusted: bool
) -> None:
    """An IPv6 address is verified as it is; an address that stands behind a name must have that name's."""
    endpoint = f"{host}:{server.endpoint.rpartition(':')[2]}"
    store = EtcdStore([Address(endpoint, name)], tls=Tls(ca=authority.cert))
    try:
        if trusted:
            assert (await store.call(Range(b"k"), member=endpoint, timeout=5)).header.revision > 0
        else:
            with pytest.raises(StoreFault, match="TLS configuration"):
                await store.call(Range(b"k"), member=endpoint, timeout=5)
    finally:
        await store.aclose()


async def test_server_name_is_stronger_than_the_name(server: EtcdServer, authority: Authority) -> None:
    """`Tls(server_name=...)` is what is verified, whatever name the address was found by."""
    tls = Tls(ca=authority.cert, server_name="etcd.internal")
    store = EtcdStore([Address(server.endpoint, "elsewhere.internal")], tls=tls)
    try:
        assert (await store.call(Range(b"k"), member=server.endpoint, timeout=5)).header.revision > 0
    finally:
        await store.aclose()
