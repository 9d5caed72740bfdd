"""The work that one value may take: bounded whatever it is, and far from what people write."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, ClassVar, Literal, Union, get_origin
from uuid import UUID

import pytest

from benchmarks.worst_cases import SIZE, chosen
from tideover.codecs import Refusal, decode
from tideover.codecs.one_value import TooMuch

# Multiples of it have one hash.
MODULUS = 2**61 - 1


class Counted(int):
    """A number that counts how often it was made, and compared."""

    made: ClassVar[int] = 0
    compared: ClassVar[int] = 0

    def __new__(cls, value: int) -> Counted:
        """Count it."""
        Counted.made += 1
        return super().__new__(cls, value)

    def __eq__(self, other: object) -> bool:
        """Count the comparison."""
        Counted.compared += 1
        return int(self) == other

    __hash__ = int.__hash__


@pytest.fixture(autouse=True)
def _none_yet() -> None:
    Counted.made = Counted.compared = 0


@dataclass
class Odd:
    """What refuses each number that it is given, when it has been made."""

    number: Counted
    text: str


@dataclass
class Even:
    """The same fields, another type in one of them."""

    number: Counted
    text: int


def repeated(item: str) -> bytes:
    """Return a list of 64 KiB."""
    return f"[{','.join([item] * (SIZE // (len(item) + 1)))}]".encode()


def test_what_many_members_refuse_has_a_bound() -> None:
    """Of a list whose items most members of a union refuse, no more is converted than its bytes are worth."""
    with pytest.raises(TooMuch, match="too long to decode"):
        decode(repeated("1"), list[UUID | IPv6Network | IPv4Network | date | Counted])
    assert 0 < Counted.made < 3_000


def test_two_records_with_the_same_names_have_a_bound() -> None:
    """A record that is found out only by what is in it costs an attempt, and there are only so many of these."""
    raw = repeated('{"number":1,"text":1}')
    assert len(json.loads(raw)) > 2_900
    with pytest.raises(TooMuch):
        decode(raw, list[Odd | Even])
    assert Counted.made < 5_000


def test_a_value_that_is_too_much_is_no_text() -> None:
    """It is refused, and not taken for the text that another member would take."""
    with pytest.raises(TooMuch):
        decode(repeated('"1.1.1.1"'), list[UUID | date | IPv4Address] | str)


def test_a_bound_within_a_record_is_told_with_its_place() -> None:
    """The refusal says where the budget ran out."""

    @dataclass
    class Holder:
        networks: list[UUID | IPv4Network]

    with pytest.raises(TooMuch, match=r"^networks: "):
        decode(b'{"networks":%b}' % repeated('"10.0.0.0/8"'), Holder)


@pytest.mark.parametrize("form", [set[Counted], frozenset[Counted], dict[Counted, int]])
def test_items_of_one_hash_are_not_compared_with_each_other(form: Any) -> None:
    """Thousands of different items of one hash would be millions of comparisons: they are refused after few."""
    numbers = [n * MODULUS for n in range(2_000)]
    value = dict.fromkeys(map(str, numbers), 0) if get_origin(form) is dict else numbers
    with pytest.raises(Refusal, match="the same hash"):
        decode(json.dumps(value).encode(), form)
    assert Counted.compared < 100


def test_equal_items_are_no_different_ones() -> None:
    """A set may be given one item many times, and a few that happen to have one hash."""
    assert decode(json.dumps([7] * 5_000).encode(), set[Counted]) == {7}
    some = [n * MODULUS for n in range(8)]
    assert decode(json.dumps(some * 100).encode(), set[int]) == set(some)


@dataclass
class Rule:
    """One of many, as people write them."""

    kind: Literal["rule"]
    name: str
    network: IPv4Network
    ports: list[int] = field(default_factory=list)


@dataclass
class Comment:
    """What may stand between them."""

    kind: Literal["comment"]
    text: str = ""


def test_what_people_write_is_far_from_it() -> None:
    """A megabyte of rules, tagged and nested, is read."""
    rules = [
        {"kind": "rule", "name": f"r{n}", "network": f"10.{n // 256}.{n % 256}.0/24", "ports": [80, n]}
        for n in range(12_000)
    ]
    found: Any = decode(json.dumps([*rules, {"kind": "comment"}]).encode(), list[Comment | Rule])
    assert (len(found), found[-1]) == (12_001, Comment("comment"))


def addresses(many: int, end: str = "") -> list[str]:
    """Return as many different addresses."""
    return [f"10.0.{n // 256}.{n % 256}{end}" for n in range(many)]


@pytest.mark.parametrize(
    ("form", "items"),
    [
        (list[IPv4Interface], addresses(5_000, "/24")),
        (list[IPv6Interface], [f"fd00::{n:x}/64" for n in range(5_000)]),
        (list[IPv6Address | IPv4Address], addresses(5_000)),
        (set[IPv6Network | IPv4Network], addresses(5_000, "/32")),
        (list[IPv4Address | IPv4Network], addresses(5_000, "/32")),
        (list[IPv4Address | IPv6Address | IPv4Network | IPv6Network], [f"fd00:{n:x}::/64" for n in range(5_000)]),
        (list[int], list(range(150_000))),
        (list[list[int]], [[]] * 250_000),
    ],
)
def test_a_long_list_that_is_of_its_type_is_read(form: Any, items: list[object]) -> None:
    """Five thousand addresses, whichever kind a union names first, and a megabyte of numbers are no harm."""
    assert len(decode(json.dumps(items).encode(), form)) == len(items)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "10.0.0.1/32", "10.0.0.0/8", "fd00::1", "fd00::1/64", " fd00::/64\n", "::ffff:1.2.3.4"]
)
def test_an_address_is_what_the_first_member_that_takes_it_makes_of_it(text: str) -> None:
    """That others are not tried changes nothing: not for any order of the members."""
    kinds = (IPv4Address, IPv6Address, IPv4Network, IPv6Network, IPv4Interface, IPv6Interface)
    for members in itertools.permutations(kinds, 3):
        alone: list[object] = []
        for member in members:
            with suppress(Refusal):
                alone += [decode(text.encode(), member)]
        found: object = []
        with suppress(Refusal):
            found = decode(json.dumps([text]).encode(), list[Union[members]])  # type: ignore[valid-type]  # noqa: UP007
        assert found == alone[:1]


def test_a_tag_needs_no_error() -> None:
    """A record whose tag says that it is another one is not tried, so that many tagged kinds cost nothing."""
    raw = repeated('{"kind":"rule","name":"","network":"10.0.0.0/8"}')
    assert len(decode(raw, list[Comment | Rule])) == len(json.loads(raw))  # type: ignore[arg-type]
    assert decode(b'{"kind":" comment "}', Comment | Rule) == Comment("comment")


def test_the_worst_case_is_small() -> None:
    """64 KiB of the largest that `python -m benchmarks --only worst-cases` has found take less than 10 MiB."""
    largest = {"tree", "unclear tree", "deep lists", "set of records"}
    for what, form, raw in (case for case in chosen() if case[0] in largest):
        assert len(raw) <= SIZE
        tracemalloc.start()
        with suppress(Refusal):
            decode(raw, form)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 10 * 1024 * 1024, (what, form)
