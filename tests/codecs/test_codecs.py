"""From bytes to typed values and back: round trips, strictness, and nothing but ValueError."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, NotRequired, Optional, Required, TypedDict, Union, cast
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tideover.codecs import decode, encode


class Color(enum.Enum):
    RED = "red"
    DEEP_BLUE = "deep blue"


class Level(enum.IntEnum):
    OFF = 0
    LOW = 1
    HIGH = 2


class Mode(enum.StrEnum):
    FAST = "fast"
    NONE = ""


@dataclasses.dataclass(frozen=True)
class Limit:
    rate: float
    burst: int = 5
    window: timedelta = timedelta(minutes=1)


@dataclasses.dataclass(frozen=True)
class Service:
    name: str
    limits: list[Limit]
    owner: str | None = None
    colors: frozenset[Color] = frozenset()
    tags: dict[str, tuple[int, bool]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name == "forbidden":
            raise ValueError("the name is taken")
        if self.name == "broken":
            raise TypeError("the name is broken")


@dataclasses.dataclass
class Tree:
    children: list[Tree] = dataclasses.field(default_factory=list)


class _JobOptions(TypedDict, total=False):
    retries: int


class Job(_JobOptions):
    id: int
    mode: Literal["once", "always", 3]


class Wish(TypedDict):
    what: str
    why: NotRequired[str]


class Dream(TypedDict, total=False):
    what: Required[str]
    why: str


UserId = NewType("UserId", str)

# Text without lone surrogates, which UTF-8 cannot carry
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
integers = st.integers(-(2**70), 2**70)
floats = st.floats(allow_nan=False)
decimals = st.decimals(allow_nan=False)
durations = st.timedeltas(timedelta(days=-40_000), timedelta(days=40_000))
datetimes = st.datetimes(timezones=st.none() | st.just(UTC))
limits = st.builds(Limit, rate=floats, burst=integers, window=durations)
services = st.builds(
    Service,
    name=texts.filter(lambda name: name not in ("forbidden", "broken")),
    limits=st.lists(limits, max_size=3),
    owner=st.none() | texts,
    colors=st.frozensets(st.sampled_from(Color)),
    tags=st.dictionaries(texts, st.tuples(integers, st.booleans()), max_size=3),
)
jobs = st.fixed_dictionaries(
    {"id": integers, "mode": st.sampled_from(["once", "always", 3])}, optional={"retries": integers}
)

ROUND_TRIPS: list[tuple[object, st.SearchStrategy[Any]]] = [
    (str, texts),
    (bytes, st.binary()),
    (bool, st.booleans()),
    (int, integers),
    (float, floats),
    (Decimal, decimals),
    (UUID, st.uuids()),
    (datetime, datetimes),
    (date, st.dates()),
    (timedelta, durations),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (Mode, st.sampled_from(Mode)),
    (Literal["once", 3, ""], st.sampled_from(["once", 3, ""])),
    (UserId, texts),
    (Annotated[str, "a note"], texts),
    (Annotated[bytes, "a note"], st.binary()),
    (list[int], st.lists(integers)),
    (Sequence[float], st.lists(floats)),
    (list[Color | None], st.lists(st.none() | st.sampled_from(Color))),
    (tuple[str, int], st.tuples(texts, integers)),
    (tuple[Decimal, ...], st.lists(decimals).map(tuple)),
    (set[date], st.sets(st.dates())),
    (frozenset[UUID], st.frozensets(st.uuids())),
    (dict[str, float], st.dictionaries(texts, floats)),
    (dict[int, list[bool]], st.dictionaries(integers, st.lists(st.booleans(), max_size=3))),
    (dict[Level, str], st.dictionaries(st.sampled_from(Level), texts)),
    (Mapping[date, timedelta], st.dictionaries(st.dates(), durations)),
    (Limit, limits),
    (Service, services),
    (Job, jobs),
    (dict[str, Service], st.dictionaries(texts, services, max_size=2)),
    (Optional[int], st.none() | integers),  # noqa: UP045
    (int | None, st.none() | integers),
    (float | None, st.none() | floats),
    (timedelta | None, st.none() | durations),
    (Limit | None, st.none() | limits),
    (list[str] | int, st.lists(texts) | integers),
    (dict[str, int | str | None], st.dictionaries(texts, st.none() | integers | texts)),
    (list[Limit | Job], st.lists(limits | jobs, max_size=3)),
]
FORMS = [form for form, _ in ROUND_TRIPS] + [
    Any,
    object,
    list,
    dict,
    tuple,
    None,
    Tree,
    str | None,
    str | int,
    Union[bool, str],  # noqa: UP007
    bytes | None,
    UUID | datetime,
    UserId | None,
    Annotated[list[int], "a note"],
]


def _refused(data: bytes, form: object) -> bool:
    try:
        decode(data, form)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(("form", "values"), ROUND_TRIPS, ids=[str(form) for form, _ in ROUND_TRIPS])
def test_what_is_encoded_decodes_to_the_same(form: object, values: st.SearchStrategy[Any]) -> None:
    """Every value of a supported type comes back equal and of the same type."""

    @settings(deadline=None, max_examples=30)
    @given(values)
    def round_trip(value: object) -> None:
        back = decode(encode(value), form)
        assert back == value
        assert type(back) is type(value)

    round_trip()


@settings(deadline=None)
@given(texts)
def test_optional_text_is_text(text: str) -> None:
    """For `str | None` any text but `null` and a JSON string is itself: numbers, NaN and braces included."""
    assume(text.strip() != "null" and not text.strip().startswith('"'))
    assert decode(text.encode(), str | None) == text


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "[1", "{}", "1" * 5000, "true", "5", "1e5", " a "])
def test_text_that_looks_like_something_else_is_text(text: str) -> None:
    """What JSON makes of a text, or fails to, does not matter where text is wanted."""
    assert decode(text.encode(), str | None) == text
    assert decode(text.encode(), UserId) == text


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("2d3s", timedelta(days=2, seconds=3)),
        ("-1m30s", timedelta(seconds=-90)),
        ("90", timedelta(seconds=90)),
        ("0.25", timedelta(milliseconds=250)),
        ("1e3", timedelta(seconds=1000)),
        (" 5s\n", timedelta(seconds=5)),
    ],
)
def test_durations_as_people_write_them(text: str, duration: timedelta) -> None:
    """A duration is seconds, or numbers with units; in JSON too."""
    assert decode(text.encode(), timedelta) == duration
    assert decode(f'["{text.strip()}"]'.encode(), list[timedelta]) == [duration]


ACCEPTED: list[tuple[bytes, object, object]] = [
    (b" 42\n", int, 42),
    (b"1e3", float, 1000.0),
    (b"inf", float, math.inf),
    (b"5", float, 5.0),
    (b"YES", bool, True),
    (b"off", bool, False),
    (b"1", bool, True),
    (b"RED", Color, Color.RED),
    (b"red", Color, Color.RED),
    (b"0", Level, Level.OFF),
    (b"OFF", Level, Level.OFF),
    (b"", Mode, Mode.NONE),
    (b"2", Level, Level.HIGH),
    (b"3", Literal["a", 3], 3),
    (b"", str, ""),
    (b"2024-05-06", date, date(2024, 5, 6)),
    (b"2024-05-06T07:08:09Z", datetime, datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
    (b"null", int | None, None),
    (b"5", str | int, 5),
    (b"yes", bool | None, True),
    (b"1h", timedelta | None, timedelta(hours=1)),
    (b'["5", 6.0]', list[int], [5, 6]),
    (b'{"rate": 1}', Limit, Limit(1.0)),
    (b'{"rate": 1, "window": "5s"}', Limit, Limit(1.0, window=timedelta(seconds=5))),
    (b'[1, "a", null]', list, [1, "a", None]),
    (b'{"id": 1, "mode": 3}', Job, {"id": 1, "mode": 3}),
]
REFUSED: list[tuple[bytes, object]] = [
    (b"", int),
    (b"4.5", int),
    (b"0x10", int),
    (b"true", int),
    (b"9" * 5000, int),
    (b"nan", float),
    (b"one", float),
    (b"maybe", bool),
    (b"2", bool),
    (b"red ish", Color),
    (b"3", Level),
    (b"b", Literal["a", 3]),
    (b"yesterday", datetime),
    (b"2024-05-06T07:08:09", date),
    (b"5 parsecs", timedelta),
    (b"9" * 400 + b"d", timedelta),
    (b"NaN", Decimal),
    (b"not-a-uuid", UUID),
    (b"\xff", str),
    (b"\xff", int),
    (b"5.5", int | None),
    (b"", int | None),
    (b"[1", list[int]),
    (b"1, 2", list[int]),
    (b"[1.5]", list[int]),
    (b"[true]", list[int]),
    (b"[1]", list[str]),
    (b"[1]", list[bool]),
    (b"{}", list[int]),
    (b"[[1]]", set[list[int]]),
    (b"[1]", tuple[int, int]),
    (b"[1, 2, 3]", tuple[int, int]),
    (b"[]", dict[str, int]),
    (b'{"a": 1}', dict[int, int]),
    (b"[NaN]", list[float]),
    (b"[1e400]", list[int]),
    (b"{}", Limit),
    (b'{"rate": "fast"}', Limit),
    (b'{"rate": 1, "rat": 2}', Limit),
    (b"null", Limit),
    (b'{"name": "forbidden", "limits": []}', Service),
    (b'{"name": "broken", "limits": []}', Service),
    (b'{"name": "x", "limits": [{}]}', Service),
    (b'{"id": 1}', Job),
    (b'{"id": 1, "mode": "never"}', Job),
    (b'{"id": 1, "mode": 3, "more": 1}', Job),
]


@pytest.mark.parametrize(("data", "form", "value"), ACCEPTED)
def test_what_a_person_may_write(data: bytes, form: object, value: object) -> None:
    """What can only mean one value of the type is that value."""
    found = decode(data, form)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("data", "form"), REFUSED)
def test_what_is_refused(data: bytes, form: object) -> None:
    """What cannot be said to be of the type is refused rather than bent into it."""
    assert _refused(data, form)


def test_a_refusal_says_where() -> None:
    """The message names the field, down to the nested one."""
    with pytest.raises(ValueError, match=r"^limits: rate: .*not a number"):
        decode(b'{"limits": {"rate": "fast"}}', dataclasses.make_dataclass("D", [("limits", Limit)]))


def test_a_refusal_names_what_is_unknown_and_what_is_missing() -> None:
    """Of misspelt fields the number is told, for their names are part of the value; missing ones are named."""
    with pytest.raises(
        ValueError, match=r"Limit is given a name that it does not know; it has .*'rate'"
    ) as caught:
        decode(b'{"canary": 1}', Limit)
    assert "canary" not in str(caught.value)
    with pytest.raises(ValueError, match="Limit is given 3 names that it does not know"):
        decode(b'{"a": 1, "b": 2, "c": 3}', Limit)
    with pytest.raises(ValueError, match="Limit needs 'rate'"):
        decode(b"{}", Limit)


@settings(deadline=None, max_examples=400)
@given(
    st.binary(max_size=40)
    | st.text(st.sampled_from('[]{}",:.0123456789eE+- \ntruefalsnNIinity')).map(str.encode)
    | st.sampled_from([data for data, *_ in ACCEPTED] + [data for data, _ in REFUSED]),
    st.sampled_from(FORMS),
)
def test_nothing_but_value_error(data: bytes, form: object) -> None:
    """Whatever is stored, decoding as any supported type gives a value or a ValueError."""
    _refused(data, form)


json_values = st.recursive(
    st.none() | st.booleans() | integers | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(json_values, st.sampled_from(FORMS))
def test_no_json_but_value_error(value: object, form: object) -> None:
    """Whatever JSON is stored, decoding as any supported type gives a value or a ValueError."""
    _refused(encode(value), form)


@pytest.mark.parametrize("form", [list, list[int], dict[str, int], str | None, Limit, set[int], Any])
@pytest.mark.parametrize("depth", [200, 2_000, 200_000])
def test_deep_json_is_refused_not_recursed_into(form: object, depth: int) -> None:
    """JSON nested however deep is at worst a ValueError."""
    _refused(b"[" * depth + b"]" * depth, form)
    _refused(b'{"a":' * depth + b"1" + b"}" * depth, form)


@pytest.mark.parametrize("depth", [200, 300])
def test_a_type_that_contains_itself_is_no_trap(depth: int) -> None:
    """A self-referring type decodes, and one nested too deep is a ValueError."""
    assert decode(b'{"children": [{}]}', Tree) == Tree([Tree()])
    _refused(b'{"children":[' * depth + b"]}" * depth, Tree)


@pytest.mark.parametrize(
    "form", [complex, range, type, int.__add__, "int", 5, [int], Ellipsis, list[int].__class__, complex | None]
)
def test_a_type_that_cannot_be_decoded_is_a_type_error(form: object) -> None:
    """Asking for what cannot be decoded is the programmer's mistake, and says so whatever is stored."""
    for data in (b"1", b"", b"[]", b"\xff"):
        with pytest.raises(TypeError):
            decode(data, form)


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (list[complex], b"[]"),
        (list[complex], b"[1]"),
        (set[complex], b"[1]"),
        (dict[str, complex], b"{}"),
        (tuple[complex, int], b"[]"),
    ],
)
def test_an_item_type_that_cannot_be_decoded_is_a_type_error(form: object, data: bytes) -> None:
    """An impossible type inside a container is the programmer's mistake all the same."""
    with pytest.raises(TypeError):
        decode(data, form)


