"""Types and checks of `tide.config`: refused before there is a value, told apart, and never quoting a value."""

from __future__ import annotations

import enum
import logging
import pickle
import traceback
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import anyio
import pydantic
import pydantic.dataclasses
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.canaries import canary
from tests.support import connected
from tideover import ConfigKeyError, ConfigValueError, Coordinator, InvalidValue
from tideover.telemetry import scope
from tideover.testing import MemoryStore

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("own_types_only")]

T = TypeVar("T")
SECRET = canary("refused-setting")


@dataclass
class Server:
    secret: pydantic.SecretStr | None = None


@dataclass
class Settings:
    servers: list[Server] = field(default_factory=list)


@dataclass
class Box(Generic[T]):
    item: T


# Before there is a value ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
async def test_a_type_is_refused_key_or_no_key(known: bool) -> None:
    """Each way of asking refuses a type that cannot be decoded, naming key, place and type, without any value."""
    store = MemoryStore()
    store.down = set() if known else set(store.members)
    words = r"'a/b': cannot decode configuration as Settings, in which Settings\.servers\[\]\.secret is SecretStr"
    async with connected(store) as tide:
        for _ in range(2):
            with pytest.raises(TypeError, match=words):
                tide.config.get("a/b", Settings)
            with pytest.raises(TypeError, match=words):
                tide.config.get("a/b", Settings, default=None)
            with pytest.raises(TypeError, match=words):
                tide.config.read("a/b", Settings)
            with pytest.raises(TypeError, match=words):
                await tide.config.fetch("a/b", Settings, default=None)
            with pytest.raises(TypeError, match=r"'a/': .*Settings\.servers\[\]\.secret is SecretStr: import"):
                tide.config.bind(Settings, prefix="a/")


@pytest.mark.parametrize("meant", [3, "text", None, [], {}, 2.5, False])
async def test_a_default_by_position_says_what_was_meant(meant: Any) -> None:
    """`get(key, 3)` is refused whether the key is there or not, and names `default=`."""
    async with connected(MemoryStore()) as tide:
        for _ in range(2):
            with pytest.raises(TypeError, match=r"'a': .* a default is given as default="):
                tide.config.get("a", meant)
            with pytest.raises(TypeError, match="default="):
                await tide.config.fetch("a", meant)
            await tide.config.put("a", 7)


async def test_a_pydantic_model_is_refused_in_clear_words() -> None:
    """A model names the import that it needs; pydantic's dataclasses are read and checked without."""

    class Model(pydantic.BaseModel):
        size: int = 1

    @pydantic.dataclasses.dataclass
    class Pool:
        size: int = pydantic.Field(default=1, gt=0)

    async with connected(MemoryStore()) as tide:
        with pytest.raises(TypeError, match=r"as Model: import tideover\.contrib\.pydantic first \(pip install"):
            tide.config.get("pool", Model, default=None)
        with pytest.raises(TypeError, match=r"'pool/': .* as Model: import tideover"):
            tide.config.bind(Model, prefix="pool/")
        await tide.config.put("pool", {"size": "2"})
        assert tide.config.get("pool", Pool) == Pool(2)
        await tide.config.put("pool", {"size": 0})
        assert tide.config.get("pool", Pool) == Pool(2)
        (refused,) = tide.status().rejected
        assert refused.reason == "Pool refuses it: ValidationError: size: greater_than"


# Told apart -----------------------------------------------------------------------------------------------------


async def test_unions_that_differ_in_order_share_nothing() -> None:
    """Each order keeps values of its own, through changes, refusals and repeated reads."""
    async with connected(MemoryStore()) as tide:
        await tide.config.put("a", 7)
        for _ in range(3):
            assert tide.config.get("a", float | timedelta) == 7.0
            assert tide.config.get("a", timedelta | float) == timedelta(seconds=7)
            assert tide.config.get("a", list[float | timedelta] | float) == 7.0
        good = await tide.config.put("a", 8)
        assert tide.config.get("a", timedelta | float) == timedelta(seconds=8)
        await tide.config.put("a", "soon")
        reading = tide.config.read("a", timedelta | float)
        assert (reading.value, reading.revision) == (timedelta(seconds=8), good.revision)
        assert tide.config.get("a", float | timedelta) == 8.0


async def test_notes_that_cannot_be_hashed() -> None:
    """A note in `Annotated` does not matter to any way of reading."""
    noted: Any = Annotated[int, {"unit": "s"}]
    async with connected(MemoryStore()) as tide:
        assert tide.config.get("a", noted, default=3) == 3
        await tide.config.put("a", 7)
        for _ in range(2):
            assert tide.config.get("a", noted) == tide.config.read("a", noted).value == 7
            assert (await tide.config.fetch("a", noted)).value == 7
        await tide.config.put("a", "seven")
        assert tide.config.get("a", noted) == 7


async def test_generic_settings_are_bound() -> None:
    """A generic dataclass binds with its parameters, and fields may be paths."""
    async with connected(MemoryStore()) as tide:
        await tide.config.put("a/item", Path("/srv"))
        live = tide.config.bind(Box[Path], prefix="a/")
        assert live.value == Box(Path("/srv"))
        assert "Box" in repr(live)
        with pytest.raises(ConfigKeyError, match=r"'b/item', which .*Box\[pathlib\..*Path\] needs"):
            tide.config.bind(Box[Path], prefix="b/")


# Never quoted ---------------------------------------------------------------------------------------------------


class Token(str):
    """Text that refuses itself with the text."""

    def __new__(cls, text: str) -> Token:
        """Refuse what is not a token."""
        if not text.startswith("token "):
            raise ValueError(f"no token: {text}")
        return super().__new__(cls, text)


