"""Values of the configuration, as every supported type: the types and the values are drawn, some of them valid."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path, PurePosixPath
from random import Random
from typing import Annotated, Any, Generic, Literal, NewType, NotRequired, TypedDict, TypeVar, Union
from uuid import UUID

from tests.fuzz.reader import plain
from tideover.codecs import Refusal, decoder, encode

T = TypeVar("T")


class Colour(enum.Enum):
    """An enum whose values are of three kinds."""

    RED = "red"
    GREEN = 2
    BLUE = 0.5


class Right(enum.IntFlag):
    """Flags."""

    READ = 1
    WRITE = 2
    EXECUTE = 4


class Word(str):
    """Text of somebody else's, with a check."""

    __slots__ = ()

    def __new__(cls, text: str) -> Word:
        """Refuse what is long."""
        if len(text) > 20:
            raise ValueError(text)
        return super().__new__(cls, text)


class Count(int):
    """A number of somebody else's."""


Port = NewType("Port", int)


class Options(TypedDict):
    """A `TypedDict`, one member of which may be left out."""

    host: str
    port: NotRequired[int]


@dataclass(frozen=True)
class Box(Generic[T]):
    """A generic dataclass."""

    content: T
    label: str = ""


@dataclass
class Leaf:
    """One kind of node in a tree."""

    kind: Literal["leaf"]
    size: int = 0


@dataclass
class Left:
    """Another one, without a tag."""

    below: Left | Fork | None = None
    size: int = 0


@dataclass
class Fork:
    """One that has many below it."""

    below: list[Left | Fork | Leaf] = field(default_factory=list)
    size: int = 0


def _text(chance: Random) -> str:
    return "".join(chance.choice('aZ0 -:./\\"{}[],\n\0\u00e9\u0667\U0001f600') for _ in range(chance.randrange(6)))


def _number(chance: Random) -> int:
    return chance.choice((0, 1, -1, 7, 2**31, 2**63, -(2**64), 2**61 - 1, 10**30, chance.randrange(1000)))


def _bits(chance: Random, bits: int) -> int:
    return chance.choice((0, 1, 2**bits - 1, chance.getrandbits(bits)))


def _seconds(chance: Random) -> float:
    return chance.choice((0.0, 0.25, 1e-3, 86_400.0, float(chance.randrange(10**9))))


def _moment(chance: Random) -> datetime:
    return datetime.fromtimestamp(chance.randrange(2**32), chance.choice((UTC, None)))


Make = Callable[[Random], Any]


@dataclass(frozen=True)
class Drawn:
    """A type.

    Attributes:
        form: The type.
        make: Draws a value of it.
        exact: Whether what is written of a value is read as the same value: unions may read it as another member.
        hashable: Whether its values are.
    """

    form: Any
    make: Make
    exact: bool = True
    hashable: bool = True


# Each scalar with values of it.
SCALARS: dict[Any, Make] = {
    str: _text,
    int: _number,
    float: lambda chance: chance.choice((0.0, -0.5, 1e308, 1e-320, float("inf"), chance.random())),
    bool: lambda chance: chance.random() < 0.5,
    datetime: _moment,
    date: lambda chance: _moment(chance).date(),
    timedelta: lambda chance: timedelta(seconds=_seconds(chance)),
    Decimal: lambda chance: Decimal(chance.choice(("0", "-1.50", "1E+999999", "Infinity", "1e-9999"))),
    UUID: lambda chance: UUID(int=_bits(chance, 128)),
    Path: lambda chance: Path(chance.choice(("/", "a", "../b", "/etc/x y"))),
    PurePosixPath: lambda chance: PurePosixPath(chance.choice((".", "/a//b"))),
    IPv4Address: lambda chance: IPv4Address(_bits(chance, 32)),
    IPv6Address: lambda chance: IPv6Address(_bits(chance, 128)),
    IPv4Interface: lambda chance: IPv4Interface((_bits(chance, 32), chance.randrange(33))),
    IPv6Interface: lambda chance: IPv6Interface((_bits(chance, 128), chance.randrange(129))),
    IPv4Network: lambda chance: IPv4Network((_bits(chance, 32), 32)),
    IPv6Network: lambda chance: IPv6Network((_bits(chance, 128), 128)),
    Colour: lambda chance: chance.choice(tuple(Colour)),
    Right: lambda chance: Right(chance.randrange(8)),
    Word: lambda chance: Word(_text(chance)),
    Count: lambda chance: Count(_number(chance)),
    Port: _number,
    Literal["a", 1, True]: lambda chance: chance.choice(("a", 1, True)),
    Annotated[int, "of notes"]: _number,
}


def _leaf(chance: Random) -> Leaf:
    return Leaf("leaf", _number(chance))


def _left(chance: Random) -> Left:
    return Left(_fork(chance) if chance.random() < 0.4 else None, _number(chance))


def _fork(chance: Random) -> Fork:
    return Fork([chance.choice((_leaf, _left))(chance) for _ in range(chance.randrange(3))], _number(chance))


