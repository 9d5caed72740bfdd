"""Header blocks of ours against hpack: what is written is read by it, what it writes is read here."""

from __future__ import annotations

import string

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from tideover.etcd.http2.frames import Broken
from tideover.etcd.http2.header_blocks import integer, literal, metadata_block, request_start, timeout_block
from tideover.etcd.http2.reply_headers import MAX_BLOCK, HeaderReader, parse_block

names = st.text(string.ascii_lowercase + "-", min_size=1, max_size=200)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=400)
pairs = st.lists(st.tuples(names, values), max_size=6)


def decoded(block: bytes) -> list[tuple[str, str]]:
    """Return what hpack reads."""
    return [(str(name), str(value)) for name, value in Decoder().decode(block)]


@given(value=st.integers(0, 2**40), bits=st.integers(1, 8))
def test_numbers(value: int, bits: int) -> None:
    """A number is written as hpack writes it."""
    from hpack.hpack import encode_integer

    assert integer(value, bits) == bytes(encode_integer(value, bits))


@given(metadata=pairs)
def test_metadata_is_never_indexed(metadata: list[tuple[str, str]]) -> None:
    """Metadata is read as it was given, and everyone on the way is told to keep it in no table."""
    block = metadata_block(metadata)
    headers = Decoder().decode(block)
    assert [(str(name), str(value)) for name, value in headers] == metadata
    assert all(not header.indexable for header in headers)


@given(name=st.one_of(names, st.sampled_from([1, 4, 31, 58])), value=values)
def test_literals(name: str | int, value: str) -> None:
    """A literal is read with its name, also where that is a number of the static table."""
    known = {1: ":authority", 4: ":path", 31: "content-type", 58: "user-agent"}
    block = literal(name if isinstance(name, int) else name.encode(), value.encode())
    assert decoded(block) == [(known[name] if isinstance(name, int) else name, value)]


@pytest.mark.parametrize("secure", [False, True])
def test_pseudo_headers_come_first(secure: bool) -> None:
    """A request begins with HTTP/2's own headers, as it must, and has those of gRPC."""
    start = request_start("/etcdserverpb.KV/Range", authority="10.0.0.1:2379", secure=secure, agent="tideover/1")
    assert decoded(start) == [
        (":method", "POST"),
        (":scheme", "https" if secure else "http"),
        (":path", "/etcdserverpb.KV/Range"),
        (":authority", "10.0.0.1:2379"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "tideover/1"),
    ]


@given(seconds=st.floats(0, 10**12))
def test_the_server_has_the_time_that_was_asked_for(seconds: float) -> None:
    """A time-out is never shorter than it was given, has eight digits at the most, or none if it is years."""
    block = timeout_block(seconds)
    if not block:
        assert seconds >= 99_999_998
        return
    ((name, value),) = decoded(block)
    assert name == "grpc-timeout"
    assert len(value) <= 9
    unit = {"u": 1e-6, "m": 1e-3, "S": 1.0}[value[-1]]
    assert seconds <= int(value[:-1]) * unit <= seconds * 1.02 + 2e-6


@given(status=st.sampled_from(["200", "404"]), code=st.integers(0, 20), huffman=st.booleans(), more=pairs)
def test_replies_are_read(status: str, code: int, huffman: bool, more: list[tuple[str, str]]) -> None:
    """What hpack writes without a table is read, with whatever else stands there."""
    encoder = Encoder()
    encoder.header_table_size = 0
    others = [(name, value) for name, value in more if name not in ("grpc-status", "grpc-message")]
    headers = [(":status", status), *others, ("grpc-status", str(code)), ("grpc-message", "50%25")]
    found = HeaderReader().read(bytes(encoder.encode(headers, huffman=huffman)))
    assert (found.http_status, found.grpc_status, found.message) == (status, str(code), "50%")


def test_a_message_that_is_no_utf8() -> None:
    """What a server says is shown, whatever it says."""
    block = metadata_block([("grpc-status", "2"), ("grpc-message", "%ff%zz %C3%A4")])
    assert parse_block(block).message == "\N{REPLACEMENT CHARACTER}%zz ä"


@given(block=st.binary(max_size=200))
def test_junk_breaks_the_rules_or_is_a_block(block: bytes) -> None:
    """Any bytes are a header block, or break the rules: there is no third way."""
    reader = HeaderReader()
    try:
        first = reader.read(block)
    except Broken:
        return
    assert reader.read(block) == first == parse_block(block)


def test_a_table_that_was_forbidden() -> None:
    """A block that refers to a dynamic table breaks the rules: it would mean something else the next time."""
    encoder = Encoder()
    first, again = (bytes(encoder.encode([("x-key", "value")])) for _ in range(2))
    reader = HeaderReader()
    reader.read(first)
    with pytest.raises(Broken):
        reader.read(again)


def test_lists_that_are_too_long() -> None:
    """A short block may stand for a long list: it is read up to a bound, and only so much is remembered."""
    with pytest.raises(Broken):
        parse_block(metadata_block([("x", "y" * 1000)]) * (MAX_BLOCK // 1000 + 1))
    reader = HeaderReader()
    for number in range(1000):
        reader.read(metadata_block([("x", str(number))]))
    assert len(reader._known) <= 128
    reader.read(metadata_block([("x", "y" * 2000)]))
    assert all(len(block) <= 1024 for block in reader._known)
