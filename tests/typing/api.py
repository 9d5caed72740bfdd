"""Every public call, as the type checker must see it. Checked by mypy, never run."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, assert_type

import httpx
import httpx2
from fastapi import FastAPI
from openfeature import api
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagResolutionDetails
from pydantic import BaseModel, PositiveInt, RootModel, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

import tideover
from tideover import Reading, StalenessLimit, connect, current, locked, while_leader, with_config
from tideover.asgi import (
    FenceMemory,
    FencingMiddleware,
    HealthApp,
    Requirement,
    RequirementsMiddleware,
    TideoverMiddleware,
    leader_only,
    lifespan,
    problem_handler,
    requires,
)
from tideover.client.namespaces import Passed, Tree
from tideover.contrib import httpx2 as for_httpx2
from tideover.contrib.fastapi import Current, LeaderOnly, Requires, Setting, Tide, get_tide, requirement_responses
from tideover.contrib.httpx import DiscoveryTransport, SyncDiscoveryTransport
from tideover.contrib.openfeature import TideoverProvider
from tideover.contrib.pydantic import TideoverSettingsSource, live_settings
from tideover.coordinator.catalog import ListedKey
from tideover.elections.admin import RecordSnapshot
from tideover.locks.lines import LockLine
from tideover.status import KeyPage, Statement
from tideover.testing import (
    EtcdCluster,
    EtcdServer,
    FaultyStore,
    MemoryStore,
    Outage,
    declare_outage,
    overriding,
)


@dataclass(frozen=True)
class Payments:
    """Settings."""

    timeout: float = 2.0


def refuse(payments: Payments) -> None:
    """Refuse in words for operators."""
    raise tideover.InvalidValue(f"a timeout of {payments.timeout} s is too long")


async def configuration() -> None:
    """Reads, writes and subscriptions."""
    async with connect(
        "10.0.0.1:2379",
        "10.0.0.2:2379",
        namespace="/shop",
        follow=("payments/",),
        discover=["billing"],
        cache_dir=None,
        profile="safety",
        start_timeout=1.0,
        transport="http2",
        require=None,
        limits={"payments/": StalenessLimit(60, on_stale="raise")},
        retry=tideover.RetryPolicy(attempts=3, timeout=5),
        cache=tideover.CachePolicy(ttl=0),
        exclude=("secrets/",),
        tls=tideover.Tls(ca="ca.pem", cert="client.crt", key="client.key", server_name="etcd.internal"),
        username="shop",
        password=Path("/run/secrets/etcd"),
        sync_members=False,
    ) as tide:
        assert_type(tide, tideover.Coordinator)
        assert_type(tide.config.get("k"), str)
        assert_type(tide.config.get("k", float), float)
        assert_type(tide.config.get("k", float, default=None), float | None)
        assert_type(tide.config.get("k", default=1), str | int)
        assert_type(tide.config.get("k", int | None), int | None)
        assert_type(tide.config.get("k", Literal["a", "b"]), Literal["a", "b"])
        assert_type(tide.config.get("k", list[timedelta]), list[timedelta])
        assert_type(tide.config.read("k", float), Reading[float | None])
        assert_type(tide.config.read("k", float, default=2.0), Reading[float])
        assert_type(await tide.config.fetch("k", Payments), Reading[Payments | None])
        assert_type(await tide.config.fetch("k", timeout=1.0), Reading[str | None])
        assert_type(await tide.config.put("k", 2.5), tideover.Written)
        assert_type(await tide.config.delete("k"), tideover.Written)
        async for change in tide.config.changes("payments/"):
            assert_type(change, tideover.Change)
        live = tide.config.bind(Payments, prefix="payments/")
        assert_type(live, tideover.Live[Payments])
        assert_type(live.value, Payments)
        if live.rejection is not None:
            assert_type(live.rejection.exception, Exception | None)
        tide.config.bind(Payments, prefix="payments/", validate=refuse)
        assert_type(tide.config.bind(Payments, on_invalid="raise"), tideover.Live[Payments])
        assert_type(tide.config.bind(Payments, on_invalid="default"), tideover.Live[Payments])
        assert_type(tide.config.bind(Payments, on_invalid="last_good"), tideover.Live[Payments])
        tide.config.bind(Payments, on_invalid="last-good")  # type: ignore[arg-type]
        assert_type(tide.health.state, tideover.HealthState)
        assert_type(tide.health.diagnosis, tideover.Diagnosis)
        await tide.health.wait_for(tideover.HealthState.AVAILABLE, timeout=10)
        changes = tide.health.changes()
        async for verdict in changes:
            assert_type(verdict, tideover.HealthChange)
            assert_type(verdict.previous, tideover.HealthState | None)
        assert_type(changes.missed, int)
        assert_type(tide.epoch, int)
        assert_type(tide.status(), tideover.StatusReport)
        assert_type(tide.status().to_dict(), dict[str, object])
        assert_type(tide.status().headline, Statement)
        assert_type(tide.config_keys("rate", skip=0, limit=20), KeyPage)
        assert_type(tide.status().config[0].to_dict(), dict[str, object])
        assert_type(tide.config.read("k").to_dict(), dict[str, object])
        assert_type(math.ceil(tide.config.read("k").age), int)
        assert_type(current(), tideover.Coordinator)


@locked("orders/{order_id}", ttl=15, timeout=5, on_outage="local", handover=True, lock_delay=0)
async def ship(order_id: int) -> str:
    """A function under a lock keeps its type."""
    return str(order_id)


def from_vault() -> str:
    """Ask for a password, blocking."""
    return "..."


async def from_secret_store() -> str:
    """Ask for a password without blocking."""
    return "..."


async def passwords() -> None:
    """Where a password may come from."""
    connect(username="shop", password="...")
    connect(username="shop", password=from_vault)
    connect(username="shop", password=lambda: "...")
    connect(username="shop", password=from_secret_store)
    Starlette(middleware=[Middleware(TideoverMiddleware, endpoints=["a:1"], username="shop", password=Path("pw"))])


async def locks() -> None:
    """Locks, fences and guards."""
    async with connect("10.0.0.1:2379") as tide:
        lock = tide.lock("orders/42", ttl=15, timeout=None, on_outage="fail", handover=False, lock_delay=1.5)
        assert_type(lock, tideover.Lock)
        async with lock as held:
            assert_type(held, tideover.Held)
            assert_type(held.mode, tideover.LockMode)
            assert_type(held.token, int)
            assert_type(held.revision, int)
            assert_type(held.epoch, int)
            assert_type(held.deadline, float)
            assert_type(held.headers(), dict[str, str])
            held.check()
            guard = held.guard()
            assert_type(guard, tideover.Guard)
            assert_type(await tide.config.put("k", 1, guard=guard), tideover.Written)
            assert_type(await tide.config.delete("k", guard=guard), tideover.Written)
        async with tideover.lock("orders/42"):
            assert_type(await ship(order_id=42), str)
        assert_type(tide.status().locks, tuple[tideover.LockStatus, ...])
        assert_type(tide.status().lock_conflicts, tuple[tideover.LockConflictStatus, ...])
    app = Starlette(middleware=[Middleware(FencingMiddleware, admit=FenceMemory(), lock="orders")])
    assert_type(app, Starlette)


async def sessions() -> None:
    """Keys that end with their owner."""
    async with connect("10.0.0.1:2379") as tide:
        async with tide.session(ttl=15, on_outage="lose") as session:
            assert_type(session, tideover.Session)
            assert_type(await session.put("workers/7", "here"), tideover.LeasedKey)
            assert_type(await session.delete("workers/7"), bool)
            assert_type(session.keys, tuple[tideover.LeasedKey, ...])
            assert_type(session.deadline, float)
            assert_type(session.state, tideover.SessionState)
            assert_type(session.lease_id, int)
            session.check()
            if session.lost:
                assert_type(await session.lost, str)
            session.orphan()
        assert_type(tide.status().sessions, tuple[tideover.SessionStatus, ...])


async def elections(tide: tideover.Coordinator) -> None:
    """Leadership."""
    async with tide.leader("reaper", ttl=15, on_outage="step_down", address="http://here", value="v") as term:
        assert_type(term, tideover.Term)
        assert_type(term.token, int)
        assert_type(term.epoch, int)
        assert_type(term.standing, tideover.Standing)
        assert_type(term.deadline, float)
        term.check()
        guard = term.guard()
        assert_type(guard, tideover.Guard)
        assert_type(await tide.config.put("k", 1, guard=guard), tideover.Written)
    assert_type(tideover.Encryption(["first", b"second"]), tideover.Encryption)
    assert_type(tideover.Encryption.from_environment("SHOP_KEYS"), tideover.Encryption)
    keys = tideover.Encryption(Path("/run/secrets/keys"))
    assert_type(tideover.connect("h:1", encryption=keys, bootstrap=Path("f.json")), tideover.Coordinator)
    failsafe = tideover.Failsafe(secret=[b"0123456789abcdef", "0123456789abcdef"], alone="stay", confirm_limit=60)
    assert_type(tideover.connect("h:1", failsafe=failsafe), tideover.Coordinator)
    async with tideover.leader("reaper", on_outage="peers"):
        pass
    async with tideover.leader("reaper", on_outage="stay"):
        pass
    election = tide.election("reaper")
    assert_type(await election.campaign(ttl=15), tideover.Term)
    await election.proclaim("v2")
    await election.resign()
    assert_type(await election.current(), tideover.Leader | None)
    async for leader in election.observe():
        assert_type(leader, tideover.Leader | None)


async def settle() -> int:
    """Run as a job."""
    return 1


async def jobs() -> None:
    """What runs while leading."""
    async with connect("10.0.0.1:2379") as tide:
        await tide.run_while_leading("settlement", settle)
        await tide.run_while_leading("settlement", tideover.Leading(settle, ttl=30, on_outage="stay"))
        job = tide.job("settlement", settle)
        assert_type(job, tideover.Job)
        job.start()
        assert_type(job.status, tideover.JobStatus)
        assert_type(tide.status().jobs, tuple[tideover.JobStatus, ...])
        await job.stop()
    TideoverMiddleware(
        Starlette(),
        endpoints=["a:1"],
        while_leading={"settlement": settle, "mails": tideover.Leading(settle)},
    )


@while_leader("reaper")
async def reap(much: int) -> str:
    """Run while leading."""
    return str(much)


async def decorated() -> None:
    """A function that runs while leading keeps its parameters and its result."""
    assert_type(await reap(3), str)


class Pool(BaseModel):
    size: PositiveInt = 3
    token: SecretStr = SecretStr("")


class PoolSettings(BaseSettings):
    size: int = 3

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TideoverSettingsSource(settings_cls, prefix="pool/")


def not_too_many(settings: PoolSettings) -> None:
    if settings.size > 50:
        raise tideover.InvalidValue("the database allows 50 connections")


async def models(tide: tideover.Coordinator) -> None:
    assert_type(tide.config.get("k", Pool), Pool)
    assert_type(tide.config.get("k", Pool, default=None), Pool | None)
    assert_type(tide.config.get("k", list[Pool]), list[Pool])
    assert_type(tide.config.get("k", RootModel[list[int]]), RootModel[list[int]])
    assert_type(tide.config.get("k", SecretStr), SecretStr)
    assert_type(tide.config.get("k", PositiveInt), int)
    assert_type(tide.config.read("k", Pool), Reading[Pool | None])
    assert_type(await tide.config.fetch("k", Pool), Reading[Pool | None])
    assert_type(await tide.config.put("k", Pool(size=4)), tideover.Written)
    assert_type(tide.config.bind(Pool, prefix="pool/"), tideover.Live[Pool])
    assert_type(live_settings(PoolSettings), tideover.Live[PoolSettings])
    assert_type(live_settings(PoolSettings, coordinator=tide, validate=not_too_many).value, PoolSettings)
    live_settings(PoolSettings, on_invalid="last_good")
    TideoverSettingsSource(PoolSettings, prefix="pool/", coordinator=tide)


@with_config(pool="pool")
async def use(*, pool: Pool | None = None) -> int:
    return 0 if pool is None else pool.size


@with_config(timeout="payments/timeout")
async def charge(order: str, *, timeout: float = 2.0) -> bool:
    """Take a setting."""
    return bool(order) and timeout > 0


@with_config(rate="limits/rate")
def limit(*, rate: int = 10) -> int:
    """Take a setting, synchronously."""
    return rate


async def registrations() -> None:
    """Registrations, their handle, and what the middleware takes."""
    async with connect("10.0.0.1:2379") as tide:
        block = tide.register(
            "api", "http://10.0.0.7:8000", metadata={"zone": "a"}, weight=2, ttl=15, instance="a"
        )
        assert_type(block, tideover.RegistrationBlock)
        async with block as here:
            assert_type(here, tideover.Registered)
            assert_type(here.registered, bool)
            assert_type(here.endpoint, tideover.Endpoint)
            assert_type(here.status, tideover.RegistrationStatus)
            assert_type(await here.update(weight=0), bool)
            await here.wait_registered()
            await here.deregister()
        async with tideover.register("api", "http://10.0.0.7:8000"):
            assert_type(tide.registrations, tuple[tideover.Registered, ...])
        assert_type(tide.status().registrations, tuple[tideover.RegistrationStatus, ...])
    api = tideover.Registration("api", "http://10.0.0.7:8000", metadata={"zone": "a"}, weight=0.5)
    Starlette(middleware=[Middleware(TideoverMiddleware, endpoints=["a:1"], register=api)])
    Starlette(middleware=[Middleware(TideoverMiddleware, endpoints=["a:1"], register=[api, api])])


def lifespans() -> None:
    """Lifespans of frameworks."""

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[None]:
        yield

    @asynccontextmanager
    async def stateful(app: Starlette) -> AsyncIterator[dict[str, int]]:
        yield {"n": 1}

    plain = lifespan(endpoints=["a:1"], namespace="/shop", while_leading={"reaper": tideover.Leading(settle)})
    FastAPI(lifespan=lifespan(own, endpoints=["a:1"], register=tideover.Registration("api", "http://a:1")))
    Starlette(lifespan=lifespan(stateful, endpoints=["a:1"]))
    Starlette(lifespan=plain, middleware=[Middleware(TideoverMiddleware, lifespan=plain, exclude_paths=["/a"])])
    FastAPI(lifespan=lifespan(plain, coordinator=connect("a:1")))
    HealthApp(connect("a:1"), ready=[requires("lock"), leader_only("reaper")])
    Starlette(routes=[Mount("/_tideover", HealthApp(lifespan=plain))])
    Starlette(middleware=[Middleware(TideoverMiddleware, endpoints=["a:1"], health="/_tideover")])
    assert_type(connect("a:1").phase, tideover.Phase)


async def discovering() -> None:
    """Endpoints of services."""
    async with connect("127.0.0.1:2379") as tide:
        assert_type(await tide.namespaces.find_misspelled("services/"), str | None)
        assert_type([each async for each in tide.namespaces.walk()], list[Tree | Passed])
        assert_type([each async for each in tide.catalog.config("payments/")], list[ListedKey])
        assert_type([each async for each in tide.catalog.elections()], list[tuple[str, RecordSnapshot]])
        assert_type([each async for each in tide.catalog.locks()], list[LockLine])
        assert_type(await tide.catalog.lock("orders/42"), LockLine)
        view = tide.discover("api", max_stale=60, on_stale="raise")
        assert_type(tideover.discover("api"), tideover.ServiceView)
        assert_type(view.pick(), tideover.Endpoint)
        assert_type(view.endpoints, tuple[tideover.Endpoint, ...])
        with view.use() as endpoint:
            assert_type(endpoint, tideover.Endpoint)
        view.report(endpoint, True)
        async for endpoints in view.changes():
            assert_type(endpoints, tuple[tideover.Endpoint, ...])
        assert_type(await view.wait_for(2, timeout=1), tuple[tideover.Endpoint, ...])
        assert_type(view.awaited, bool)
        assert_type(tide.status().services, tuple[tideover.ServiceStatus, ...])
        httpx.AsyncClient(transport=DiscoveryTransport(tide))
        httpx.Client(transport=SyncDiscoveryTransport())
        httpx.AsyncClient(transport=DiscoveryTransport(transport=httpx.AsyncHTTPTransport()), mounts={})
        httpx2.AsyncClient(transport=for_httpx2.DiscoveryTransport(tide, transport=httpx2.AsyncHTTPTransport()))
        httpx2.Client(mounts={"all://*.service": for_httpx2.SyncDiscoveryTransport(attempts=2)})
        answered = await for_httpx2.DiscoveryTransport().handle_async_request(
            httpx2.Request("GET", "http://a.service")
        )
        assert_type(answered, httpx2.Response)


async def flags() -> None:
    """Feature flags, by OpenFeature's client and by the provider itself."""
    async with connect("127.0.0.1:2379") as tide:
        provider = TideoverProvider(tide, prefix="flags/")
        api.set_provider(TideoverProvider(tide))
        api.set_provider_and_wait(provider, "shop")
        client = api.get_client("shop")
        assert_type(client.get_boolean_value("new-checkout", False), bool)
        assert_type(await client.get_integer_details_async("limit", 3), FlagEvaluationDetails[int])
        assert_type(provider.resolve_float_details("rate", 0.5), FlagResolutionDetails[float])
        assert_type(await provider.resolve_string_details_async("theme", ""), FlagResolutionDetails[str])


