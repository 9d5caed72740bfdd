"""Which types decode, and that it shows before there is a value."""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import pathlib
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar, Union
from uuid import UUID

import pydantic
import pydantic.dataclasses
import pytest
import typing_extensions

from tideover.codecs import decode, decoder, encode, is_distinct

pytestmark = pytest.mark.usefixtures("own_types_only")

T = TypeVar("T")
U = TypeVar("U")
N = TypeVar("N", bound=int)
D = typing_extensions.TypeVar("D", default=bool)


class Mode(enum.Enum):
    FAST = "fast"
    SLOW = "slow"


class Rights(enum.IntFlag):
    READ = 1
    WRITE = 2


class Url(str):
    """Text with a check of its own."""

    def __new__(cls, text: str) -> Url:
        """Check it."""
        if not text.startswith("https://"):
            raise ValueError(f"not a URL: {text}")
        return super().__new__(cls, text)


class Port(int):
    pass


class Share(float):
    pass


# White space ----------------------------------------------------------------------------------------------------

SCALARS: list[tuple[object, str]] = [
    (bool, "yes"),
    (int, "7"),
    (float, "7"),
    (Decimal, "1.10"),
    (Decimal, "0.1234567890123456789012345"),
    (UUID, str(UUID(int=1))),
    (datetime, "2026-03-01T12:00:00+00:00"),
    (date, "2026-03-01"),
    (timedelta, "250ms"),
    (timedelta, "5"),
    (Path, "/srv"),
    (Path, "5"),
    (PurePosixPath, "a/b"),
    (ipaddress.IPv4Address, "10.0.0.1"),
    (ipaddress.IPv6Network, "fd00::/8"),
    (Mode, "fast"),
    (Mode, "FAST"),
    (Rights, "3"),
    (Port, "80"),
    (Share, "0.5"),
    (Literal["a", 3], "a"),
    (Literal["a", 3], "3"),
    (bytes, "null and more"),
    (Url, "https://x"),
    (NewType("Folder", Path), "/srv"),
]


@pytest.mark.parametrize(("form", "text"), SCALARS, ids=[f"{form}-{text}" for form, text in SCALARS])
@pytest.mark.parametrize("around", [("", ""), ("", "\n"), (" ", " \n")])
def test_a_type_or_none_decodes_as_the_type_alone(form: Any, text: str, around: tuple[str, str]) -> None:
    """`X | None` takes what `X` takes, white space included, and gives the same; `null` is None."""
    data = (around[0] + text + around[1]).encode()
    try:
        alone = decode(data, form)
    except ValueError:
        assert form is Url
        assert around[0]
        return
    for optional in (Union[form, None], Union[None, form], Annotated[Union[form, None], "a note"]):  # noqa: UP007
        found = decode(data, optional)
        assert found == alone
        assert type(found) is type(alone)
        assert decode(b" null\n", optional) is None


def test_white_space_is_left_out_of_what_is_not_text() -> None:
    """A newline from `etcdctl put KEY < file` does no harm in a union; text keeps it."""
    assert decode(b"fast\n", Mode | int) is Mode.FAST
    assert decode(b"1h\n", timedelta | list[int]) == timedelta(hours=1)
    assert decode(b"a\n", str | None) == "a\n"
    assert decode(b" a ", Literal[" a ", "a"]) == " a "


# The order of unions --------------------------------------------------------------------------------------------


def test_equal_types_that_decode_differently_are_told_apart() -> None:
    """Unions that differ in order have decoders of their own, however deep they stand; equal ones share one."""
    for one, other in [
        (float | timedelta, timedelta | float),
        (list[float | timedelta], list[timedelta | float]),
        (dict[str, list[Decimal | timedelta | None]], dict[str, list[timedelta | Decimal | None]]),
        (Two[float | timedelta], Two[timedelta | float]),
    ]:
        assert one == other
        assert decoder(one).identity != decoder(other).identity
        assert not is_distinct(one)
    for alike in (int | None, Literal["a", "b"], list[int], Annotated[int, "a"]):
        assert is_distinct(alike)
        assert decoder(alike) is decoder(alike)
    # `typing` gives the first of two equal types for both, which builtins and aliases do not.
    assert decoder(Box[timedelta | float]) is decoder(Box[timedelta | float])
    assert not is_distinct(Annotated[int, {}])
    assert decode(b"null", Annotated[int | None, {}]) is None
    assert decoder(Annotated[int, {}]) is decoder(int)
    assert decode(b"[7]", list[float | timedelta]) == [7.0]
    assert decode(b"[7]", list[timedelta | float]) == [timedelta(seconds=7)]


