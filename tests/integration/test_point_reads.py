"""Concurrent fetches on a real etcd: joined, and yet each as if made alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

import tideover
from tideover import HealthState, InvalidRequest, PermissionDenied, Reading
from tideover.coordinator.coordinator import Coordinator
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


@pytest.fixture
async def tide(server: EtcdServer) -> AsyncIterator[Coordinator]:
    """A coordinator that follows none of the keys that are fetched."""
    async with tideover.connect(server.endpoint, follow=("elsewhere/",), cache_dir=False, start_timeout=5) as tide:
        yield tide


async def _all_at_once(tide: Coordinator, *keys: str) -> dict[str, Reading[str | None] | Exception]:
    outcomes: dict[str, Reading[str | None] | Exception] = {}

    async def fetch(key: str) -> None:
        try:
            outcomes[key] = await tide.config.fetch(key)
        except Exception as exc:
            outcomes[key] = exc

    async with anyio.create_task_group() as tasks:
        for key in keys:
            tasks.start_soon(fetch, key)
    return outcomes


async def test_a_thousand_fetches_at_once(tide: Coordinator) -> None:
    """Each of 1,000 concurrent fetches gets its own key's value and revision, or hears that it is absent."""
    revisions = {f"k{n}": (await tide.config.put(f"k{n}", n)).revision for n in range(0, 1000, 2)}
    for key, reading in (await _all_at_once(tide, *(f"k{n}" for n in range(1000)))).items():
        assert isinstance(reading, Reading)
        present = key in revisions
        assert (reading.value, reading.present) == ((key[1:], True) if present else (None, False))
        assert reading.revision == revisions.get(key, 0)


async def test_read_your_own_writes(tide: Coordinator) -> None:
    """However many others are reading, each writer's next fetch shows what it has written, or something newer."""

    async def read() -> None:
        while True:
            await tide.config.fetch("shared")

    async def write(key: str) -> None:
        for n in range(50):
            await tide.config.put(key, n)
            shared = (await tide.config.put("shared", n)).revision
            own, others = await tide.config.fetch(key, int), await tide.config.fetch("shared")
            assert own.value == n
            assert others.revision >= shared

    async with anyio.create_task_group() as readers:
        for _ in range(20):
            readers.start_soon(read)
        async with anyio.create_task_group() as writers:
            for n in range(8):
                writers.start_soon(write, f"own{n}")
        readers.cancel_scope.cancel()


async def test_one_impossible_key_fails_alone(tide: Coordinator) -> None:
    """A key larger than etcd takes is refused; those who asked with it are answered."""
    await tide.config.put("a", 1)
    too_long = "k" * 2_200_000
    outcomes = await _all_at_once(tide, "a", too_long, "missing")
    assert isinstance(outcomes[too_long], InvalidRequest)
    assert isinstance(outcomes["a"], Reading)
    assert outcomes["a"].value == "1"
    assert isinstance(outcomes["missing"], Reading)
    assert tide.health.state is HealthState.AVAILABLE


async def test_cancelled_fetches_leave_the_others_alone(tide: Coordinator) -> None:
    """Of concurrent fetches every second one is cancelled, at ever other moments: the others are answered."""
    await tide.config.put("a", 1)
    for microseconds in range(0, 2000, 50):
        kept: list[Reading[str | None]] = []

        async def keep(kept: list[Reading[str | None]] = kept) -> None:
            kept.append(await tide.config.fetch("a"))

        async with anyio.create_task_group() as lasting, anyio.create_task_group() as doomed:
            for n in range(10):
                lasting.start_soon(keep)
                doomed.start_soon(tide.config.fetch, f"doomed{n}")
            await anyio.sleep(microseconds / 1e6)
            doomed.cancel_scope.cancel()
        assert [reading.value for reading in kept] == ["1"] * 10
    assert repr(tide._parts.coalescer) == "<Coalescer 0 waiting, 0 batches under way>"


async def test_one_refusal_is_not_anothers() -> None:
    """Of concurrent fetches only those of keys that the user may not read are refused."""
    with EtcdServer(args=("--bcrypt-cost=4",)) as server:
        for command in (
            "put /config/app/a 1",
            "user add root:root",
            "user grant-role root root",
            "role add app",
            "role grant-permission --prefix=true app read /config/app/",
            "user add app:app",
            "user grant-role app app",
            "auth enable",
        ):
            server.etcdctl(*command.split())
        async with tideover.connect(
            server.endpoint, follow=("app/x/",), cache_dir=False, username="app", password="app"
        ) as tide:
            keys = [f"app/{n}" for n in range(20)]
            outcomes = await _all_at_once(tide, "secret/a", "app/a", *keys, "secret/b")
    refused = {key for key, outcome in outcomes.items() if isinstance(outcome, PermissionDenied)}
    assert refused == {"secret/a", "secret/b"}
    assert all(isinstance(outcomes[key], Reading) for key in ("app/a", *keys))
    assert isinstance(outcomes["app/a"], Reading)
    assert outcomes["app/a"].value == "1"
