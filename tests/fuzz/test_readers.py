"""Whatever others have written, a reader returns a value or raises the one error that it declares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.harm import foreign
from tests.fuzz.reader import Read, Reader
from tests.fuzz.readers import READERS
from tests.fuzz.typed import TYPES, a_type
from tideover.codecs import Refusal, decode, encode

# Together they take some seconds of one processor.
EXAMPLES = 120
bounded = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def ask(reader: Reader, read: Read, raw: bytes) -> None:
    """Let a reader read; what comes out is a value or its error, and no error is longer than a few lines."""
    told = None
    try:
        read(raw)
    except reader.errors as exc:
        told = exc
    assert len(str(told)) < 2_000, told


@pytest.fixture(params=READERS, ids=lambda reader: reader.name)
def reader(request: pytest.FixtureRequest) -> Reader:
    """Return one of all readers."""
    chosen: Reader = request.param
    return chosen


@pytest.fixture
def read(reader: Reader) -> Iterator[Read]:
    """Return what it reads with."""
    with reader.open() as opened:
        yield opened


def test_there_is_a_value_or_the_one_error(reader: Reader, read: Read) -> None:
    """Nothing else comes out of any reader, for bytes that are well, nearly well, and nothing at all."""

    @settings(bounded, max_examples=EXAMPLES // reader.cost)
    @given(st.sampled_from(reader.seeds), st.randoms(use_true_random=False), st.binary(max_size=50))
    def search(seed: bytes, chance: Random, other: bytes) -> None:
        ask(reader, read, foreign(chance, seed))
        ask(reader, read, other)

    search()


def test_what_is_well_is_read(reader: Reader, read: Read) -> None:
    """The bytes that the search begins with are taken, so that it looks behind the first check."""
    for seed in reader.seeds:
        read(seed)


@bounded
@given(st.randoms(use_true_random=False))
def test_values_of_any_type_are_read_as_they_were_written(chance: Random) -> None:
    """What is written of a value is read as its type: as the same value, where no union may mean another one."""
    drawn = a_type(chance)
    value = drawn.make(chance)
    found = decode(encode(value), drawn.form)
    if drawn.exact:
        assert found == value


@settings(bounded, max_examples=2 * EXAMPLES)
@given(st.sampled_from(range(len(TYPES))), st.randoms(use_true_random=False))
def test_values_that_are_nearly_of_a_type(number: int, chance: Random) -> None:
    """They are read, or refused; nothing else happens."""
    drawn = TYPES[number]
    with suppress(Refusal):
        decode(foreign(chance, encode(drawn.make(chance))), drawn.form)