@pytest.mark.parametrize(
    ("form", "data", "value"),
    [
        (timedelta | str, b"5s\n", timedelta(seconds=5)),
        (str | timedelta, b"5s\n", "5s\n"),
        (Mode | str, b"fast", Mode.FAST),
        (str | Mode, b"fast", "fast"),
        (Path | str, b"/srv\n", Path("/srv")),
        (Mode | Path | None, b"slow", Mode.SLOW),
        (Mode | Path | None, b"other", Path("other")),
        (bool | str, b"on", True),
        (list[int] | str, b"[1]", [1]),
        (str | list[int], b"[1]", [1]),
        (str | list[int], b"[a]", "[a]"),
        (float | int, b"5", 5),
    ],
)
def test_the_first_that_takes_a_text_wins(form: Any, data: bytes, value: object) -> None:
    """What is no JSON becomes the first member that takes it; what JSON has typed stays what it is."""
    found = decode(data, form)
    assert found == value
    assert type(found) is type(value)


# Types that were not there before -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        Path("/srv/data"),
        PurePosixPath("a b/c"),
        ipaddress.ip_address("10.0.0.1"),
        ipaddress.ip_address("fd00::1"),
        ipaddress.ip_interface("10.0.0.1/8"),
        ipaddress.ip_interface("fd00::1/8"),
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("fd00::/8"),
        Url("https://x"),
        Port(80),
        Share(0.5),
    ],
)
def test_round_trips(value: object) -> None:
    """What is put comes back equal and of its own type, alone and inside JSON."""
    form: Any = type(value)
    for stored, stored_as in [(value, form), ([value], list[form]), ({"a": value}, dict[str, form])]:
        found = decode(encode(stored), stored_as)
        assert found == stored
        assert type(found) is type(stored)


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"", Path),
        (b" \n", Path),
        (b"a\0b", Path),
        (b"5", list[Path]),
        (b"[5]", list[Path]),
        (b"10.0.0", ipaddress.IPv4Address),
        (b"[1]", list[ipaddress.IPv4Address]),
        (b"10.0.0.1/8", ipaddress.IPv4Network),
        (b"http://x", Url),
        (b"[5]", list[Url]),
        (b"eighty", Port),
        (b"9", Mode),
    ],
)
def test_what_is_none_of_them_is_refused(data: bytes, form: object) -> None:
    """What cannot be said to be of the type is refused: a number is no address."""
    with pytest.raises(ValueError):
        decode(data, form)


def test_a_path_that_would_not_come_back_is_not_stored() -> None:
    """Readers leave white space out, so that a path that ends with it is refused when it is put."""
    with pytest.raises(ValueError, match="white space"):
        encode(Path("/srv/data "))


# Generics -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Box(Generic[T]):
    item: T
    more: list[T] = dataclasses.field(default_factory=list)
    maybe: T | None = None
    kind: ClassVar[str] = "box"


@dataclasses.dataclass
class IntBox(Box[int]):
    count: int = 0


@dataclasses.dataclass
class Pair(Box[int], Generic[T]):
    """Its own parameter has the name of the parameter of its base, and is another."""

    other: T | None = None


@dataclasses.dataclass
class Nested(Generic[T, U]):
    box: Box[dict[str, T]]
    last: U


@dataclasses.dataclass
class Bounded(Generic[N, D]):
    number: N
    flag: D


class Crate(TypedDict, Generic[T]):
    item: T


