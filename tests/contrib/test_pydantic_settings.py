"""Configuration as a source of pydantic-settings: order, aliases, nested models, disk; settings that follow."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from tests.canaries import canary
from tests.support import connected
from tests.support import mock_backend as anyio_backend
from tideover import (
    Closed,
    ConfigValueError,
    Coordinator,
    InvalidValue,
    NotConnected,
    NotSynced,
    StalenessLimit,
    TooStale,
    connect,
)
from tideover.contrib.pydantic import TideoverSettingsSource, live_settings
from tideover.testing import MemoryStore

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

SECRET = canary("setting")


class Pool(BaseModel):
    size: int = 1
    wait: timedelta = timedelta(0)


class Database(BaseModel):
    host: str = "localhost"
    port: int = Field(default=5432, gt=0)
    password: SecretStr = SecretStr("none")
    pool: Pool = Pool()


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_", env_nested_delimiter="__")

    rate: float = 0.5
    hosts: list[str] = []
    wait: timedelta = timedelta(seconds=1)
    limit: int | None = 5
    db: Database = Database()
    spare: Database | None = None
    token: SecretStr = Field(default=SecretStr("none"), min_length=2)
    size: int = Field(default=1, alias="pool-size")
    name: str = Field(default="", validation_alias=AliasChoices("title", "label", AliasPath("about", "name")))
    first: str = Field(default="", validation_alias=AliasPath("people", 0))
    tags: Annotated[list[str], NoDecode] = []

    @field_validator("tags", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TideoverSettingsSource(settings_cls, prefix="shop")


async def put(tide: Coordinator, **values: object) -> None:
    """Put settings; `__` divides levels."""
    for key, value in values.items():
        await tide.config.put("shop/" + key.replace("__", "/"), value)


# The source -----------------------------------------------------------------------------------------------------


async def test_sources_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given wins over the environment, that over etcd, that over the defaults, also within a model."""
    monkeypatch.setenv("SHOP_RATE", "2")
    monkeypatch.setenv("SHOP_DB__PORT", "1")
    async with connected(MemoryStore()) as tide:
        await put(tide, rate=3, limit=7, db__port=2, db__host="etcd", wait="250ms")
        settings = Settings(limit=8)
        assert (settings.rate, settings.limit, settings.wait) == (2.0, 8, timedelta(seconds=0.25))
        assert settings.db == Database(host="etcd", port=1)


@pytest.mark.parametrize(
    ("values", "read", "expected"),
    [
        ({"hosts": ["a", "b"]}, lambda s: s.hosts, ["a", "b"]),
        ({"tags": "a,b"}, lambda s: s.tags, ["a", "b"]),
        ({"limit": None}, lambda s: s.limit, None),
        ({"wait": timedelta(minutes=1)}, lambda s: s.wait, timedelta(minutes=1)),
        ({"wait": "PT1M\n"}, lambda s: s.wait, timedelta(minutes=1)),
        ({"rate": " 2\n"}, lambda s: s.rate, 2.0),
        ({"db": {"host": "json"}}, lambda s: s.db.host, "json"),
        ({"db": Database(host="model", password=SecretStr("p"))}, lambda s: s.db.password.get_secret_value(), "p"),
        ({"db": {"host": "json"}, "db__port": 1}, lambda s: s.db, Database(host="json", port=1)),
        ({"db": {"host": "json"}, "db__host": "key"}, lambda s: s.db.host, "key"),
        ({"db__pool__size": 9}, lambda s: s.db.pool.size, 9),
        ({"db__pool__wait": "1h30m"}, lambda s: s.db.pool.wait, timedelta(minutes=90)),
        ({"spare__host": "second"}, lambda s: s.spare, Database(host="second")),
        ({"token": "12345"}, lambda s: s.token.get_secret_value(), "12345"),
        ({"pool-size": 4}, lambda s: s.size, 4),
        ({"size": 4}, lambda s: s.size, 1),
        ({"label": "b"}, lambda s: s.name, "b"),
        ({"label": "b", "title": "a"}, lambda s: s.name, "a"),
        ({"about": {"name": "c"}}, lambda s: s.name, "c"),
        ({"about__name": "d"}, lambda s: s.name, "d"),
        ({"about": {"other": "c"}}, lambda s: s.name, ""),
        ({"people": ["x", "y"]}, lambda s: s.first, "x"),
        ({"people": []}, lambda s: s.first, ""),
    ],
)
async def test_what_keys_say(
    values: dict[str, object], read: Callable[[Settings], object], expected: object
) -> None:
    """JSON and text, models as JSON and by key, and aliases of all kinds say what they would say to pydantic."""
    async with connected(MemoryStore()) as tide:
        await put(tide, **values)
        assert read(Settings()) == expected
        assert read(live_settings(Settings).value) == expected


