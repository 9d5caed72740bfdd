"""Frames of ours against hyperframe's, whatever they hold and however they arrive."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hyperframe import frame as theirs
from hypothesis import given
from hypothesis import strategies as st

from tideover.etcd.http2 import frames
from tideover.etcd.http2.frames import Broken, Setting, Splitter

streams = st.integers(1, frames.MOST_WINDOW)
payloads = st.binary(max_size=300)


def parsed(data: bytes) -> Any:
    """Return a frame as hyperframe reads it."""
    frame, length = theirs.Frame.parse_frame_header(memoryview(data[:9]))
    frame.parse_body(memoryview(data[9 : 9 + length]))
    assert len(data) == 9 + length
    return frame


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return the bytes in pieces."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


@given(stream=streams, block=payloads, message=payloads)
def test_a_request_is_headers_and_data(stream: int, block: bytes, message: bytes) -> None:
    """A request is HEADERS with the whole block, and DATA that ends the stream."""
    made = frames.request(stream, block, message)
    headers, data = parsed(made[: 9 + len(block)]), parsed(made[9 + len(block) :])
    assert (type(headers), headers.stream_id, headers.data) == (theirs.HeadersFrame, stream, block)
    assert set(headers.flags) == {"END_HEADERS"}
    assert (type(data), data.stream_id, data.data, set(data.flags)) == (
        theirs.DataFrame,
        stream,
        message,
        {"END_STREAM"},
    )


@given(stream=streams, block=st.binary(min_size=1, max_size=300), largest=st.integers(1, 100))
def test_a_large_block_goes_on_in_continuations(stream: int, block: bytes, largest: int) -> None:
    """A header block in parts is HEADERS and CONTINUATION; only the last part says that it is the last."""
    made, found = frames.headers(stream, block, largest), []
    while made:
        end = 9 + int.from_bytes(made[:3], "big")
        found.append(parsed(made[:end]))
        made = made[end:]
    assert b"".join(each.data for each in found) == block
    assert [type(each) for each in found] == [
        theirs.HeadersFrame,
        *([theirs.ContinuationFrame] * (len(found) - 1)),
    ]
    assert ["END_HEADERS" in each.flags for each in found] == [*([False] * (len(found) - 1)), True]
    assert all(len(each.data) <= largest for each in found)


@given(stream=st.integers(0, frames.MOST_WINDOW), amount=streams, code=st.integers(0, 2**32 - 1), debug=payloads)
def test_control_frames(stream: int, amount: int, code: int, debug: bytes) -> None:
    """What this side sends besides requests is what hyperframe reads, and makes."""
    assert frames.window_update(stream, amount) == theirs.WindowUpdateFrame(stream, amount).serialize()
    assert frames.goaway(amount, code, debug) == theirs.GoAwayFrame(0, amount, code, debug).serialize()
    assert frames.rst_stream(amount, code) == theirs.RstStreamFrame(amount, code).serialize()
    values = {Setting.INITIAL_WINDOW_SIZE: amount, Setting.ENABLE_PUSH: 0}
    assert parsed(frames.settings(values)).settings == values


@given(
    sent=st.lists(
        st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**32 - 1), payloads), max_size=8
    ),
    cuts=st.lists(st.integers(0, 4000), max_size=12),
)
def test_frames_come_out_as_they_went_in(sent: list[frames.Frame], cuts: list[int]) -> None:
    """However bytes are cut on their way, the same frames come out; the reserved bit is ignored."""
    splitter = Splitter()
    found = [
        frame
        for piece in pieces(b"".join(frames.frame(*frame) for frame in sent), cuts)
        for frame in splitter.feed(piece)
    ]
    assert found == [(kind, flags, stream & frames.MOST_WINDOW, payload) for kind, flags, stream, payload in sent]
    assert splitter.rest == b""


@given(junk=st.binary(max_size=2000), cuts=st.lists(st.integers(0, 4000), max_size=12))
def test_never_more_than_a_frame_is_kept(junk: bytes, cuts: list[int]) -> None:
    """Whatever arrives, no more than one frame is held, and the only error is that the peer breaks the rules."""
    splitter = Splitter()
    for piece in pieces(junk, cuts):
        try:
            list(splitter.feed(piece))
        except Broken:
            return
        assert len(splitter.rest) < 9 + frames.MAX_FRAME


@given(payload=payloads, padding=st.integers(0, 255), priority=st.booleans())
def test_padding_and_priority_are_taken_off(payload: bytes, padding: int, priority: bool) -> None:
    """Of DATA and HEADERS remains what matters."""
    data = theirs.DataFrame(1, payload, pad_length=padding, flags=["PADDED"])
    assert frames.unpadded(frames.PADDED, data.serialize()[9:]) == payload
    flags = ["PADDED", *(["PRIORITY"] if priority else [])]
    headers = theirs.HeadersFrame(1, payload, pad_length=padding, flags=flags)
    bits = frames.PADDED | (frames.WITH_PRIORITY if priority else 0)
    assert frames.header_fragment(bits, headers.serialize()[9:]) == payload


@pytest.mark.parametrize("payload", [b"", b"\1", b"\5\0\0\0\0"])
def test_more_padding_than_payload(payload: bytes) -> None:
    """Padding that does not fit breaks the rules."""
    with pytest.raises(Broken):
        frames.unpadded(frames.PADDED, payload)


@given(values=st.dictionaries(st.integers(7, 255), st.integers(0, 2**32 - 1), max_size=5))
def test_settings_of_others(values: dict[int, int]) -> None:
    """SETTINGS that nobody knows are read and mean nothing."""
    made = theirs.SettingsFrame(0, settings=values).serialize()[9:]
    assert frames.parse_settings(made) == values


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        (Setting.INITIAL_WINDOW_SIZE, 2**31),
        (Setting.MAX_FRAME_SIZE, 16_383),
        (Setting.MAX_FRAME_SIZE, 2**24),
    ],
)
def test_values_that_are_none(setting: Setting, value: int) -> None:
    """A window or a frame size beyond HTTP/2's limits breaks the rules."""
    with pytest.raises(Broken):
        frames.parse_settings(frames.settings({setting: value})[9:])


@pytest.mark.parametrize("size", [0, 3, 5, 7])
def test_lengths_that_are_none(size: int) -> None:
    """Frames of a fixed length have it."""
    short = bytes(size)
    with pytest.raises(Broken):
        frames.parse_word(short, "RST_STREAM")
    with pytest.raises(Broken):
        frames.parse_goaway(short)
    if size % 6:
        with pytest.raises(Broken):
            frames.parse_settings(short)