async def injected() -> None:
    """A decorated function keeps its type."""
    assert_type(await charge("order"), bool)
    assert_type(await charge("order", timeout=1.0), bool)
    assert_type(limit(), int)


@requires("lock")
@leader_only("reaper", standing=[tideover.Standing.HELD, "confirmed"], redirect=True)
async def guarded(item: int, *, currency: str = "EUR") -> dict[str, int]:
    """A guarded function keeps its type."""
    return {currency: item}


@requires("config", max_age=60, prefix="prices/")
def guarded_in_thread(item: int) -> str:
    """So does one that is not async."""
    return str(item)


async def requirements(app: FastAPI, term: Annotated[tideover.Term, LeaderOnly("reaper")]) -> None:
    """Requirements as decorators, dependencies and middleware, and errors as problems."""
    assert_type(await guarded(1, currency="USD"), dict[str, int])
    assert_type(guarded_in_thread(1), str)
    assert_type(requires("discovery:billing", at_least=2, max_age=60), Requirement)
    assert_type(requirement_responses(requires("lock")), dict[int | str, dict[str, Any]])
    app.get("/", dependencies=[Requires("lock")], responses=requirement_responses(Requires("lock")))(guarded)
    app.add_exception_handler(tideover.TideoverError, problem_handler)
    app.add_middleware(RequirementsMiddleware, {"/pay": [requires("lock")]})
    Starlette(
        middleware=[Middleware(RequirementsMiddleware, {"/pay": [requires("lock"), leader_only("reaper")]})],
        exception_handlers={tideover.TideoverError: problem_handler},
    )
    assert_type(term.token, int)