async def test_what_is_no_model_is_refused_though_there_are_keys_below() -> None:
    """A list where a model belongs is an error, as in an environment variable, whatever is below it."""
    async with connected(MemoryStore()) as tide:
        await put(tide, db=[1], db__port=6)
        with pytest.raises(ValidationError, match="db"):
            Settings()
        await put(tide, db=None)
        assert Settings().db == Database(port=6)


async def test_the_order_of_sources_decides_between_aliases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field is the same under each alias: the environment wins, though etcd has the first of them."""
    monkeypatch.setenv("label", "env")
    async with connected(MemoryStore()) as tide:
        await put(tide, title="etcd")
        assert Settings().name == "env"


async def test_reads_mark_requests_and_are_limited() -> None:
    """Making settings is a read: in an outage it is degraded, beyond the limit it raises, and it asks nobody."""
    store = MemoryStore()
    async with connected(store, limits={"shop/": StalenessLimit(60.0, on_stale="raise")}) as tide:
        await put(tide, rate=3)
        store.down = set(store.members)
        assert Settings().rate == 3.0
        await anyio.sleep(30)
        assert Settings().rate == 3.0
        assert any(degraded for (_, degraded), count in tide.config.count_reads().items() if count)
        await anyio.sleep(600)
        with pytest.raises(TooStale):
            Settings()


def test_without_a_coordinator() -> None:
    """The error says what the source needs."""
    with pytest.raises(NotConnected) as caught:
        Settings()
    assert "give it one with coordinator=" in caught.value.__notes__[0]


def test_settings_are_read_from_disk_before_anything_runs(tmp_path: Path) -> None:
    """A coordinator that is not entered yet gives its source what an earlier process has left, without a loop."""
    store = MemoryStore()

    async def run() -> None:
        async with connect(store=store, cache_dir=tmp_path) as tide:
            await put(tide, rate=3, db__host="disk")

    anyio.run(run)
    tide = connect(store=store, cache_dir=tmp_path)

    class FromDisk(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_: Any, **__: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (TideoverSettingsSource(settings_cls, prefix="shop", coordinator=tide),)

    settings = FromDisk()
    assert (settings.rate, settings.db.host) == (3.0, "disk")


# Settings that follow -------------------------------------------------------------------------------------------


async def test_settings_follow_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change makes them again of all sources; a bad one keeps the last good object and is told."""
    async with connected(MemoryStore()) as tide:
        await put(tide, rate=3, db__port=1)
        live = live_settings(Settings)
        first = live.value
        await tide.config.put("other", "1")
        assert live.value is first
        monkeypatch.setenv("SHOP_LIMIT", "9")
        good = await tide.config.put("shop/db/port", 2)
        assert (live.value.db.port, live.value.limit, live.revision) == (2, 9, good.revision)
        kept = live.value
        bad = await tide.config.put("shop/db/port", -1)
        assert live.value is kept
        assert str(live.rejection) == "'shop/': Settings refuses it: ValidationError: db.port: greater_than"
        (refused,) = tide.status().rejected
        assert (refused.key, refused.revision, refused.served) == ("shop/", bad.revision, good.revision)
        await put(tide, hosts="no JSON")
        assert live.value is kept
        await put(tide, hosts=["a"])
        await tide.config.delete("shop/db/port")
        assert (live.value.db.port, live.value.hosts, live.rejection) == (5432, ["a"], None)
        assert tide.status().rejected == ()


