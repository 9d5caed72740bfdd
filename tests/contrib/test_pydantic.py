"""pydantic's types as configuration: read, written, bounded, and never quoted."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import traceback
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypedDict, TypeVar
from uuid import UUID

import pydantic
import pydantic.dataclasses
import pytest
import typing_extensions
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, PositiveInt, RootModel, SecretStr

import tideover.contrib.pydantic  # noqa: F401  # from here on pydantic's types are known
from tests.canaries import canary
from tests.support import connected
from tests.support import mock_backend as anyio_backend
from tideover import ConfigValueError, InvalidValue, with_config
from tideover.codecs import Refusal, decode, decoder, encode
from tideover.testing import MemoryStore

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

T = TypeVar("T")
SECRET = canary("model")
Durations = Annotated[timedelta, Field(gt=timedelta(0))]


class Pool(BaseModel):
    size: int = Field(default=3, gt=0)
    wait: timedelta = timedelta(seconds=1)
    token: SecretStr = SecretStr("none")
    url: pydantic.HttpUrl | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool = True


class Box(BaseModel, Generic[T]):
    item: T


@pydantic.dataclasses.dataclass
class Named:
    size: int = Field(alias="poolSize", gt=0)
    secret: SecretStr | None = None


@dataclass
class Own:
    pool: Pool
    wait: timedelta = timedelta(0)


class OwnDict(TypedDict):
    pools: dict[str, Pool]


class OnlyRead(BaseModel):
    size: int = Field(default=1, validation_alias="poolSize")
    deep: int = Field(default=1, validation_alias=AliasPath("a", "b"))


class OtherWays(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    size: int = Field(default=1, validation_alias=AliasChoices("pool", "poolSize"), serialization_alias="written")


class Ratio(BaseModel):
    ratio: float = 1.0
    _seen: list[int] = pydantic.PrivateAttr(default_factory=list)

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def percent(self) -> float:
        """Be shown, and never read."""
        return 100 * self.ratio


class Sets(BaseModel):
    ids: set[UUID] = set()
    numbers: frozenset[int] = frozenset()
    names: list[str] = []


class Node(BaseModel):
    inner: Node | Leaf | None = None
    value: int = 0


class Leaf(BaseModel):
    inner: Node | Leaf | None = None
    value: int = 0


Node.model_rebuild()


def megabytes(text: str) -> int:
    """Take the unit off, which only text has."""
    return int(text.removesuffix("MB"))


def split(value: object) -> object:
    """Make a list of a text, as people write it into variables."""
    return value.split(",") if isinstance(value, str) else value


# Read and written -----------------------------------------------------------------------------------------------

READ: list[tuple[Any, bytes, object]] = [
    (Pool, b'{"size": 5, "token": "t"}', Pool(size=5, token=SecretStr("t"))),
    (Pool, b'{"size": "5", "unknown": 1, "wait": "PT2S"}', Pool(size=5, wait=timedelta(seconds=2))),
    (Pool | None, b"null", None),
    (Pool | None, b'{"size": 5}', Pool(size=5)),
    (list[Pool], b'[{"size": 5}]', [Pool(size=5)]),
    (dict[str, Pool], b'{"a": {"size": 5}}', {"a": Pool(size=5)}),
    (Own, b'{"pool": {"size": 5}, "wait": "250ms"}', Own(Pool(size=5), timedelta(seconds=0.25))),
    (OwnDict, b'{"pools": {"a": {}}}', {"pools": {"a": Pool()}}),
    (Named, b'{"poolSize": 4, "secret": "s"}', Named(poolSize=4, secret=SecretStr("s"))),
    (Box[Pool], b'{"item": {"size": 5}}', Box[Pool](item=Pool(size=5))),
    (Cat | Dog, b'{"kind": "dog"}', Dog(kind="dog")),
    (Annotated[Cat | Dog, Field(discriminator="kind")], b'{"kind": "dog"}', Dog(kind="dog")),
    (int | Cat, b"7", 7),
    (RootModel[list[int]], b"[5]", RootModel[list[int]]([5])),
    (RootModel[str], b"text", RootModel[str]("text")),
    (SecretStr, b"12345", SecretStr("12345")),
    (SecretStr, b'"quoted"', SecretStr('"quoted"')),
    (SecretStr | None, b"null", None),
    (list[SecretStr], b'["a"]', [SecretStr("a")]),
    (pydantic.HttpUrl, b"http://a.test/b\n", pydantic.HttpUrl("http://a.test/b")),
    (pydantic.ByteSize, b"1KiB", 1024),
    (PositiveInt, b" 5\n", 5),
    (PositiveInt | None, b"null", None),
    (list[PositiveInt], b"[5]", [5]),
    (Durations, b"250ms", timedelta(seconds=0.25)),
    (Annotated[int, pydantic.Strict()], b"5", 5),
    (Annotated[int, pydantic.BeforeValidator(megabytes)], b"5MB", 5),
    (Annotated[list[str], pydantic.BeforeValidator(split)], b"a,b", ["a", "b"]),
    (pydantic.Json[list[int]], b"[1, 2]", [1, 2]),
    (Decimal | Pool, b'{"size": 5}', Pool(size=5)),
]  # fmt: skip


@pytest.mark.parametrize(("form", "data", "value"), READ, ids=[f"{form}"[:50] for form, _, _ in READ])
def test_what_is_pydantics_is_read(form: Any, data: bytes, value: object) -> None:
    """Models, dataclasses, types and notes of pydantic's are read by themselves and within types of ours."""
    assert decode(data, form) == value
    assert decode(encode(value), form) == value