RECORDS = (
    Drawn(Options, lambda chance: {"host": _text(chance), "port": _number(chance)}, hashable=False),
    Drawn(Box[int], lambda chance: Box(_number(chance), _text(chance))),
    Drawn(Box[UUID], lambda chance: Box(SCALARS[UUID](chance))),
    Drawn(Box, lambda chance: Box(None)),
    Drawn(Leaf, _leaf, hashable=False),
    Drawn(Left, _left, exact=False, hashable=False),
    Drawn(Fork, _fork, exact=False, hashable=False),
    Drawn(Leaf | Fork, _leaf, exact=False, hashable=False),
)
# What takes many things; `bytes` by themselves may be anything.
OPEN = (
    Drawn(bytes, lambda chance: chance.randbytes(chance.randrange(9))),
    Drawn(Any, _number, exact=False),
    Drawn(object, _text, exact=False),
    Drawn(list, lambda chance: [_text(chance)], hashable=False),
    Drawn(dict, lambda chance: {_text(chance): None}, hashable=False),
    Drawn(set, lambda chance: {_text(chance)}, hashable=False),
    Drawn(str | bytes, _text, exact=False),
    Drawn(int | None, lambda chance: None),
)


def a_type(chance: Random, depth: int = 3) -> Drawn:
    """Draw a type that can be decoded.

    Args:
        chance: What is drawn from.
        depth: How deep types may stand in each other.
    """
    if not depth:
        return chance.choice((_a_scalar, _a_record))(chance, 0)
    kinds = (_a_scalar, _a_record, _a_list, _a_dict, _a_tuple, _a_set, _a_union, _a_dataclass)
    return chance.choice(kinds)(chance, depth - 1)


def _a_scalar(chance: Random, _: int) -> Drawn:
    form = chance.choice(tuple(SCALARS))
    return Drawn(form, SCALARS[form])


def _a_record(chance: Random, _: int) -> Drawn:
    return chance.choice(RECORDS)


def _some(chance: Random, item: Drawn) -> list[Any]:
    return [item.make(chance) for _ in range(chance.randrange(4))]


def _a_list(chance: Random, depth: int) -> Drawn:
    item = a_type(chance, depth)
    form: Any = chance.choice((list, Sequence))
    return Drawn(form[item.form], lambda chance: _some(chance, item), item.exact, hashable=False)


def _a_dict(chance: Random, depth: int) -> Drawn:
    key, item = _a_scalar(chance, 0), a_type(chance, depth)
    form: Any = chance.choice((dict, Mapping))
    make: Make = lambda chance: {each: item.make(chance) for each in _some(chance, key)}  # noqa: E731
    return Drawn(form[key.form, item.form], make, item.exact, hashable=False)


def _a_tuple(chance: Random, depth: int) -> Drawn:
    if chance.random() < 0.5:
        item = a_type(chance, depth)
        several: Any = tuple
        return Drawn(several[item.form, ...], lambda chance: tuple(_some(chance, item)), item.exact, item.hashable)
    items = [a_type(chance, depth) for _ in range(chance.randrange(1, 4))]
    form: Any = tuple[tuple(item.form for item in items)]  # type: ignore[misc]
    make: Make = lambda chance: tuple(item.make(chance) for item in items)  # noqa: E731
    return Drawn(form, make, all(item.exact for item in items), all(item.hashable for item in items))


def _a_set(chance: Random, depth: int) -> Drawn:
    drawn = a_type(chance, depth)
    item = drawn if drawn.hashable else _a_scalar(chance, 0)
    form: Any = chance.choice((set, frozenset))
    return Drawn(form[item.form], lambda chance: form(_some(chance, item)), item.exact, form is frozenset)


def _a_union(chance: Random, depth: int) -> Drawn:
    options = [a_type(chance, depth) for _ in range(chance.randrange(2, 5))]
    form: Any = Union[tuple(option.form for option in options)]  # noqa: UP007
    return Drawn(form, lambda chance: chance.choice(options).make(chance), exact=False, hashable=False)


def _a_dataclass(chance: Random, depth: int) -> Drawn:
    items = {f"f{n}": a_type(chance, depth) for n in range(chance.randrange(1, 4))}
    form = make_dataclass("Record", [(name, item.form) for name, item in items.items()], frozen=True)
    make: Make = lambda chance: form(*(item.make(chance) for item in items.values()))  # noqa: E731
    exact, hashable = (all(getattr(item, of) for item in items.values()) for of in ("exact", "hashable"))
    return Drawn(form, make, exact, hashable)


# So many types are read by `nox -s fuzz`: the first two bytes say which.
MANY = 300
TYPES = [*RECORDS, *OPEN, *(Drawn(form, make) for form, make in SCALARS.items())]
TYPES += [a_type(Random(n)) for n in range(MANY - len(TYPES))]


def _read(raw: bytes) -> object:
    if len(raw) < 2:
        return None
    drawn = TYPES[int.from_bytes(raw[:2]) % MANY]
    return decoder(drawn.form)(raw[2:])


def _seed(number: int) -> bytes:
    return number.to_bytes(2) + encode(TYPES[number].make(Random(number)))


TYPED = (plain("value of a type", _read, Refusal, *map(_seed, range(MANY))),)
