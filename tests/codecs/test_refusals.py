"""What is told of a refused value: never the value."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import traceback
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID

import pydantic
import pydantic.dataclasses
import pytest

from tests.canaries import canary
from tideover import InvalidValue
from tideover.codecs import Refusal, asking, decode

pytestmark = pytest.mark.usefixtures("own_types_only")

SECRET = canary("refused-value")


class Token(str):
    """Text that refuses itself as many do: with the text."""

    def __new__(cls, text: str) -> Token:
        """Refuse it."""
        raise LookupError(f"no token: {text}")


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


def _no_secret(text: str) -> str:
    raise ValueError(f"{text} will not do")


def _said(text: str) -> str:
    raise InvalidValue("the password has been leaked")


@pydantic.dataclasses.dataclass
class Database:
    password: str = pydantic.Field(default="", max_length=8)


@pydantic.dataclasses.dataclass
class Checked:
    password: Annotated[str, pydantic.AfterValidator(_no_secret)] = ""


@pydantic.dataclasses.dataclass
class Said:
    password: Annotated[str, pydantic.AfterValidator(_said)] = ""


@pydantic.dataclasses.dataclass
class Keyed:
    tokens: dict[str, Annotated[int, pydantic.Field(lt=3)]] = dataclasses.field(default_factory=dict)
    chosen: list[Annotated[int, pydantic.Field(lt=3)]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Adapted:
    tokens: dict[str, int]

    def __post_init__(self) -> None:
        """Ask pydantic about a part alone."""
        pydantic.TypeAdapter(dict[str, Annotated[int, pydantic.Field(lt=3)]]).validate_python(self.tokens)


class Closed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


@dataclasses.dataclass
class Remodelled:
    tokens: dict[str, int]

    def __post_init__(self) -> None:
        """Ask a model that knows none of the names."""
        Closed.model_validate(self.tokens)


@dataclasses.dataclass
class Chained:
    password: str

    def __post_init__(self) -> None:
        """Refuse it, in a roundabout way."""
        try:
            int(self.password)
        except ValueError as exc:
            raise RuntimeError(f"no number: {self.password}") from exc


@dataclasses.dataclass
class Grouped:
    password: str

    def __post_init__(self) -> None:
        """Refuse it for two reasons."""
        raise ExceptionGroup(self.password, [ValueError(self.password), InvalidValue("too old")])


@dataclasses.dataclass
class Outer:
    inner: Chained


@dataclasses.dataclass
class Speaking:
    password: str

    def __post_init__(self) -> None:
        """Refuse it in words for operators."""
        raise InvalidValue("the password has been leaked")


def _json(form: str = "{}") -> bytes:
    return form.replace("{}", f'{{"password": "{SECRET}"}}').encode()


REFUSED: list[tuple[Any, bytes, str]] = [
    (int, SECRET.encode(), "not an integer"),
    (float, SECRET.encode(), "not a number"),
    (Decimal, SECRET.encode(), "not a decimal number"),
    (bool, SECRET.encode(), "not a boolean: write true or false"),
    (UUID, SECRET.encode(), "not a UUID"),
    (UUID | None, SECRET.encode(), "not a UUID"),
    (Path, f"{SECRET}\0".encode(), "not a path"),
    (list[int], SECRET.encode(), "not JSON: Expecting value: line 1 column 1 (char 0)"),
    (Token, SECRET.encode(), "Token refuses it: LookupError"),
    (list[Token], f'["{SECRET}"]'.encode(), "Token refuses it: LookupError"),
    (Token | int, SECRET.encode(), "Token refuses it: LookupError; not an integer"),
    (Rights, b"99887766", "Rights refuses it: ValueError"),
    (list[Rights], b"[99887766]", "Rights refuses it: ValueError"),
    (Database, _json(), "Database refuses it: ValidationError: password: string_too_long"),
    (Checked, _json(), "Checked refuses it: ValidationError: password: value_error"),
    (Said, _json(), "Said refuses it: ValidationError: password: the password has been leaked"),
    (
        Keyed,
        f'{{"tokens": {{"{SECRET}": 3}}}}'.encode(),
        "Keyed refuses it: ValidationError: tokens.[key]: less_than",
    ),
    (Keyed, b'{"chosen": [1, 3]}', "Keyed refuses it: ValidationError: chosen.1: less_than"),
    (
        Adapted,
        f'{{"tokens": {{"{SECRET}": 3}}}}'.encode(),
        "Adapted refuses it: ValidationError: [key]: less_than",
    ),
    (
        Remodelled,
        f'{{"tokens": {{"{SECRET}": 3}}}}'.encode(),
        "Remodelled refuses it: ValidationError: [key]: extra_forbidden",
    ),
    (Chained, _json(), "Chained refuses it: RuntimeError"),
    (Outer, _json('{"inner": {}}'), "inner: Chained refuses it: RuntimeError"),
    (Grouped, _json(), "Grouped refuses it: ValueError; too old"),
    (Speaking, _json(), "the password has been leaked"),
    (dict[str, Speaking], _json('{"a": {}}'), "the password has been leaked"),
]


@pytest.mark.parametrize(("form", "data", "text"), REFUSED, ids=[str(form) for form, *_ in REFUSED])
def test_a_refusal_does_not_show_the_value(form: Any, data: bytes, text: str) -> None:
    """Class and place stand in the text; neither text, cause, context nor traceback shows the value."""
    with pytest.raises(ValueError) as caught:
        decode(data, form)
    refusal = caught.value
    assert str(refusal) == text
    assert isinstance(refusal, Refusal)
    assert refusal.__cause__ is None
    assert refusal.__context__ is None
    shown = "".join(traceback.format_exception(refusal))
    assert SECRET not in shown
    assert "99887766" not in shown
    assert (refusal.exception is not None) is ("refuses" in text or "leaked" in text)


def test_the_exception_of_the_check_is_kept() -> None:
    """What a check has raised stands beside the refusal, whole."""
    with pytest.raises(Refusal) as caught:
        decode(_json(), Chained)
    assert str(caught.value.exception) == f"no number: {SECRET}"


def test_what_a_check_returns_is_returned() -> None:
    """A check that does not refuse is not noticed, and one that is interrupted is no refusal."""

    def stop() -> NoReturn:
        raise KeyboardInterrupt

    assert asking("it", int, "7") == 7
    with pytest.raises(KeyboardInterrupt):
        asking("it", stop)


@pytest.mark.parametrize("raised", [asyncio.CancelledError, GeneratorExit])
def test_what_would_end_a_task_is_a_refusal(raised: type[BaseException]) -> None:
    """A check cannot cancel who has asked, such as the task that follows etcd; its text is not shown either."""

    def stop() -> NoReturn:
        raise raised(SECRET)

    with pytest.raises(Refusal, match=f"^it refuses it: {raised.__name__}$"):
        asking("it", stop)


def test_a_check_without_end_is_a_refusal() -> None:
    """A check that recurses too deeply refuses the value, and does not end who has asked."""

    def endless(depth: int) -> int:
        return endless(depth + 1) + 1

    with pytest.raises(Refusal, match="nested too deeply"):
        asking("it", endless, 0)