@pytest.mark.parametrize(
    ("form", "data", "why"),
    [
        (Pool, b'{"size": 0}', "Pool refuses it: ValidationError: size: greater_than"),
        (list[Pool], b'[{"size": 0}]', "Pool refuses it: ValidationError: size: greater_than"),
        (Own, b'{"pool": {"size": 0}}', "pool: Pool refuses it: ValidationError: size: greater_than"),
        (Own, b'{"pool": {}, "wait": "PT2S"}', "wait: not a duration: write seconds, or like 250ms or 1h30m"),
        (Box[Pool], b'{"item": {"size": 0}}', r"Box\[Pool\] refuses it: ValidationError: item.size: greater_than"),
        (dict[str, PositiveInt], b'{"a": 0}', "int refuses it: ValidationError: greater_than"),
        (PositiveInt, b"0", "int refuses it: ValidationError: greater_than"),
        (PositiveInt | None, b"0", "int refuses it: ValidationError: greater_than"),
        (Durations, b"0s", "timedelta refuses it: ValidationError: greater_than"),
        (Durations, b"soon", "not a duration"),
        (Annotated[float, Field(description="a share")], b"nan", "not a number"),
        (Named, b'{"size": 4}', "Named refuses it: ValidationError: poolSize: missing"),
        (Pool, b"text", "not JSON"),
    ],
)
def test_what_is_none_is_refused(form: Any, data: bytes, why: str) -> None:
    """A refusal says which type refuses, where, and the kind of the error."""
    with pytest.raises(Refusal, match=why):
        decode(data, form)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (Pool(token=SecretStr("t")), {"size": 3, "wait": "PT1S", "token": "t", "url": None}),
        (OnlyRead(poolSize=4, a={"b": 5}), {"poolSize": 4, "a": {"b": 5}}),  # type: ignore[call-arg]
        (OtherWays(size=4), {"size": 4}),
        (Ratio(ratio=0.5), {"ratio": 0.5}),
        (Ratio(ratio=float("inf")), {"ratio": "inf"}),
        ([Pool()], [{"size": 3, "wait": "PT1S", "token": "none", "url": None}]),
    ],
)
def test_what_is_written_reads_back(value: Any, data: object) -> None:
    """Fields have the names they are read by, secrets are written, computed fields and private ones are not."""
    assert json.loads(encode(value)) == data
    assert decode(encode(value), list[Pool] if isinstance(value, list) else type(value)) == value


def test_what_would_not_read_back_is_not_written() -> None:
    """NaN and what its type refuses are no values, and the error shows neither."""
    for value in (Ratio(ratio=float("nan")), Pool.model_construct(size=SECRET)):
        with pytest.raises(ValueError, match="would not read back as the same"):
            encode(value)


def test_types_are_told_apart_by_their_notes() -> None:
    """The same notes are one type, also where they have no hash of their own; other notes are another."""

    def form(least: int) -> Any:
        return Annotated[int, Field(ge=least), {"unit": "s"}]

    assert decoder(form(1)) is decoder(form(1))
    assert decoder(form(1)) is not decoder(form(2))
    assert decoder(form(1)) is not decoder(int)
    assert decoder(Annotated[int, {"unit": "s"}]) is decoder(int)