class Rights(enum.Flag):
    READ = 1


@pydantic.dataclasses.dataclass
class Database:
    password: str = pydantic.Field(default="", max_length=8)


@dataclass
class Login:
    password: str = ""
    old: str = ""

    def __post_init__(self) -> None:
        """Refuse as many do, and as operators like it."""
        if self.old:
            raise InvalidValue("the old password is set")
        if self.password == SECRET:
            raise KeyError(f"{self.password} is taken")


def everything_shown(tide: Coordinator, caplog: pytest.LogCaptureFixture) -> str:
    """Return what logs and status show."""
    lines = [logging.Formatter("%(name)s %(message)s").format(record) for record in caplog.records]
    return "\n".join([*lines, str(tide.status()), str(tide.status().to_dict())])


@pytest.mark.parametrize(
    ("form", "value", "what"),
    [
        (Token, SECRET, "Token refuses it: ValueError"),
        (Rights, 99887766, "Rights refuses it: ValueError"),
        (Database, {"password": SECRET}, "Database refuses it: ValidationError: password: string_too_long"),
        (Login, {"password": SECRET}, "Login refuses it: KeyError"),
        (Login, {"old": SECRET}, "the old password is set"),
        (int | list[Token], [SECRET], "not an integer; Token refuses it: ValueError"),
    ],
)
async def test_a_refused_value_is_shown_nowhere(
    form: Any, value: object, what: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log, status, spans, errors and their tracebacks say class and place; the exception stays in the process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(scope, "tracer", provider.get_tracer("test"))
    async with connected(MemoryStore(), record_keys=True) as tide:
        await tide.config.put("a", value)
        errors = []
        with pytest.raises(ConfigValueError) as caught:
            tide.config.get("a", form)
        errors.append(caught.value)
        with pytest.raises(ConfigValueError) as caught:
            await tide.config.fetch("a", form)
        errors.append(caught.value)
        shown = everything_shown(tide, caplog)
        assert what in shown
        shown += "".join("".join(traceback.format_exception(error)) for error in errors)
        shown += "".join(
            str(dict(event.attributes or {})) for s in exporter.get_finished_spans() for event in s.events
        )
        assert "ConfigValueError" in shown
        assert SECRET not in shown
        assert "99887766" not in shown
        for error in errors:
            assert error.exception is not None
            copy = pickle.loads(pickle.dumps(error))
            assert (copy.key, copy.revision, copy.exception) == ("a", error.revision, None)
            assert str(copy) == str(error)


async def test_a_users_check_is_told_by_its_class(caplog: pytest.LogCaptureFixture) -> None:
    """Of what `validate=` raises the class is told; the exception itself is `live.rejection.exception`."""
    raised: list[Exception] = []

    def check(login: Login) -> None:
        if raised:
            raise raised[0]

    async with connected(MemoryStore()) as tide:
        await tide.config.put("db/password", "fine")
        live = tide.config.bind(Login, prefix="db/", validate=check)
        for exc, what in [
            (ValueError(SECRET), "check refuses it: ValueError"),
            (RuntimeError(SECRET), "refuses it: RuntimeError"),
            (RecursionError(SECRET), "nested too deeply"),
            (ExceptionGroup(SECRET, [InvalidValue("too short"), ValueError(SECRET)]), "too short; ValueError"),
            (InvalidValue("the password has been leaked"), "the password has been leaked"),
        ]:
            raised[:] = [exc]
            await anyio.sleep(60)  # the same line about the same object is told once in 30 s
            caplog.clear()
            await tide.config.put("db/password", f"not {SECRET}")
            assert live.value == Login("fine")
            rejection = live.rejection
            assert rejection is not None
            assert what in str(rejection)
            if what != "nested too deeply":
                assert rejection.exception is exc
            assert any("tideover.config.rejected" in message and what in message for message in caplog.messages)
            (refused,) = tide.status().rejected
            assert refused.key == "db/"
            assert str(rejection) == f"'db/': {refused.reason}"
            assert SECRET not in everything_shown(tide, caplog) + "".join(traceback.format_exception(rejection))
        raised.clear()
        await tide.config.put("db/password", "better")
        assert live.value == Login("better")
        assert live.rejection is None


async def test_a_refused_field_of_a_settings_object_says_why(caplog: pytest.LogCaptureFixture) -> None:
    """The rejection names the field's key and the reason, and keeps the exception of the field's type."""

    @dataclass
    class Access:
        token: Token

    async with connected(MemoryStore()) as tide:
        await tide.config.put("a/token", "token 1")
        live = tide.config.bind(Access, prefix="a/")
        written = await tide.config.put("a/token", SECRET)
        assert str(live.rejection) == f"'a/token' at revision {written.revision}: Token refuses it: ValueError"
        assert str(live.rejection and live.rejection.exception) == f"no token: {SECRET}"
        assert SECRET not in everything_shown(tide, caplog)
        await tide.config.delete("a/token")
        assert isinstance(live.rejection, ConfigKeyError)
        assert live.rejection.exception is None


async def test_the_first_object_may_be_refused_by_any_exception() -> None:
    """`bind` raises ConfigValueError whatever the check has raised."""

    def check(login: Login) -> None:
        raise LookupError(SECRET)

    async with connected(MemoryStore()) as tide:
        with pytest.raises(ConfigValueError, match="check refuses it: LookupError") as caught:
            tide.config.bind(Login, prefix="db/", validate=check)
        assert isinstance(caught.value.exception, LookupError)