async def facts(tide: tideover.Coordinator) -> None:
    """What requirements look at."""
    assert_type(tide.term("reaper"), tideover.Term | None)
    assert_type(tide.standing("reaper"), tideover.Standing | None)
    assert_type(tide.leader_address("reaper"), str | None)
    assert_type(tide.follow_leader("reaper"), tideover.LeaderView)
    assert_type(tide.follow_leader("reaper").pick(), tideover.Leader)
    assert_type(tide.health.next_probe, float)
    assert_type(tide.health.outage_id, str)
    assert_type(tide.health.brief, str)


def application(coordinator: tideover.Coordinator) -> None:
    """The middleware."""
    Starlette(
        middleware=[
            Middleware(TideoverMiddleware, endpoints=["127.0.0.1:2379"], discover=["billing"], status_header=True)
        ]
    )
    Starlette(middleware=[Middleware(TideoverMiddleware, coordinator=coordinator)])


def test_kit() -> None:
    """Real clusters and fake ones."""
    with EtcdServer() as server:
        assert_type(server.endpoint, str)
    with EtcdCluster(3) as cluster:
        assert_type(cluster.endpoints, tuple[str, ...])
        cluster.wait_applied(timeout=5)
        assert_type(cluster.lose_quorum(survivor=cluster.members[0], timeout=5), tuple[EtcdServer, ...])
    connect(store=FaultyStore(MemoryStore()))