def test_pydantics_own_sentence_about_a_type() -> None:
    """What pydantic cannot validate is a TypeError with its sentence: `typing.TypedDict` before Python 3.12."""

    class Unknown:
        pass

    with pytest.raises(TypeError, match=r"Pool \| .*Unknown.*: Unable to generate"):
        decoder(Pool | Unknown)
    noted: Any = Annotated[OwnDict, pydantic.AfterValidator(lambda value: value)]
    if sys.version_info < (3, 12):
        with pytest.raises(TypeError, match=r"as OwnDict: .*`typing_extensions.TypedDict`"):
            decoder(noted)

    class Extended(typing_extensions.TypedDict):
        size: int

    assert decode(b'{"size": "5"}', Annotated[Extended, pydantic.AfterValidator(dict)]) == {"size": 5}


# Bounds ---------------------------------------------------------------------------------------------------------

_MODULUS = 2**61 - 1


@pytest.mark.parametrize(
    ("form", "data", "why"),
    [
        (Pool, b'{"size": NaN}', "NaN is not JSON"),
        (Pool, b'{"size": ' + b"9" * 5000 + b"}", "not JSON"),
        (Pool, b"[" * 3000 + b"]" * 3000, "not JSON|nested too deeply|json_invalid"),
        (Node, b'{"inner":' * 300 + b"{}" + b"}" * 300, "too long to decode"),
        (Node, b'{"inner":' * 16 + b'{"value":"x"}' + b"}" * 16, "too long to decode"),
        (Sets, json.dumps({"numbers": [n * _MODULUS for n in range(99)]}).encode(), "the same hash"),
        (Sets, json.dumps({"ids": [str(UUID(int=n * _MODULUS)) for n in range(999)]}).encode(), "too long"),
        (list[Pool], b"[" + b"{}," * 20_000 + b"{}]", "too long to decode"),
    ],
)
def test_pydantic_is_not_given_what_takes_too_long(form: Any, data: bytes, why: str) -> None:
    """What our own decoder refuses, and what costs pydantic seconds, is refused before pydantic sees it."""
    with pytest.raises(Refusal, match=why):
        decode(data, form)


def test_many_items_as_people_write_them_are_read() -> None:
    """5,000 numbers and 5,000 names pass the bounds; so does a tree of few levels."""
    sets: Any = decode(
        json.dumps({"numbers": [*range(5000)], "names": [f"a{n}" for n in range(5000)]}).encode(), Sets
    )
    assert (len(sets.numbers), len(sets.names)) == (5000, 5000)
    assert decode(b'{"inner": {"inner": {"value": 5}}}', Node)


def test_few_of_many_errors_are_told() -> None:
    """A value with thousands of errors is refused in one short line."""
    with pytest.raises(Refusal, match=r"names.4: string_type; and 4995 more$"):
        decode(json.dumps({"names": [1] * 5000}).encode(), Sets)


# In the configuration -------------------------------------------------------------------------------------------


async def test_models_in_every_way_of_reading() -> None:
    """`put`, `get`, `read`, `fetch` and `with_config` take models; a value stays if the next is bad."""

    @with_config(pool="pool", size="size")
    def show(*, pool: Pool | None = None, size: PositiveInt = 7) -> tuple[Pool | None, int]:
        return pool, size

    async with connected(MemoryStore()) as tide:
        await tide.config.put("pool", Pool(size=5))
        pool = tide.config.get("pool", Pool)
        assert pool == Pool(size=5)
        assert tide.config.get("pool", Pool) is pool
        assert tide.config.read("pool", Pool).value is pool
        assert (await tide.config.fetch("pool", Pool)).value == pool
        assert show() == (pool, 7)
        await tide.config.put("size", -1)
        assert show() == (pool, 7)
        await tide.config.put("pool", {"size": -1})
        assert tide.config.get("pool", Pool) is pool
        reasons = {refused.key: refused.reason for refused in tide.status().rejected}
        assert reasons["pool"] == "Pool refuses it: ValidationError: size: greater_than"


