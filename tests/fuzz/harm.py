"""Foreign values: what a fault, another version or somebody who means harm may have written.

One generator for all: `foreign` draws from a `random.Random`, which may be a seeded one or hypothesis's own.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from random import Random

# JSON that stands in the place of a member; text, as most of it is nothing that `json.dumps` would write.
TOKENS = (
    "null",
    "true",
    "0",
    "-0.0",
    "-1",
    "1.5",
    "1e-320",
    "1e308",
    "1e999",
    "-1e999",
    "NaN",
    "-Infinity",
    str(2**31),
    str(2**63 - 1),
    str(2**63),
    str(2**64),
    "1" + "0" * 24,
    "1" + "0" * 400,
    "1" * 4301,
    '""',
    '" "',
    '"1"',
    '"\\u0667"',
    '"\\ud800"',
    '"\\u0000"',
    '"\\u001b[2J\\u0007"',
    '"a\\nb"',
    '"../../../x"',
    '"\\u202e\\ufeff\\ud83d\\ude00"',
    '"10.0.0.7:007000123"',
    '"[::1%0]:0"',
    '"http://xn--a/"',
    '"http:////["',
    '"%ff%00"',
    "[]",
    "{}",
    "[[]]",
    '[""]',
    '["a@"]',
    "[null]",
    '{"wall":1e999}',
    '{"":{}}',
)
# What is made of these only when it is drawn: they are long.
_LONG: tuple[Callable[[], str], ...] = (
    lambda: f'"{"a" * 70_000}"',
    lambda: f'"{"a/" * 3_000}"',
    lambda: "[" * 40 + "]" * 40,
    lambda: "[" * 2_000,
    lambda: '{"a":' * 500 + "1" + "}" * 500,
    lambda: "[" + "[]," * 30_000 + "[]]",
    lambda: "{" + ",".join(f'"{n}":0' for n in range(3_000)) + "}",
)
_BARE = (b"", b"\x00", b"\xff\xfe", b"\x1b[2J\x07\nok", b"null", b"[]", b"{}", b'"', b"\xef\xbb\xbf{}", b"1", b"-")


def token(chance: Random) -> str:
    """Return JSON, or nearly."""
    return chance.choice(_LONG)() if chance.random() < 0.1 else chance.choice(TOKENS)


def foreign(chance: Random, document: bytes) -> bytes:
    """Return bytes that are somewhat like a document, and mostly none.

    Args:
        chance: What is drawn from.
        document: One that is well.
    """
    kinds = _nothing, _scrambled, _scrambled, _changed, _changed, _changed, _changed, _added
    made = chance.choice(kinds)(chance, document)
    return _scrambled(chance, made) if chance.random() < 0.1 else made


def _nothing(chance: Random, _: bytes) -> bytes:
    """What never was a document."""
    kind = chance.randrange(4)
    if kind == 0:
        return chance.choice(_BARE)
    if kind == 1:
        return token(chance).encode()
    if kind == 2:
        return bytes(chance.randrange(256) for _ in range(chance.randrange(60)))
    return "".join(chance.choice(string.printable) for _ in range(chance.randrange(60))).encode()


def _scrambled(chance: Random, document: bytes) -> bytes:
    """A document with bytes cut out, put in or exchanged."""
    found = bytearray(document)
    for _ in range(chance.randrange(1, 4)):
        at, length = chance.randrange(len(found) + 1), chance.randrange(9)
        put = bytes(chance.choice(b'\x00\xff"{}[],:\\0e-% @/.=') for _ in range(chance.randrange(3)))
        found[at : at + length] = put
    return bytes(found[: chance.randrange(len(found) + 1)] if chance.random() < 0.1 else found)


def _changed(chance: Random, document: bytes) -> bytes:
    """A document with something else in the place of a member or two, or without it."""
    return _with_members(chance, document, added=False)


def _added(chance: Random, document: bytes) -> bytes:
    """A document with one more member, which may be there already."""
    return _with_members(chance, document, added=True)


def _with_members(chance: Random, document: bytes, *, added: bool) -> bytes:
    try:
        fields = json.loads(document)
    except (ValueError, RecursionError):
        return _scrambled(chance, document)
    if not isinstance(fields, dict) or not fields:
        return _scrambled(chance, document)
    members = [(name, json.dumps(value)) for name, value in fields.items()]
    at = chance.randrange(len(members))
    name, written = members[at]
    if added:
        other = chance.choice([name, "", "more", "needs", "\ud800", "x" * 3_000])
        members.insert(at, (other, token(chance)))
    elif chance.random() < 0.1:
        del members[at]
    elif isinstance(fields[name], dict) and chance.random() < 0.7:
        members[at] = (name, _changed(chance, written.encode()).decode(errors="replace"))
    else:
        members[at] = (name, token(chance))
    text = ",".join(f"{json.dumps(name)}:{written}" for name, written in members)
    return f"{{{text}}}".encode(errors="surrogatepass")
