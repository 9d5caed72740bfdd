"""What a value in etcd means as a flag, and as which type it may be asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openfeature.exception import TypeMismatchError
from openfeature.flag_evaluation import Reason

from tests.canaries import canary
from tideover.contrib.openfeature.flags import Flag, boolean, floating, integer, parse, string, structure

ON = {"variants": {"on": True, "off": False}, "default": "on"}

scalars = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | st.text(), lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3)
)


def flag(value: object) -> Flag:
    """Return what a document means."""
    return parse(json.dumps(value).encode())


@given(values)
def test_json_is_the_value_itself(value: object) -> None:
    """Whatever is JSON, and no object with the member `variants`, is a flag of that value."""
    if not (isinstance(value, dict) and "variants" in value):
        assert flag(value) == Flag(value)


@given(st.binary())
def test_bytes_of_others_are_a_flag_or_a_problem(raw: bytes) -> None:
    """No bytes raise; what is no flag has a problem, and nothing else."""
    found = parse(raw)
    assert not found.problem or found == Flag(problem=found.problem)


def test_an_object_without_variants_is_a_value() -> None:
    """`default` and `disabled` alone make no definition: they may be anybody's settings."""
    assert flag({"default": "on", "disabled": True}) == Flag({"default": "on", "disabled": True})


def test_variants_are_a_definition() -> None:
    """The variant that `default` names is served, under its name."""
    assert flag(ON) == Flag(True, "on")
    assert flag({**ON, "disabled": False, "default": "off"}) == Flag(False, "off")


def test_an_object_with_a_member_variants_is_a_value_as_a_variant() -> None:
    """So the one kind of object that is no value by itself can be one."""
    assert flag({"variants": {"it": {"variants": [1]}}, "default": "it"}) == Flag({"variants": [1]}, "it")


@pytest.mark.parametrize("default", [{}, {"default": None}])
def test_without_a_default_it_is_the_callers(default: dict[str, Any]) -> None:
    """Variants of which none is chosen leave the value to the caller."""
    assert flag({"variants": {"on": True}, **default}) == Flag(left_to=Reason.DEFAULT)
    assert flag({"variants": {}, **default}) == Flag(left_to=Reason.DEFAULT)


def test_a_disabled_flag_is_left_to_the_caller() -> None:
    """Its variants stay, for the day on which it is enabled again."""
    assert flag({**ON, "disabled": True}) == Flag(left_to=Reason.DISABLED)
    assert flag({"variants": {}, "disabled": True}) == Flag(left_to=Reason.DISABLED)


@pytest.mark.parametrize(
    "definition",
    [
        {**ON, "defualt": "off"},
        {**ON, "targeting": {"if": [True, "on"]}},
        {**ON, "default": "none"},
        {**ON, "default": 1},
        {**ON, "default": ["on"]},
        {**ON, "disabled": "yes"},
        {**ON, "disabled": None},
        {"variants": ["on", "off"], "default": "on"},
        {"variants": None},
        {**ON, "disabled": True, "default": "none"},
    ],
    ids=str,
)
def test_a_definition_with_a_fault_is_no_flag(definition: object) -> None:
    """It is not served as an object, and a disabled one is no better."""
    assert flag(definition).problem
    assert flag(definition) == Flag(problem=flag(definition).problem)


@pytest.mark.parametrize("raw", [b"", b"on", b"\xff", b"[" * 5000, b"1e999", b"NaN", b'{"a": 1, "a": 2}', b"True"])
def test_what_is_no_json_is_no_flag(raw: bytes) -> None:
    """Neither text without quotation marks nor a document that means two things."""
    assert parse(raw).problem


def test_no_problem_shows_the_value() -> None:
    """A secret that was written where a flag belongs is not told on."""
    secret = canary("flag")
    for raw in (secret, f'{{"variants": {{"{secret}": 1}}, "default": "x"}}', f'{{"variants": 1, "{secret}": 1}}'):
        assert secret not in parse(raw.encode()).problem != ""
    for convert in (boolean, integer, floating, structure):
        with pytest.raises(TypeMismatchError) as raised:
            convert(secret)
        assert secret not in str(raised.value) + str(raised.value.error_message)


@pytest.mark.parametrize(
    ("convert", "value", "expected"),
    [
        (boolean, True, True),
        (string, "", ""),
        (string, "a", "a"),
        (integer, -3, -3),
        (integer, 10**24, 10**24),
        (integer, 1.0, 1),
        (integer, -0.0, 0),
        (integer, 2.0**53, 2**53),
        (floating, 1, 1.0),
        (floating, 2.5, 2.5),
        (floating, 10**24, 1e24),
        (structure, {}, {}),
        (structure, [None], [None]),
    ],
)
def test_what_is_converted(convert: Callable[[object], object], value: object, expected: object) -> None:
    """A whole number is an integer and a float, however it was written, and of the type that was asked for."""
    assert convert(value) == expected
    assert type(convert(value)) is type(expected)


@pytest.mark.parametrize(
    ("convert", "refused"),
    [
        (boolean, [1, 0, "true", None, [], {}]),
        (string, [True, 1, 1.5, None, [], {}]),
        (integer, [True, False, 1.5, 2.0**53 + 2, 1e300, "1", None, [], {}]),
        (floating, [True, False, "1", None, [], {}]),
        (structure, [True, 1, 1.5, "a", None]),
    ],
)
def test_what_is_refused(convert: Callable[[object], object], refused: list[object]) -> None:
    """A boolean is no number, text is none either, and null is nothing that can be asked for."""
    for value in refused:
        with pytest.raises(TypeMismatchError, match=r"^the flag is \w+( \w+)?, not an? \w+"):
            convert(value)