def test_an_import_after_decorating() -> None:
    """A model is no error where `with_config` decorates; the first call names the import, or decodes after it."""
    code = """
import anyio, pydantic, pydantic.dataclasses
from tideover import connect, with_config
from tideover.testing import MemoryStore

class Pool(pydantic.BaseModel):
    size: int = 1

@pydantic.dataclasses.dataclass
class Aliased:
    size: int = pydantic.Field(alias="poolSize")

@with_config(pool="pool", aliased="aliased")
def show(*, pool: Pool = Pool(size=7), aliased: Aliased | None = None) -> Pool:
    return pool

async def main():
    async with connect(store=MemoryStore()) as tide:
        await tide.config.put("pool", {"size": 5})
        for _ in range(2):
            try:
                print(show())
            except TypeError as exc:
                print(exc)
            import tideover.contrib.pydantic

anyio.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    first, second = done.stdout.splitlines()
    assert first == (
        "with_config: show's parameter 'pool': 'pool': cannot decode configuration as Pool: "
        "import tideover.contrib.pydantic first (pip install 'tideover[pydantic]')"
    )
    assert second == "size=5"


async def test_models_are_bound_by_key() -> None:
    """Each field is a key, by its alias; pydantic checks the whole; a bad value keeps the last good object."""

    class Settings(BaseModel):
        size: int = Field(default=3, gt=0, alias="pool-size")
        wait: timedelta = timedelta(0)
        hosts: list[str] = []
        token: SecretStr = SecretStr("none")
        limit: int | None = 5

        @pydantic.field_validator("size", mode="before")
        @classmethod
        def _strip(cls, value: object) -> object:
            return megabytes(value) if isinstance(value, str) else value

    async with connected(MemoryStore()) as tide:
        for key, value in {
            "pool-size": "4MB",
            "wait": "250ms",
            "hosts": ["a"],
            "token": "t",
            "limit": None,
        }.items():
            await tide.config.put(f"s/{key}", value)
        live = tide.config.bind(Settings, prefix="s")
        expected = Settings.model_validate(
            {"pool-size": 4, "wait": timedelta(seconds=0.25), "hosts": ["a"], "token": "t", "limit": None}
        )
        assert live.value == expected
        await tide.config.put("s/pool-size", 0)
        assert live.value == expected
        assert str(live.rejection) == "'s/': Settings refuses it: ValidationError: pool-size: greater_than"
        await tide.config.put("s/wait", "PT1M")
        await tide.config.put("s/pool-size", 9)
        assert (live.value.size, live.value.wait, live.rejection) == (9, timedelta(minutes=1), None)
        with pytest.raises(TypeError, match="dataclass or a TypedDict with fields, or a model"):
            tide.config.bind(RootModel[int], prefix="s")


async def test_models_within_models_have_keys_of_their_own() -> None:
    """A field that is a model may be JSON or keys of its own, in models, in dataclasses, and optional ones."""

    class Outer(BaseModel):
        pool: Pool = Pool()
        spare: Pool | None = None

    @dataclass(frozen=True)
    class Mixed:
        pool: Pool
        cat: Cat | None = None

    async with connected(MemoryStore()) as tide:
        await tide.config.put("o/pool/size", 5)
        await tide.config.put("o/spare", {"size": 6})
        await tide.config.put("m/pool/wait", "250ms")
        await tide.config.put("m/cat/kind", "cat")
        outer = tide.config.bind(Outer, prefix="o")
        mixed = tide.config.bind(Mixed, prefix="m")
        assert outer.value == Outer(pool=Pool(size=5), spare=Pool(size=6))
        assert mixed.value == Mixed(Pool(wait=timedelta(seconds=0.25)), Cat(kind="cat"))
        await tide.config.put("n/inner/inner/value", 3)
        node = tide.config.bind(Node, prefix="n").value
        assert node == Node(inner=None)
        await tide.config.put("m/cat/lives", 7)
        await tide.config.put("o/pool/size", 0)
        assert mixed.value.cat == Cat(kind="cat", lives=7)
        assert str(outer.rejection) == "'o/pool': Pool refuses it: ValidationError: size: greater_than"
        assert tide.config.bind(Outer, prefix="o", on_invalid="default").value == Outer(spare=Pool(size=6))


# Never quoted ---------------------------------------------------------------------------------------------------


class Login(BaseModel):
    password: SecretStr = Field(default=SecretStr("none"), max_length=8)
    name: str = ""
    tokens: dict[str, PositiveInt] = {}

    @pydantic.field_validator("name")
    @classmethod
    def _check(cls, name: str) -> str:
        if name.startswith("operator"):
            raise InvalidValue("operators have no login")
        raise ValueError(f"no {name}")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"password": SECRET}, "password: too_long"),
        ({"name": SECRET}, "name: value_error"),
        ({"name": "operator"}, "name: operators have no login"),
        ({"tokens": {SECRET: 0}}, r"tokens.[key]: greater_than"),
        (SECRET, "not JSON: Expecting value: line 1 column 1 (char 0)"),
    ],
)
async def test_a_refused_model_is_shown_nowhere(value: object, why: str, caplog: pytest.LogCaptureFixture) -> None:
    """Log, status, errors and tracebacks name place and kind; of validators only an InvalidValue is told."""
    async with connected(MemoryStore()) as tide:
        await tide.config.put("login", value)
        with pytest.raises(ConfigValueError) as caught:
            tide.config.get("login", Login)
        said = "\n".join(
            [
                *(logging.Formatter().format(record) for record in caplog.records),
                str(tide.status().to_dict()),
                *traceback.format_exception(caught.value),
            ]
        )
        assert said.count(why) >= 3
        assert SECRET not in said


async def test_a_secret_is_shown_by_no_repr(caplog: pytest.LogCaptureFixture) -> None:
    """A secret in a model, by itself and in a settings object is read and written, and shown by nothing."""
    caplog.set_level(logging.DEBUG)
    async with connected(MemoryStore()) as tide:
        await tide.config.put("login", Pool(token=SecretStr(SECRET)))
        await tide.config.put("s/token", SecretStr(SECRET))
        live = tide.config.bind(Pool, prefix="s")
        reading = tide.config.read("login", Pool)
        shown = repr(
            (reading, live, live.value, tide.config, tide.status(), tide.config.get("s/token", SecretStr))
        )
        assert reading.value is not None
        assert reading.value.token.get_secret_value() == live.value.token.get_secret_value() == SECRET
        assert SECRET not in shown + caplog.text


class Base(BaseModel):
    host: str
    port: int = Field(default=5432, ge=1)
    password: SecretStr = SecretStr("none")


class Service(BaseModel):
    base: Base = Field(description="where it keeps things")
    replica: Base | None = None
    size: int = Field(default=3, alias="poolSize", lt=10)


async def test_a_model_within_a_model_is_bound_by_the_keys_of_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    """Fields have keys under the names that they are read by; of what their own checks refuse no value is told."""
    async with connected(MemoryStore()) as tide:
        for key, value in (
            ("base/host", "a"),
            ("base/password", SECRET),
            ("poolSize", 4),
            ("replica", {"host": "b"}),
        ):
            await tide.config.put(f"service/{key}", value)
        live = tide.config.bind(Service, prefix="service/")
        made = Service(base=Base(host="a", password=SecretStr(SECRET)), replica=Base(host="b"), poolSize=4)
        assert live.value == made
        await tide.config.put("service/base/port", 0)
        assert str(live.rejection) == "'service/base': Base refuses it: ValidationError: port: greater_than_equal"
        assert live.value == made
        assert SECRET not in caplog.text


async def test_a_field_that_a_model_refuses_has_its_default_or_what_was_accepted() -> None:
    """A model's own checks say which field they refuse: the others are as in etcd."""
    async with connected(MemoryStore()) as tide:
        for key, value in (("base/host", "a"), ("base/port", 7), ("poolSize", 4)):
            await tide.config.put(f"service/{key}", value)
        tide.config.bind(Service, prefix="service/", on_invalid="last_good")
        await tide.config.put("service/base/port", 0)
        await tide.config.put("service/poolSize", 50)
        accepted = tide.config.bind(Service, prefix="service/", on_invalid="last_good").value
        assert accepted == Service(base=Base(host="a", port=7), poolSize=4)
        live = tide.config.bind(Service, prefix="service/", on_invalid="default")
        assert live.value == Service(base=Base(host="a"))
        assert "base" in str(live.rejection)