class IntCrate(Crate[int]):
    name: str


Two = typing_extensions.TypeAliasType("Two", tuple[T, T], type_params=(T,))
Ports = typing_extensions.TypeAliasType("Ports", list[Port])
Tree = typing_extensions.TypeAliasType("Tree", "list[Tree] | int")


@pytest.mark.parametrize(
    ("form", "data", "value"),
    [
        (Box[int], b'{"item": 3, "more": [4], "maybe": 5}', Box(3, [4], 5)),
        (Box[Path], b'{"item": "/srv"}', Box(Path("/srv"))),
        (Box[timedelta | float], b'{"item": "7"}', Box(timedelta(seconds=7))),
        (Box[int] | None, b'{"item": 3}', Box(3)),
        (list[Box[int]], b'[{"item": 3}]', [Box(3)]),
        (Box[Box[int]], b'{"item": {"item": 3}}', Box(Box(3))),
        (Box, b'{"item": {"any": "thing"}}', Box({"any": "thing"})),
        (IntBox, b'{"item": "3", "count": 1}', IntBox(3, count=1)),
        (Pair[Mode], b'{"item": "3", "other": "fast"}', Pair(3, other=Mode.FAST)),
        (Nested[int, Mode], b'{"box": {"item": {"a": 1}}, "last": "slow"}', Nested(Box({"a": 1}), Mode.SLOW)),
        (Bounded, b'{"number": "3", "flag": "yes"}', Bounded(3, True)),
        (Crate[int], b'{"item": "3"}', {"item": 3}),
        (IntCrate, b'{"item": "3", "name": "a"}', {"item": 3, "name": "a"}),
        (Two[int], b'["1", 2]', (1, 2)),
        (Two[Box[int]], b'[{"item": 1}, {"item": 2}]', (Box(1), Box(2))),
        (Annotated[Two[int], {}], b"[1, 2]", (1, 2)),
        (Ports, b"[80]", [Port(80)]),
    ],
)
def test_generic_types(form: object, data: bytes, value: object) -> None:
    """Generic dataclasses, dicts and aliases decode with what their parameters stand for, inherited or given."""
    found = decode(data, form)
    assert found == value
    assert repr(found) == repr(value)


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (Box[int], b'{"item": "three"}'),
        (Box[int], b'{"item": 3, "more": ["x"]}'),
        (IntBox, b'{"item": "three"}'),
        (Pair[Mode], b'{"item": "fast"}'),
        (Bounded, b'{"number": "three", "flag": true}'),
        (IntCrate, b'{"item": "three", "name": "a"}'),
        (Two[int], b'["x", 2]'),
    ],
)
def test_parameters_are_checked(form: object, data: bytes) -> None:
    """A parameter is the type that it stands for, not anything."""
    with pytest.raises(ValueError):
        decode(data, form)


# What cannot be decoded -----------------------------------------------------------------------------------------


class Model(pydantic.BaseModel):
    size: int = 1


@dataclasses.dataclass
class Database:
    host: str = ""
    password: pydantic.SecretStr | None = None


@dataclasses.dataclass
class Settings:
    databases: dict[str, list[Database]] = dataclasses.field(default_factory=dict)


@pydantic.dataclasses.dataclass
class Checked:
    secret: pydantic.SecretStr | None = None


class Point(NamedTuple):
    x: int


@dataclasses.dataclass
class Endless(Generic[T]):
    inner: Endless[list[T]] | None = None