@dataclasses.dataclass(frozen=True)
class Price:
    amount: Decimal
    rate: float = 0.0
    notes: Any = None


LONG = "0.1000000000000000055511151231257827000"


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (list[Decimal], f"[{LONG}]"),
        (list[Decimal | None], f"[{LONG}]"),
        (list[Decimal | str], f"[{LONG}]"),
        (Decimal | list[Decimal], f"[{LONG}]"),
    ],
)
def test_a_decimal_number_in_json_keeps_its_digits(form: object, data: str) -> None:
    """A `Decimal` is what was written, and not the nearest `float`."""
    (number,) = cast("list[object]", decode(data.encode(), form))
    assert isinstance(number, Decimal)
    assert str(number) == LONG


def test_a_decimal_or_a_text_keeps_its_digits() -> None:
    """So does the value of a key by itself."""
    assert str(decode(LONG.encode(), Decimal | str)) == LONG
    assert decode(b"1e400", Decimal | str) == Decimal("1e400")


def test_other_numbers_beside_a_decimal_are_ordinary() -> None:
    """Nothing but `float` itself comes out where none is a `Decimal`: in unions, literals and anything."""
    price = cast(
        "Price", decode(f'{{"amount": {LONG}, "rate": 2.5, "notes": [1.5, {{"a": 0.5}}]}}'.encode(), Price)
    )
    assert str(price.amount) == LONG
    assert (price.rate, price.notes) == (2.5, [1.5, {"a": 0.5}])
    for number in (price.rate, price.notes[0], price.notes[1]["a"]):
        assert type(number) is float
    for form in (list[float | Decimal], list[Decimal | float], list[float | str], list[Any]):
        (number,) = cast("list[object]", decode(b"[2.5]", form))
        assert (number, type(number)) == (2.5, float)


