"""Bytes that somebody else wrote: one error, whatever they are, and no other way to decode them."""

from __future__ import annotations

import ast
import json
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tideover
from tideover.foreign_bytes import (
    DEPTH,
    SIZE,
    UINT64,
    Malformed,
    decimal,
    hexadecimal,
    integer,
    load_json,
    load_object,
    number,
    text,
)

SOURCE = Path(tideover.__file__).parent

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**23), 10**24)
    | st.floats(allow_nan=False, allow_infinity=False)
    # Without surrogates, which hypothesis leaves out here.
    | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
    max_leaves=20,
)


@given(values)
def test_what_is_within_the_bounds_is_read(value: object) -> None:
    """All of JSON is read as it was written."""
    assert load_json(json.dumps(value).encode()) == value
    assert load_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary() | st.text(alphabet='[]{}",:\\ud8001e9-.tnNI').map(str.encode))
def test_there_is_one_error(raw: bytes) -> None:
    """Whatever the bytes are, there is a value or `Malformed`."""
    with suppress(Malformed):
        load_json(raw)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not JSON"),
        (b"\xff", "not UTF-8"),
        ('"a"'.encode("utf-16"), "not UTF-8"),
        (b"[" * 2000, "nested too deeply"),
        (b"[" * (DEPTH + 1) + b"1" + b"]" * (DEPTH + 1), "nested too deeply"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "nested too deeply"),
        (b"1" * 26, "too large"),
        (b"1" * 5000, "too large"),
        (b"1e999", "too large"),
        (b"-1e999", "too large"),
        (b"NaN", "NaN is not a number"),
        (b"[-Infinity]", "-Infinity is not a number"),
        (rb'"\ud800"', "not Unicode"),
        (rb'[{"a":{"\udc00":1}}]', "not Unicode"),
        (b'{"a":1,"a":1}', "twice"),
        (b" " * SIZE + b"1", "more than 2,097,152 bytes"),
        (b"[" + b"[]," * 20_001 + b"[]]", "more than 20,000 values"),
    ],
    ids=range(17),
)
def test_what_is_beyond_a_bound(raw: bytes, why: str) -> None:
    """Each bound is a reason of its own, and no reason shows what was read or keeps it alive."""
    with pytest.raises(Malformed, match=why) as caught:
        load_json(raw)
    assert caught.value.__context__ is None


def test_commas_in_a_text_are_no_values() -> None:
    """A long text is one value, whatever stands in it."""
    assert load_json(json.dumps("," * 50_000 + '\\"' * 9).encode()) == "," * 50_000 + '\\"' * 9


@pytest.mark.parametrize(
    "raw",
    [
        b"[" + b"[]," * 21_000 + b"[]]",
        b"[" + b"{}," * 21_000 + b"{}]",
        b'"' + b'\\"' * 32_000,
        b'["' + b"," * 65_000,
        b"[" + b'"a",' * 16_000 + b'"a"]',
        b"[" + b"1.5," * 16_000 + b"1]",
        b"{" + b",".join(b'"%d":0' % n for n in range(7000)) + b"}",
    ],
    ids=range(7),
)
def test_the_worst_case_is_cheap(raw: bytes) -> None:
    """64 KiB of anything take less than 10 MiB."""
    tracemalloc.start()
    with suppress(Malformed):
        load_json(raw)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * 1024 * 1024


