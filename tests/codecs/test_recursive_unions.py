"""Unions of types that contain themselves: each part of a value is looked at once for each type."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from tideover.codecs import decode
from tideover.codecs.refusals import Refusal

DEPTH = 40


@dataclass
class Left:
    """One of two kinds of node."""

    made: ClassVar[int] = 0
    below: Left | Right | None = None
    left: int = 0

    def __post_init__(self) -> None:
        """Count it."""
        Left.made += 1


@dataclass
class Right:
    """The other kind, with the same fields but one."""

    below: Left | Right | None = None
    left: int = 0
    others: list[Left | Right] = field(default_factory=list)


@dataclass
class Either:
    """What holds one of them."""

    node: Left | Right


def nested(innermost: dict[str, Any]) -> dict[str, Any]:
    """Return a chain of nodes that could be of either kind."""
    value = innermost
    for _ in range(DEPTH):
        value = {"below": value, "left": 1}
    return value


def test_a_valid_value_costs_what_it_is_long() -> None:
    """Only the innermost node is a `Right`: each of the others is tried as a `Left` once, not 2^40 times."""
    Left.made = 0
    found = decode(json.dumps({"node": nested({"others": []})}).encode(), Either)
    assert Left.made == DEPTH
    assert isinstance(found, Either)
    node: Any = found.node
    for _ in range(DEPTH):
        assert isinstance(node, Left)
        node = node.below
    assert isinstance(node, Right)


def test_a_value_that_is_none_of_them_costs_no_more() -> None:
    """What no member takes is refused in one short message, without its content."""
    Left.made = 0
    with pytest.raises(Refusal) as caught:
        decode(json.dumps({"node": nested({"canary": 1})}).encode(), Either)
    assert Left.made == 0
    assert len(str(caught.value)) <= 400
    assert "canary" not in str(caught.value)


def test_parts_that_are_alike_are_values_of_their_own() -> None:
    """What was found of one part is not handed out as another one, however much they look alike."""
    same = {"left": 3}
    found = decode(json.dumps({"others": [same, same]}).encode(), Right)
    assert isinstance(found, Right)
    first, second = found.others
    assert first == second
    assert first is not second


@dataclass
class Leaf:
    """A node that its tag tells apart, whatever stands before the tag."""

    below: Left | None
    kind: Literal["leaf"]


@dataclass
class Branch:
    """Another such node."""

    below: Left | None
    kind: Literal["branch"]


def test_a_tag_decides_before_anything_else_is_looked_at() -> None:
    """What a tag says to be another kind is not looked into."""
    Left.made = 0
    found = decode(b'{"below": {"left": 2}, "kind": "branch"}', Leaf | Branch)
    assert found == Branch(Left(left=2), "branch")
    assert Left.made == 2  # one of them for the comparison