def test_the_order_of_a_union_decides() -> None:
    """The first member of a union that fits wins, whatever other unions were decoded before."""
    assert decode(b"5", Union[timedelta, Decimal]) == timedelta(seconds=5)  # noqa: UP007
    assert decode(b"5", Union[Decimal, timedelta]) == Decimal(5)  # noqa: UP007


@pytest.mark.parametrize("form", [Wish, Dream])
def test_what_a_typed_dict_need_not_have(form: object) -> None:
    """`Required` and `NotRequired` count, also where annotations are strings."""
    assert decode(b'{"what": "rain"}', form) == {"what": "rain"}
    assert _refused(b'{"why": "dry"}', form)


@pytest.mark.parametrize(
    ("value", "form"),
    [(True, Literal[True]), (None, Literal["a", None]), (Color.RED, Literal[Color.RED])],
)
def test_literals_of_other_kinds_round_trip(value: object, form: object) -> None:
    """Every literal that can be encoded decodes to itself."""
    assert decode(encode(value), form) == value


class Odd(enum.Enum):
    FLAG = True
    PAIR = (1, 2)


class Bits(enum.IntFlag):
    READ = 1
    WRITE = 2


@pytest.mark.parametrize("value", [Odd.FLAG, Odd.PAIR, Bits.READ | Bits.WRITE])
def test_enums_of_other_values_round_trip(value: enum.Enum) -> None:
    """Every enum member that can be encoded decodes to itself."""
    assert decode(encode(value), type(value)) == value