_IMPORT = r"{}: import tideover.contrib.pydantic first \(pip install 'tideover\[pydantic\]'\)"
UNSUPPORTED: list[tuple[object, str]] = [
    (complex, "as complex; supported are Decimal,"),
    (pydantic.SecretStr, _IMPORT.format("as SecretStr")),
    (pydantic.SecretStr | None, _IMPORT.format("in which the value is SecretStr")),
    (list[pydantic.SecretStr], _IMPORT.format(r"in which the value\[\] is SecretStr")),
    (dict[str, complex], r"in which the value\[value\] is complex; supported"),
    (dict[complex, str], r"in which the value\[key\] is complex; supported"),
    (tuple[int, complex], r"in which the value\[1\] is complex; supported"),
    (Database, _IMPORT.format(r"as Database, in which Database\.password is SecretStr")),
    (Settings, _IMPORT.format(r"as Settings, in which Settings\.databases\[value\]\[\]\.password is SecretStr")),
    (Checked, _IMPORT.format(r"Checked\.secret is SecretStr")),
    (Box[complex], r"in which Box\.item is complex"),
    (Crate[complex], r"in which Crate\.item is complex"),
    (Two[complex], r"in which the value\[0\] is complex"),
    (Model, _IMPORT.format("as Model")),
    (list[Model], _IMPORT.format(r"in which the value\[\] is Model")),
    (Point, "as Point; supported"),
    (Callable[[int], str], "supported"),
    (Endless[int], "no end"),
    (T, "default="),
    (3, "as 3, which is no type; a default is given as default="),
    ("text", "as 'text', which is no type; a default is given as default="),
    ([], "default="),
    ({}, "default="),
    (2.5, "default="),
    (pathlib, "default="),
]


@pytest.mark.parametrize(("form", "words"), UNSUPPORTED, ids=[str(form)[:50] for form, _ in UNSUPPORTED])
def test_a_type_that_cannot_be_decoded_shows_before_there_is_a_value(form: object, words: str) -> None:
    """The type is refused as a whole, and the message says which part of it, where, and what would do."""
    with pytest.raises(TypeError, match=words):
        decoder(form)


# How a dataclass is made ----------------------------------------------------------------------------------------


@pydantic.dataclasses.dataclass
class Aliased:
    size: int = pydantic.Field(default=1, alias="poolSize")


@pydantic.dataclasses.dataclass
class OnlyRead:
    size: int = pydantic.Field(default=1, validation_alias="poolSize")


@pydantic.dataclasses.dataclass(config=pydantic.ConfigDict(alias_generator=str.upper))
class Generated:
    size: int = 1


@pydantic.dataclasses.dataclass(config=pydantic.ConfigDict(alias_generator=str.upper, populate_by_name=True))
class ByName:
    size: int
    limit: int = pydantic.Field(default=2, alias="most")


@pydantic.dataclasses.dataclass
class Chosen:
    size: int = pydantic.Field(validation_alias=pydantic.AliasChoices("poolSize", "size"))


@dataclasses.dataclass
class Needy:
    scale: dataclasses.InitVar[int]
    size: int = 1


@dataclasses.dataclass
class Content:
    scale: dataclasses.InitVar[int] = 2
    size: int = 1


@dataclasses.dataclass(init=False)
class Unmade:
    size: int = 1


@dataclasses.dataclass(init=False)
class Free:
    size: int = 1

    def __init__(self, **fields: int) -> None:
        """Take what there is."""
        self.size = fields["size"]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (Aliased, "'size' is taken by its alias alone.*: set populate_by_name=True"),
        (OnlyRead, "'size' is taken by its alias alone.*: set populate_by_name=True"),
        (list[Generated], "as Generated: 'size' is taken by its alias alone"),
        (Needy, "as Needy: it needs 'scale', which is none of its fields: give it a default"),
        (Unmade, "as Unmade: its __init__ takes no 'size' by name"),
    ],
)
def test_a_dataclass_that_does_not_take_its_fields_by_name_is_refused_at_once(form: object, words: str) -> None:
    """What would leave a stored value out in silence, or refuse every value, is told before there is one."""
    with pytest.raises(TypeError, match=words):
        decoder(form)


@pytest.mark.parametrize("form", [ByName, Chosen, Content, Free])
def test_a_dataclass_that_takes_its_fields_by_name_decodes_however_it_does_so(form: Any) -> None:
    """Aliases beside the names, an `InitVar` with a default and `**fields` leave nothing out."""
    decoded: Any = decode(b'{"size": 5}', form)
    assert decoded.size == 5
