"""What all records have in common: an unknown age, and JSON."""

from __future__ import annotations

import copy
import dataclasses
import enum
import json
import math
import pickle
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tideover import Reading, status
from tideover.records import Record, UnknownAge
from tideover.types import Source

UNKNOWN = UnknownAge.UNKNOWN
RECORDS = [made for made in vars(status).values() if isinstance(made, type) and dataclasses.is_dataclass(made)]


def test_an_unknown_age_is_infinite() -> None:
    """It compares, computes, hashes, prints and copies as infinity does."""
    assert math.isinf(UNKNOWN)
    assert math.inf == UNKNOWN
    assert UNKNOWN > 1e300
    assert not UNKNOWN < 1e300
    assert hash(UNKNOWN) == hash(math.inf)
    assert min(UNKNOWN, 3.0) == 3.0
    assert type(UNKNOWN + 1) is float
    assert f"{UNKNOWN!r} {UNKNOWN!s} {UNKNOWN} {UNKNOWN:.1f}" == "inf inf inf inf"
    assert pickle.loads(pickle.dumps(UNKNOWN)) is UNKNOWN
    assert copy.deepcopy(UNKNOWN) is UNKNOWN


def infinite(made: Any) -> Any:
    """Return a record of a class in which every number is infinite."""
    return made(*(math.inf for _ in dataclasses.fields(made)))


@pytest.mark.parametrize("made", RECORDS, ids=[made.__name__ for made in RECORDS])
def test_no_record_of_the_status_has_an_infinity_in_its_json(made: Any) -> None:
    """Whatever number is infinite is null in the record's JSON, and stays infinite in the record."""
    assert issubclass(made, Record)
    record = infinite(made)
    assert math.isinf(dataclasses.astuple(record)[0])
    found = json.loads(json.dumps(record.to_dict(), allow_nan=False))
    assert found == {field.name: None for field in dataclasses.fields(made)}


class Mode(enum.Enum):
    FAST = "fast"


@dataclasses.dataclass
class Limits:
    mode: Mode
    rates: tuple[float, ...]


VALUES: list[tuple[object, object]] = [
    (Limits(Mode.FAST, (1.5, math.inf)), {"mode": "fast", "rates": [1.5, None]}),
    ({date(2026, 3, 1): {1}}, {"2026-03-01": [1]}),
    (datetime(2026, 3, 1, tzinfo=UTC), "2026-03-01T00:00:00+00:00"),
    (timedelta(seconds=1.5), 1.5),
    (Decimal("1.10"), "1.10"),
    (Path("/srv"), "/srv"),
    (b"a\xff", "a\\xff"),
    (math.nan, None),
    ([True, 1, "a", None], [True, 1, "a", None]),
]


@pytest.mark.parametrize(("value", "plain"), VALUES, ids=[str(value) for value, _ in VALUES])
def test_a_reading_is_json_whatever_its_value(value: object, plain: object) -> None:
    """The value stays what it is, and its JSON is what a person would expect."""
    reading = Reading("a", value, True, Source.DISK, 3, math.inf, True)
    assert reading.value is value
    assert reading.age is UNKNOWN
    found = json.loads(json.dumps(reading.to_dict(), allow_nan=False))
    assert (found["value"], found["age"], found["source"]) == (plain, None, "disk")


def test_a_value_that_is_infinite_is_left_alone() -> None:
    """Only the age of a reading is an unknown age: a value of infinity is a float as before."""
    reading = Reading("a", math.inf, True, Source.LIVE, 3, 0.5, False)
    assert type(reading.value) is float
    assert type(reading.age) is float
    assert copy.deepcopy(reading) == reading == pickle.loads(pickle.dumps(reading))