async def parameters() -> None:
    """Settings and handles in FastAPI."""
    app = FastAPI()

    @app.get("/")
    async def route(
        tide: Tide,
        rate: Annotated[float, Setting("fee_rate", default=0.02)],
        payments: Annotated[Payments, Setting("payments")],
        size: Annotated[int, Setting("size", Annotated[int, "> 0"])],
        election: Annotated[tideover.Election, Current("reaper")],
        term: Annotated[tideover.Term | None, Current("reaper")],
        config: Annotated[tideover.Config, Current()],
    ) -> float:
        assert_type(tide, tideover.Coordinator)
        assert_type(rate, float)
        assert_type(payments, Payments)
        assert_type(election, tideover.Election)
        assert_type(term, tideover.Term | None)
        return rate + size + config.get("k", float)

    app.dependency_overrides[Setting("fee_rate")] = lambda: 0.5
    app.dependency_overrides[get_tide] = lambda: connect(store=MemoryStore())


async def tests_of_services(tide: tideover.Coordinator, tide_outage: Outage) -> None:
    """The test kit."""
    MemoryStore(values={"a": 1, "b": [1.5]}, namespace="/shop")
    with overriding(tide, {"a": 2, "b": {"c": None}}):
        pass
    with declare_outage(tide) as outage:
        assert_type(outage, Outage)
    async with declare_outage(tide) as outage:
        assert_type(outage, Outage)
    tide_outage.end()
    await tide_outage.recovered()
