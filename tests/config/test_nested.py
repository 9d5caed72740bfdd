"""Settings objects with records in them: by the keys of their fields, or as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

import pytest

from tests.support import connected
from tideover import ConfigKeyError, ConfigValueError, InvalidValue
from tideover.coordinator.coordinator import Coordinator
from tideover.foreign_bytes import DEPTH
from tideover.testing import MemoryStore, overriding

pytestmark = pytest.mark.anyio


class Options(TypedDict):
    """The innermost settings."""

    tls: bool
    timeout: NotRequired[float]


@dataclass(frozen=True)
class Db:
    """Settings within others."""

    host: str
    port: int = 5432
    options: Options | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.port < 1:
            raise InvalidValue("the port must be at least 1")


@dataclass(frozen=True)
class Settings:
    """A service's settings."""

    db: Db
    replica: Db | None = None
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Chain:
    """A record that may contain itself."""

    name: str = ""
    next: Chain | None = None


async def put(tide: Coordinator, values: dict[str, Any]) -> None:
    """Write some keys of the service."""
    for key, value in values.items():
        await tide.config.put(f"shop/{key}", value)


async def test_a_record_by_the_keys_of_its_fields() -> None:
    """Each field has a key of its own, at any depth; what is absent has its default; changes are followed."""
    async with connected(MemoryStore()) as tide:
        await put(tide, {"db/host": "a", "tags": ["x"]})
        live = tide.config.bind(Settings, prefix="shop/")
        assert live.value == Settings(Db("a"), tags=["x"])
        await put(tide, {"db/port": 1, "db/options/tls": True})
        assert live.value.db == Db("a", 1, {"tls": True})
        await put(tide, {"db/options/timeout": 0.5, "replica/host": "b"})
        assert live.value == Settings(Db("a", 1, {"tls": True, "timeout": 0.5}), Db("b"), ["x"])
        for key in ("options/tls", "options/timeout", "port"):
            await tide.config.delete(f"shop/db/{key}")
        await tide.config.delete("shop/replica/host")
        assert live.value == Settings(Db("a"), tags=["x"])
        assert live.rejection is None


async def test_a_record_as_json() -> None:
    """The same as JSON under the key of the field, also of an inner one; `null` is no record, where optional."""
    async with connected(MemoryStore()) as tide:
        await put(tide, {"db": {"host": "a", "port": 1}, "replica": "null"})
        live = tide.config.bind(Settings, prefix="shop/")
        assert live.value == Settings(Db("a", 1))
        await put(tide, {"replica/host": "b", "replica/options": {"tls": False}})
        assert "both say what it is" in str(live.rejection)
        await tide.config.delete("shop/replica")
        assert live.value.replica == Db("b", options={"tls": False})


async def test_both_ways_at_once_are_refused() -> None:
    """JSON and a key of a field say the same twice: the former object stays, and the error names both keys."""
    async with connected(MemoryStore()) as tide:
        await put(tide, {"db": {"host": "a"}})
        live = tide.config.bind(Settings, prefix="shop/")
        await put(tide, {"db/host": "b"})
        assert live.value.db.host == "a"
        text = "'shop/db' and 'shop/db/host' both say what it is: delete one of them"
        assert str(live.rejection) == text
        with pytest.raises(ConfigValueError, match="both say what it is"):
            tide.config.bind(Settings, prefix="shop/")
        await tide.config.delete("shop/db")
        assert (live.value.db.host, live.rejection) == ("b", None)


async def test_a_refused_field_names_its_key() -> None:
    """What is wrong is told with the key of the field, or of the record whose own check refuses it."""
    async with connected(MemoryStore()) as tide:
        await put(tide, {"db/port": "x"})
        with pytest.raises(ConfigKeyError, match="no configuration key 'shop/db/host', which Db needs"):
            tide.config.bind(Settings, prefix="shop/")
        await put(tide, {"db/host": "a"})
        with pytest.raises(ConfigValueError, match="'shop/db/port' at revision"):
            tide.config.bind(Settings, prefix="shop/")
        await put(tide, {"db/port": 0})
        with pytest.raises(ConfigValueError, match="'shop/db': the port must be at least 1"):
            tide.config.bind(Settings, prefix="shop/")


async def test_other_keys_below_are_none_of_its_fields() -> None:
    """Keys that are no field's, below a record or another field, are somebody else's, as those beside it are."""
    async with connected(MemoryStore()) as tide:
        await put(tide, {"db": {"host": "a"}, "db/notes": "x", "db/host/x": "y", "tags/0": "z", "db/": ""})
        live = tide.config.bind(Settings, prefix="shop/")
        assert live.value == Settings(Db("a"))
        with pytest.raises(ConfigKeyError, match="'shop/db'"):
            await tide.config.delete("shop/db")
            tide.config.bind(Settings, prefix="shop/")


async def test_defaults_and_last_good_reach_into_records() -> None:
    """The field that is refused has its default, and not all of its record; what was accepted has its own keys."""
    async with connected(MemoryStore()) as tide:
        await put(tide, {"db/host": "a", "db/port": "x"})
        assert tide.config.bind(Settings, prefix="shop/", on_invalid="default").value == Settings(Db("a"))
        await put(tide, {"db/port": 7})
        first = tide.config.bind(Settings, prefix="shop/", on_invalid="last_good")
        await put(tide, {"db/port": "x", "db/options/tls": True})
        again = tide.config.bind(Settings, prefix="shop/", on_invalid="last_good")
        assert first.value == again.value == Settings(Db("a", 7))


async def test_a_tests_values_reach_into_records() -> None:
    """A key of a record's field can be overridden, also one that etcd does not have."""
    async with connected(MemoryStore()) as tide:
        await put(tide, {"db/host": "a"})
        live = tide.config.bind(Settings, prefix="shop/")
        with overriding(tide, {"shop/db/port": 7, "shop/replica/host": "b"}):
            assert live.value == tide.config.bind(Settings, prefix="shop/").value == Settings(Db("a", 7), Db("b"))
        assert live.value == Settings(Db("a"))


async def test_depth_has_a_bound() -> None:
    """A record that contains itself is followed as deep as JSON may be; what is deeper is no field."""
    async with connected(MemoryStore()) as tide:
        await put(tide, {"/".join(["next"] * level + ["name"]): level for level in range(1, 100)})
        value: Chain | None = tide.config.bind(Chain, prefix="shop/").value
        names = []
        while value is not None:
            names.append(value.name)
            value = value.next
        assert names == ["", *map(str, range(1, DEPTH))]
        await put(tide, {"/".join(["next"] * 100_000): "{}"})
        assert tide.status().restarts == 0


async def test_keys_of_no_field_build_nothing() -> None:
    """A change of a key that is no field's builds no object; a field's builds one."""
    made: list[Settings] = []
    async with connected(MemoryStore()) as tide:
        await put(tide, {"db/host": "a"})
        live = tide.config.bind(Settings, prefix="shop/", validate=made.append)
        await put(tide, {"other": 1, "db/other": 1, "tags/1": 1})
        assert made == [live.value]
        await put(tide, {"db/port": 1})
        assert len(made) == 2
