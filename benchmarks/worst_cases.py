"""What 64 KiB of bytes that others have written cost at the worst, read as any type that can be decoded.

Searched, not proven: some hundred types, drawn and chosen, each with values that are short and many, deep, long,
or alike where a set compares them. A value is read or refused; either counts.
"""

from __future__ import annotations

import enum
import itertools
import json
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import make_dataclass
from decimal import Decimal
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path
from random import Random
from typing import Any, Literal, Union
from uuid import UUID

from benchmarks.harness import Comparison, Goal, Row
from tests.fuzz.typed import RECORDS, SCALARS, TYPES, Fork, Leaf, Left
from tideover.codecs import Refusal, decoder, encode

SIZE = 64 * 1024
# Numbers that are multiples of it have one hash.
_MODULUS = 2**61 - 1
_SHORT = ("null", "0", "1.5", '""', '"x"', '"1s"', '"::"', '"1.1.1.1"', '"a/b"', "{}", "[]", "[[]]", '{"":0}')
_make_enum: Any = enum.Enum
_MANY = _make_enum("_MANY", [(f"member{n}", n) for n in range(2_000)])
_TAGGED: tuple[Any, ...] = tuple(
    make_dataclass(f"Tagged{n}", [("kind", Literal[f"k{n}"]), ("size", int)]) for n in range(40)
)
_ALIKE: tuple[Any, ...] = tuple(make_dataclass(f"Alike{n}", [("a", int, 0), (f"b{n}", int, 0)]) for n in range(40))
_Point = make_dataclass("_Point", [("x", int), ("y", int)], frozen=True)

# What mypy need not understand: their items are drawn.
_List: Any = list
_Dict: Any = dict

What = tuple[str, Any, bytes]


def filled(items: Iterable[str], opening: str = "[", closing: str = "]") -> bytes:
    """Return as many items as 64 KiB hold."""
    found, size = [], len(opening) + len(closing)
    for item in items:
        size += len(item.encode()) + 1
        if size > SIZE:
            break
        found.append(item)
    return f"{opening}{','.join(found)}{closing}".encode()


def quoted(texts: Iterable[object]) -> Iterator[str]:
    """Return JSON strings."""
    return (json.dumps(str(text)) for text in texts)


def chosen() -> Iterator[What]:
    """Return what is known to be dear somewhere."""
    multiples = [n * _MODULUS for n in range(4_000)]
    yield "set of numbers", set[int], filled(map(str, multiples))
    yield "set of decimals", set[Decimal], filled(map(str, multiples))
    yield "set of UUIDs", set[UUID], filled(quoted(UUID(int=n) for n in multiples))
    yield "set of networks", set[IPv6Network], filled(quoted(IPv6Address(n) for n in multiples))
    yield "set of interfaces", set[IPv6Interface], filled(quoted(IPv6Address(n) for n in multiples))
    yield "set of records", set[_Point], filled(f'{{"x":{n},"y":0}}' for n in multiples)  # type: ignore[valid-type]
    yield "set of tuples", set[tuple[int, int]], filled(f"[{n},{n}]" for n in multiples)
    yield "keys", dict[int, int], filled((f'"{n}":0' for n in multiples), "{", "}")
    yield "keys of UUIDs", dict[UUID, int], filled((f'"{UUID(int=n)}":0' for n in multiples), "{", "}")
    yield "many members", _List[_MANY], filled(itertools.repeat("1999"))
    yield "many names", _List[_MANY], filled(itertools.repeat('"member1"'))
    tagged, alike = Union[_TAGGED], Union[_ALIKE]  # noqa: UP007
    yield "many tags", list[tagged], filled(itertools.repeat('{"kind":"k39","size":1}'))  # type: ignore[valid-type]
    yield "no tag", list[tagged], filled(itertools.repeat('{"kind":"x","size":1}'))  # type: ignore[valid-type]
    yield "many records", list[alike], filled(itertools.repeat('{"b39":1}'))  # type: ignore[valid-type]
    yield "alike records", list[alike], filled(itertools.repeat('{"a":"x"}'))  # type: ignore[valid-type]
    yield "paths", list[Path], filled(quoted("abcdefghijklm"))
    yield "tree", Fork, filled(itertools.repeat('{"size":1}'), '{"below":[', "]}")
    yield "unclear tree", Fork, filled(itertools.repeat("{}"), '{"below":[', "]}")
    deep = '{"below":' * 200 + "null" + "}" * 200
    yield "deep", Left | Fork, deep.encode()
    yield "deep ones", list[Left | Fork], filled(itertools.repeat(deep))
    many = '{"below":[' * 100 + "{}" + "]}" * 100
    yield "deep lists", list[Left | Fork | Leaf], filled(itertools.repeat(many))
    for part in (b"[", b'{"a":', b"1", b"1s", b"1.", b'"'):
        raw = part * (SIZE // len(part))
        for form in (*SCALARS, list[int], dict[str, object], Any, Left | Fork):
            yield f"{part!r}...", form, raw


def drawn(many: int) -> Iterator[What]:
    """Return many types, each with values of it and with short ones."""
    for number, each in enumerate([*RECORDS, *TYPES[:many]]):
        chance = Random(number)
        items = chance.sample(_SHORT, 4)
        made = encode(each.make(chance)).decode(errors="replace")
        with suppress(ValueError):
            json.loads(made)
            items.append(made)
        items.append(json.dumps(made))
        for item in items:
            yield item[:20], _List[each.form], filled(itertools.repeat(item))
        yield "as keys", _Dict[str, each.form], filled((f'"{n}":{items[0]}' for n in range(9_999)), "{", "}")


def cost(form: Any, raw: bytes) -> tuple[float, float]:
    """Return the seconds of the processor, and the bytes at the most, that decoding takes."""
    decode = decoder(form)
    best = float("inf")
    # Again if it is dear: noise only adds.
    for _ in range(4):
        began = time.process_time()
        with suppress(Refusal):
            decode(raw)
        best = min(best, time.process_time() - began)
        if best < 0.05:
            break
    if best < 0.002:
        return best, 0.0
    tracemalloc.start()
    with suppress(Refusal):
        decode(raw)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return best, float(peak)


_TIME = "64 KiB as any type, the slowest"
_SPACE = "64 KiB as any type, the largest"


async def measure() -> list[Comparison]:
    """Search."""
    slowest, largest = (0.0, ""), (0.0, "")
    plain = time.process_time()
    json.loads(filled(itertools.repeat("{}")))
    plain = time.process_time() - plain
    for what, form, raw in itertools.chain(chosen(), drawn(120)):
        seconds, peak = cost(form, raw)
        name = f"{what} as {str(form)[:60]}"
        slowest, largest = max(slowest, (seconds, name)), max(largest, (peak, name))
    return [
        Comparison(f"{_TIME}", slowest[0], f"json.loads; {slowest[1]}", plain),
        Comparison(f"{_SPACE}", largest[0], f"the bytes; {largest[1]}", float(SIZE), unit="B"),
    ]


ROW = Row(
    name="worst-cases",
    what="64 KiB of foreign bytes as any type that can be decoded",
    peer="json.loads",
    goals={_TIME: Goal(0.1, of="value"), _SPACE: Goal(10 * 1024 * 1024, of="value")},
    measure=measure,
)