def test_values_have_bounds() -> None:
    """Types are exact, numbers are in range, text is not too long."""
    assert load_object(b'{"a":1}') == {"a": 1}
    assert (integer(7, "it"), number(7, "it", least=0, most=9), text("a", "it")) == (7, 7.0, "a")
    assert (decimal("007", "it", most=999), hexadecimal("ff", "it")) == (7, 255)
    assert hexadecimal("f" * 16, "it") == UINT64
    for wrong in (
        lambda: load_object(b"[]"),
        lambda: integer(True, "it"),
        lambda: integer(1.0, "it"),
        lambda: integer(2**63, "it"),
        lambda: integer(-1, "it"),
        lambda: number(True, "it", least=0, most=9),
        lambda: number("7", "it", least=0, most=9),
        lambda: number(10**400, "it", least=0, most=9),
        lambda: number(float("nan"), "it", least=0, most=9),
        lambda: text(7, "it"),
        lambda: text("abc", "it", longest=2),
        lambda: decimal("0007", "it", most=999),
        lambda: decimal("\u0667", "it"),
        lambda: decimal("+7", "it"),
        lambda: decimal("1_0", "it"),
        lambda: decimal("", "it"),
        lambda: decimal("9" * 5000, "it"),
        lambda: hexadecimal("0x7", "it"),
        lambda: hexadecimal("f" * 17, "it"),
    ):
        with pytest.raises(Malformed):
            wrong()


# Where bytes are decoded without it, and why they may be. Everything else is foreign.
ELSEWHERE = {
    "codecs/decoding.py: json.loads(text, parse_float=Written, parse_constant=_no_constant)": "the user's type",
    "codecs/scalars.py: int(value)": "the same",
    "codecs/choices.py: int(value)": "the same",
    "cli/etcd_versions.py: int(number)": "a pattern has found up to nine ASCII digits, or they are our own",
    "policies.py: int(port)": "an option of the user's, of up to five digits",
    "telemetry/calls.py: int(port)": "an endpoint that has been checked",
    "cluster/dns.py: int(endpoint.rpartition(':')[2])": "the same",
    "etcd/http2/opening.py: int(endpoint.rpartition(':')[2])": "the same",
    "cli/machine.py: int(port)": "the same",
    "locks/queue_key.py: int(clock.wall())": "the clock of this machine",
    "elections/peers/listener.py: int(port)": "an option of the user's",
    "cli/become_command.py: int(sys.argv[1])": "an argument of our own making",
    "cli/become_command.py: int(sys.argv[2])": "the same",
    "cli/become_command.py: int(n)": "the same",
    "cli/demo/load.py: int(body['revision'])": "the demo's own answer",
    "testing/etcd/http.py: json.loads(body)": "an etcd that the tests have started",
    "testing/etcd/http.py: int(length[1])": "the same",
    "testing/etcd/http.py: int(str(header.get('member_id', 0)))": "the same",
    "testing/etcd/http.py: int(str(header.get('raft_term', 0)))": "the same",
    "testing/etcd/http.py: int(str(parsed.get('leader', 0)))": "the same",
    "testing/etcd/http.py: int(port)": "the same",
    "testing/etcd/ports.py: int(text.split()[0])": "the kernel's",
}
# What is a number already is only rounded.
ROUNDED = {
    "asgi/status_header.py: int(mark.age)",
    "cli/from_disk.py: int(supersedes(one.snapshot, other.snapshot))",
    "cli/from_disk.py: int(supersedes(other.snapshot, one.snapshot))",
    "cli/run_command.py: int(n)",
    "contrib/openfeature/flags.py: int(value)",
    "cli/run_command.py: int(self._death_signal)",
    "coordinator/parts.py: int(random() * len(members))",
    "elections/peers/http.py: int(listener.extra(anyio.abc.SocketAttribute.local_port))",
    "elections/peers/peering.py: int(client.clock.boot() * 1000000)",
    "etcd/http2/connection.py: int(sock.fileno())",
    "etcd/http2/envelope.py: int(size)",
    "etcd/http2/header_blocks.py: int(seconds * per_second)",
    "locks/ledger.py: int(KEPT)",
    "status/statements.py: int(seconds)",
    "telemetry/observing.py: int(state is now)",
}


def decodings() -> set[str]:
    """Return all calls in the source that make numbers or documents of text."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("int", "json.loads", "json.load"):
                found.add(f"{path.relative_to(SOURCE)}: {ast.unparse(node)}")
    return {each for each in found if not each.startswith("foreign_bytes.py: ")}


def test_foreign_bytes_are_decoded_nowhere_else() -> None:
    """Each `json.loads` and each `int` outside of the module is listed here, with a reason."""
    assert decodings() == ELSEWHERE.keys() | ROUNDED