def test_unhashable_notes_do_not_matter() -> None:
    """`Annotated` may carry anything, such as a pydantic field, which cannot be hashed."""
    assert decode(b"5", Annotated[int, ["a note"]]) == 5


def test_optional_bytes_round_trip() -> None:
    """`bytes | None` takes any bytes."""
    assert decode(encode(b"\xff"), bytes | None) == b"\xff"


@dataclasses.dataclass(frozen=True)
class Blob:
    data: bytes = b""


@pytest.mark.parametrize(
    ("value", "form"),
    [([b"x", "ä".encode()], list[bytes]), (Blob(b"x"), Blob), ({b"k": b"v"}, dict[bytes, bytes]), (Blob(), Blob)],
)
def test_bytes_within_json_round_trip(value: object, form: object) -> None:
    """Bytes within a list, a dataclass or a dict are stored as the text that they are read from."""
    assert decode(encode(value), form) == value


def test_bytes_within_json_that_are_no_text_are_not_stored() -> None:
    """JSON has no place for them; what is told does not show them."""
    with pytest.raises(ValueError, match="bytes that are not UTF-8") as caught:
        encode([b"secret\xff"])
    assert caught.value.__context__ is None


@pytest.mark.parametrize("value", [1j, object(), int, {1: range(3)}, bytearray(b"x")])
def test_what_cannot_be_stored_is_a_type_error(value: object) -> None:
    """A value with no stored form is refused when it is put, not when it is read."""
    with pytest.raises(TypeError, match="cannot store"):
        encode(value)


@pytest.mark.parametrize("value", [math.nan, Decimal("NaN")])
def test_what_cannot_be_read_back_is_not_stored(value: object) -> None:
    """`encode` refuses what `decode` would refuse."""
    with pytest.raises((TypeError, ValueError)):
        encode(value)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("text", b"text"),
        (b"\x00\xff", b"\x00\xff"),
        (True, b"true"),
        (None, b"null"),
        (2.5, b"2.5"),
        (math.inf, b"inf"),
        (Color.RED, b"red"),
        (Level.OFF, b"0"),
        (timedelta(milliseconds=250), b"0.25"),
        (date(2024, 5, 6), b"2024-05-06"),
        (["Größe", 1], '["Größe", 1]'.encode()),
        (Limit(1.0), b'{"rate": 1.0, "burst": 5, "window": 60.0}'),
    ],
)
def test_what_is_stored_is_what_a_person_would_type(value: object, data: bytes) -> None:
    """A scalar is stored as plain text, everything else as readable JSON."""
    assert encode(value) == data