class Parsed(BaseModel):
    ids: pydantic.Json[list[int]] = []
    more: pydantic.Json[list[int]] | None = None


async def test_json_that_pydantic_parses_itself_by_key() -> None:
    """A field of `Json` gets its key's text, as it gets that of an environment variable."""
    async with connected(MemoryStore(values={"p/ids": [1, 2], "p/more": [3]})) as tide:
        live = tide.config.bind(Parsed, prefix="p/")
        assert (live.value.ids, live.value.more) == ([1, 2], [3])


class Early(BaseModel):
    nodes: list[Late] = []  # type: ignore[name-defined]  # noqa: F821  # not defined, which is what this is for


async def test_a_model_that_is_not_fully_defined_is_no_refused_value() -> None:
    """A name that is missing in the code is a `NameError` in every way of reading, until there is one."""
    forms: tuple[Any, ...] = (Early, list[Early], Early | None)
    async with connected(MemoryStore(values={"key": {"nodes": [{}]}})) as tide:
        none = Early.model_construct()

        @with_config(early="key")
        def injected(*, early: Early = none) -> Early:
            return early

        for form in forms:
            with pytest.raises(NameError, match=r"Early.* is made of what is not defined yet.*model_rebuild\(\)"):
                tide.config.get("key", form, default=None)
        with pytest.raises(NameError, match="not defined yet"):
            tide.config.bind(Early, prefix="early/")
        with pytest.raises(NameError, match="not defined yet"):
            injected()
        assert tide.status().rejected == ()

        class Late(BaseModel):
            size: int = 1

        Early.model_rebuild(_types_namespace={"Late": Late})
        assert len(tide.config.get("key", Early).nodes) == len(injected().nodes) == 1
