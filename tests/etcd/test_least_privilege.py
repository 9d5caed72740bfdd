"""A user with rights on the service's own prefix alone gets all that the product does, on every etcd."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import TypedDict

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import tideover
from tests.etcd.test_strangers import enable_auth
from tideover import HealthState, PermissionDenied, Source
from tideover.coordinator.coordinator import Coordinator
from tideover.options import Options
from tideover.testing import EtcdCluster, EtcdServer
from tideover.testing.etcd.ports import ReservedPort

pytestmark = [pytest.mark.etcd, pytest.mark.anyio, pytest.mark.takes(70), pytest.mark.version]


class User(TypedDict):
    """Who logs in, and with what."""

    username: str
    password: str


USER = User(username="app", password="password")


@pytest.fixture
def cluster() -> Iterator[EtcdCluster]:
    """Three members that ask for a password."""
    with EtcdCluster(args=("--bcrypt-cost=4",)) as running:
        enable_auth(running)
        yield running


async def use_everything(tide: Coordinator, value: str) -> None:
    """Use each primitive once, and see that it did what it says."""
    changes = tide.config.changes("")
    await tide.config.put("greeting", value)
    with anyio.fail_after(10):
        async for change in changes:
            if change.value == value:
                break
    assert tide.config.get("greeting") == value
    assert tide.config.read("greeting").source is Source.LIVE
    assert (await tide.config.fetch("greeting")).value == value
    async with tide.lock("orders", timeout=10) as held:
        assert held.token > 0
    with anyio.fail_after(20):
        async with tide.leader("reaper", ttl=5) as term:
            term.check()
    async with tide.register("billing", "http://10.0.0.7:8000"):
        view = tide.discover("billing")
        await view.wait_for(1, timeout=10)
        assert view.pick().url == "http://10.0.0.7:8000"


def doctor(*endpoints: str) -> tuple[int, list[dict[str, object]]]:
    """Run `tideover doctor` as that user; return its exit code and findings."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tideover.cli", "doctor", "--json", "--namespace=/shop", "--user=app"),
        ],
        env=os.environ | {"TIDEOVER_PASSWORD": "password", "TIDEOVER_ENDPOINTS": ",".join(endpoints)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


async def test_all_of_it_through_the_death_of_the_only_given_endpoint(cluster: EtcdCluster) -> None:
    """With one endpoint given all three members are learned; it dies, and everything goes on without an outage."""
    given = cluster.members[0]
    async with tideover.connect(given.endpoint, cache_dir=False, namespace="/shop", **USER) as tide:
        await tide._life.know_members(5)
        assert [member.answers for member in tide.status().members] == [True, True, True]
        await use_everything(tide, "one")
        given.kill()
        states = set()
        async with anyio.create_task_group() as tasks:

            async def observe() -> None:
                while True:
                    states.add(tide.health.state)
                    await anyio.sleep(0.01)

            tasks.start_soon(observe)
            # A write that is under way when its member dies, or while the others elect, has an unknown outcome.
            await anyio.sleep(1)
            await tide.config.fetch("greeting", timeout=10)
            await use_everything(tide, "two")
            await anyio.sleep(6)
            await use_everything(tide, "three")
            tasks.cancel_scope.cancel()
        assert states == {HealthState.AVAILABLE}
        status = tide.status()
        assert status.config[0].error is None
        assert status.restarts == 0
        assert "never been read" not in status.sentence


async def test_a_right_that_is_taken_away_and_given_back(
    cluster: EtcdCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its right the prefix is denied, with it again it is live within 5 s; neither is an outage."""
    monkeypatch.setattr("tideover.prefixes.followed.RIGHTS_EVERY", 1.0)
    right = ("role", "grant-permission", "--prefix=true", "app", "readwrite", "/shop/")
    async with tideover.connect(
        *cluster.endpoints, cache_dir=False, start_timeout=5, namespace="/shop", **USER
    ) as tide:
        await tide.config.put("greeting", "one")
        revoke = ("--user=root:root", "role", "revoke-permission", "--prefix=true", "app", "/shop/")
        await anyio.to_thread.run_sync(cluster.etcdctl, *revoke)
        with anyio.fail_after(5):
            while tide.status().config[0].error is None:
                await anyio.sleep(0.02)
        with pytest.raises(PermissionDenied):
            tide.config.get("greeting")
        assert tide.health.state is HealthState.AVAILABLE
        await anyio.to_thread.run_sync(cluster.etcdctl, "--user=root:root", *right)
        with anyio.fail_after(5):
            while (prefix := tide.status().config[0]).error is not None or prefix.source is not Source.LIVE:
                await anyio.sleep(0.02)


async def test_doctor_and_status_for_this_user(cluster: EtcdCluster) -> None:
    """doctor finds nothing wrong that is not; what etcd does not tell is said once, and is no refusal."""
    code, findings = await anyio.to_thread.run_sync(doctor, *cluster.endpoints)
    members = [finding for finding in findings if finding["what"] == "member"]
    assert [finding["ok"] for finding in members] == [True, True, True], findings
    assert code in (0, 1), findings
    async with tideover.connect(
        *cluster.endpoints, cache_dir=False, start_timeout=5, namespace="/shop", **USER
    ) as tide:
        await anyio.sleep(1)
        about = [text for text in tide.status().untold if "version and alarms" in text]
        telling = all("etcd 3" in str(finding["text"]) for finding in members)
        assert len(about) == (0 if telling else 1)


async def test_who_may_do_nothing_is_refused_and_not_away(cluster: EtcdCluster) -> None:
    """doctor exits with 5 for a wrong password, and says that the members answer."""
    cluster.etcdctl("--user=root:root", "user", "passwd", "app", "--interactive=false", input="other\n")
    code, findings = await anyio.to_thread.run_sync(doctor, *cluster.endpoints)
    assert code == 5, findings
    assert all("answers, and refuses" in str(found["text"]) for found in findings if found["what"] == "member")


async def test_a_rolling_move_of_all_members_behind_a_name(cluster: EtcdCluster) -> None:
    """Each member in turn moves to another address of one name: no outage, and then they are used there."""
    port = ReservedPort()
    here = {member.name: f"127.0.0.{number}" for number, member in enumerate(cluster.members, 2)}

    def place(member: EtcdServer, host: str) -> None:
        here[member.name] = host
        own, url = f"http://{member.endpoint}", f"http://{host}:{port.number}"
        member._args = (f"--listen-client-urls={own},{url}", f"--advertise-client-urls={url}", "--bcrypt-cost=4")

    async def move(member: EtcdServer, host: str) -> None:
        await anyio.to_thread.run_sync(member.stop)
        place(member, host)
        member.start()
        await member.ready()

    async def resolve(host: str, _port: int) -> list[str]:
        await anyio.lowlevel.checkpoint()
        return sorted(here.values()) if host == "etcd.internal" else [host]

    for member in cluster.members:
        await move(member, here[member.name])
    options = Options(endpoints=(f"etcd.internal:{port.number}",), cache_dir=False, namespace="/shop", **USER)
    async with Coordinator(options, resolver=resolve) as tide:
        await tide._life.know_members(5)
        await use_everything(tide, "before")
        seen: set[HealthState] = set()
        async with anyio.create_task_group() as tasks:

            async def observe() -> None:
                while True:
                    seen.add(tide.health.state)
                    await anyio.sleep(0.01)

            tasks.start_soon(observe)
            for number, member in enumerate(cluster.members, 12):
                await move(member, f"127.0.0.{number}")
                moved = f"127.0.0.{number}:{port.number}"
                with anyio.fail_after(60):  # looking a name up, and connecting, are done now and then
                    while moved not in [found.endpoint for found in tide.status().members if found.answers]:
                        await anyio.sleep(0.05)
            tasks.cancel_scope.cancel()
        await use_everything(tide, "after")
        assert seen == {HealthState.AVAILABLE}
        answering = {found.endpoint for found in tide.status().members if found.answers}
        assert answering == {f"{host}:{port.number}" for host in here.values()}
