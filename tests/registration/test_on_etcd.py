"""Rights that are taken away on a real etcd: 3.5.28 and later renew no lease with a refused key."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from tests.etcd.users import LOGIN, guarded_etcd, root_does, until
from tideover import Registration, RegistrationState, connect
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.anyio]

TTL = 5


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, as gRPC does."""
    return "asyncio"


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    """Run an etcd whose user may write services and sessions."""
    with guarded_etcd() as running:
        for prefix in ("/services/api/", "/services/web/", "/tideover/"):
            running.etcdctl(
                "--user=root:root", "role", "grant-permission", "--prefix=true", "app", "readwrite", prefix
            )
        yield running


def services(etcd: EtcdServer) -> set[str]:
    """Return the keys of all services."""
    return set(etcd.etcdctl("--user=root:root", "get", "--prefix", "/services/", "--keys-only").split())


async def test_a_right_that_is_taken_away_costs_one_registration_and_no_other(etcd: EtcdServer) -> None:
    """The right to one of three keys is taken away: the other two never come back, because they never went. Where
    etcd renews the lease all the same, the third stays too; else it is refused, and there again once the right is
    back. At the end the refused key alone is left, although etcd revokes no lease that has it."""
    async with connect(etcd.endpoint, cache_dir=False, follow=(), **LOGIN, start_timeout=5) as tide:
        web, *others = [
            tide._parts.registrations.start(Registration(name, f"http://10.0.0.7:{port}", ttl=TTL))
            for name, port in (("web", 1), ("api", 2), ("api", 3))
        ]
        for each in (web, *others):
            await each.wait_registered()
        (old,) = tide.status().sessions
        await root_does(etcd, "role revoke-permission --prefix=true app /services/web/")
        with anyio.move_on_after(TTL + 2):
            while web.registered:
                assert all(each.registered for each in others)
                await anyio.sleep(0.05)
        refused = not web.registered
        version = await anyio.to_thread.run_sync(etcd.version)
        assert refused == (tuple(map(int, version.split("."))) >= (3, 5, 28))
        if refused:
            await until(lambda: web.status.state is RegistrationState.REFUSED, 5)
            await until(lambda: old.lease_id not in {each.lease_id for each in tide.status().sessions}, 5)
        await root_does(etcd, "role grant-permission --prefix=true app readwrite /services/web/")
        await until(lambda: web.registered, 7)
        assert all(each.registered and each.status.comebacks == 0 for each in others)
        # Until its lease has ended, the key from before stands beside the one that is there again.
        expected = {f"/{each.endpoint.key}" for each in (web, *others)}
        with anyio.fail_after(TTL + 2):
            while (found := await anyio.to_thread.run_sync(services, etcd)) != expected:
                assert expected <= found
                await anyio.sleep(0.2)
        await root_does(etcd, "role revoke-permission --prefix=true app /services/web/")
    assert services(etcd) == {f"/{web.endpoint.key}"}
