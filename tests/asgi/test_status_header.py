"""The `Tideover-Status` response field."""

from __future__ import annotations

import math
import re

from hypothesis import given
from hypothesis import strategies as st

from tideover.asgi.status_header import status_field
from tideover.request_record import Mark
from tideover.types import LockMode, Source

# RFC 9651: a dictionary of keys, each with a token and integer parameters.
_KEY = r"[a-z*][a-z0-9_\-.*]*"
_TOKEN = r"[A-Za-z*][A-Za-z0-9:/!#$%&'*+\-.^_`|~]*"
_MEMBER = rf"{_KEY}={_TOKEN}(?:; *{_KEY}=-?\d{{1,15}})*"
_DICTIONARY = re.compile(rf"{_MEMBER}(?:[ \t]*,[ \t]*{_MEMBER})*")

components = st.sampled_from(["config", "lock", "election", "discovery"])
ages = st.floats(min_value=0, allow_nan=False)


def mark(source: Source, age: float) -> Mark:
    """Return a mark."""
    return Mark(source, age, "quorum_lost", "")


def test_source_and_age() -> None:
    """A member's value is the source, its parameter the age in whole seconds, rounded down."""
    assert status_field({"config": mark(Source.MEMORY, 42.9)}) == b"config=memory;age=42"


def test_unknown_age() -> None:
    """An unknown age is left out: there is no number for it."""
    assert status_field({"config": mark(Source.DISK, math.inf)}) == b"config=disk"


def test_a_lock_has_no_age() -> None:
    """How long ago a lock was local means nothing: it is now."""
    marks = {"config": mark(Source.MEMORY, 42.0), "lock": Mark(LockMode.LOCAL, 0.0, "quorum_lost", "")}
    assert status_field(marks) == b"config=memory;age=42, lock=local"


def test_several_components() -> None:
    """Each degraded component is one member, in the order in which they degraded."""
    marks = {"lock": mark(Source.DEFAULT, 0.0), "config": mark(Source.DISK, 7.0)}
    assert status_field(marks) == b"lock=default;age=0, config=disk;age=7"


@given(st.dictionaries(components, st.builds(mark, st.sampled_from(Source), ages | st.just(math.inf)), min_size=1))
def test_always_a_dictionary(marks: dict[str, Mark]) -> None:
    """Whatever is marked, the field is a dictionary as RFC 9651 has it, integers within fifteen digits."""
    field = status_field(marks).decode("ascii")
    assert _DICTIONARY.fullmatch(field), field
    assert [member.partition("=")[0].strip() for member in field.split(",")] == list(marks)