async def test_settings_that_are_bad_at_the_start() -> None:
    """The first object must be valid; the error names place and kind."""
    async with connected(MemoryStore()) as tide:
        await put(tide, rate="much")
        with pytest.raises(
            ConfigValueError, match=r"'shop/': Settings refuses it: ValidationError: rate: float_parsing"
        ):
            live_settings(Settings)

        class Alone(BaseSettings):
            rate: float = 1.0

        with pytest.raises(TypeError, match="Alone has no TideoverSettingsSource among its sources"):
            live_settings(Alone)

        class Elsewhere(Settings):
            @classmethod
            def settings_customise_sources(
                cls, settings_cls: type[BaseSettings], *_: Any, **__: Any
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return (TideoverSettingsSource(settings_cls, prefix="/shop"),)

        with pytest.raises(Exception, match="does not begin with a slash"):
            live_settings(Elsewhere)
    with pytest.raises(Closed, match="is not open"):
        live_settings(Settings, coordinator=connect(store=MemoryStore()))


async def test_what_stands_in_for_bad_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `on_invalid` other sources stand in for what is refused, or what the class has accepted before."""
    async with connected(MemoryStore()) as tide:
        await put(tide, rate=3, db__port=6, hosts=["a"])
        assert live_settings(Settings, on_invalid="last_good").value.rate == 3.0
        await put(tide, rate="much", hosts="no JSON", db__port=7)
        with pytest.raises(ConfigValueError, match="not JSON"):
            live_settings(Settings)
        monkeypatch.setenv("SHOP_LIMIT", "9")
        live = live_settings(Settings, on_invalid="default")
        assert (live.value.rate, live.value.hosts, live.value.limit, live.value.db.port) == (0.5, [], 9, 7)
        assert live.rejection is not None
        live = live_settings(Settings, on_invalid="last_good")
        assert (live.value.rate, live.value.hosts, live.value.limit, live.value.db.port) == (3.0, ["a"], 9, 6)
        await put(tide, rate=4, hosts=["b"])
        assert (live.value.rate, live.value.hosts, live.value.db.port, live.rejection) == (4.0, ["b"], 7, None)


async def test_what_is_missing_may_be_unknown() -> None:
    """A required field is missing only if etcd has said so; before that nothing is known of it."""

    class Needy(Settings):
        owner: str

    store = MemoryStore()
    store.down = set(store.members)
    async with connected(store) as tide:
        with pytest.raises(NotSynced, match=r"nothing is known of 'shop/rate', and .* owner: missing"):
            live_settings(Needy)
        assert live_settings(Settings).value.rate == 0.5
        store.down = set()
        await anyio.sleep(30)
        with pytest.raises(ConfigValueError, match="owner: missing"):
            live_settings(Needy)
        await put(tide, owner="me")
        assert live_settings(Needy).value.owner == "me"


async def test_a_check_of_the_callers() -> None:
    """`validate=` refuses as for `bind`."""

    def check(settings: Settings) -> None:
        if settings.rate > 4:
            raise InvalidValue("rates are at most 4")

    async with connected(MemoryStore()) as tide:
        live = live_settings(Settings, coordinator=tide, validate=check)
        assert tide.status().unfound == ("shop/",)
        await put(tide, rate=5)
        assert (live.value.rate, str(live.rejection)) == (0.5, "'shop/': rates are at most 4")
        assert tide.status().unfound == ()


@pytest.mark.parametrize("key", ["token", "db/password", "db"])
async def test_a_secret_is_shown_nowhere(key: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a good nor a refused object shows a secret in any line, error, status or repr."""
    caplog.set_level(logging.DEBUG)
    secret = {"password": SECRET} if key == "db" else SECRET
    async with connected(MemoryStore()) as tide:
        await tide.config.put(f"shop/{key}", secret)
        live = live_settings(Settings)
        said = [repr(live), repr(live.value)]
        await put(tide, rate=SECRET, db__port=SECRET)
        said += [str(live.rejection), str(tide.status().to_dict()), caplog.text]
        assert SECRET not in "".join(said)
        if key == "token":
            await put(tide, rate=1, db__port=1)
            await tide.config.put("shop/token", "x")
            with pytest.raises(ValidationError) as caught:
                Settings()
            assert "'x'" not in str(caught.value)


async def test_live_settings_are_of_the_coordinator_that_their_source_was_given() -> None:
    """They read what `Settings()` reads, though another coordinator is current; two at once are refused."""
    async with connected(MemoryStore(values={"shop/rate": 1})) as one, connected(MemoryStore()) as other:

        class Own(Settings):
            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],
                *_: PydanticBaseSettingsSource,
                **__: PydanticBaseSettingsSource,
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return (TideoverSettingsSource(settings_cls, prefix="shop/", coordinator=one),)

        live = live_settings(Own)
        assert live.value.rate == Own().rate == 1.0
        await one.config.put("shop/rate", 2)
        assert live.value.rate == live_settings(Own, coordinator=one).value.rate == 2.0
        with pytest.raises(ValueError, match="several coordinators"):
            live_settings(Own, coordinator=other)
