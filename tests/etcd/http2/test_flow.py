"""Windows and messages, without a connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.etcd.http2.test_frames import pieces
from tideover.etcd.http2.envelope import Unwrapper, wrapped
from tideover.etcd.http2.frames import MOST_WINDOW, Broken, ErrorCode
from tideover.etcd.http2.status import Failure, StatusCode
from tideover.etcd.http2.windows import ReceiveWindow, grown, shifted

windows = st.integers(-MOST_WINDOW, MOST_WINDOW)


@given(window=windows, increment=st.integers(0, MOST_WINDOW))
def test_a_window_grows_up_to_a_bound(window: int, increment: int) -> None:
    """WINDOW_UPDATE adds; by nothing, or beyond 2^31-1, it breaks the rules."""
    if increment and window + increment <= MOST_WINDOW:
        assert grown(window, increment) == window + increment
        return
    with pytest.raises(Broken) as caught:
        grown(window, increment)
    assert caught.value.code is (ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR)


@given(window=windows, before=st.integers(0, MOST_WINDOW), after=st.integers(0, MOST_WINDOW))
def test_settings_move_open_windows(window: int, before: int, after: int) -> None:
    """SETTINGS moves an open window by the difference, below nothing if need be."""
    try:
        assert shifted(window, before, after) - window == after - before
    except Broken:
        assert window + after - before > MOST_WINDOW


@given(size=st.integers(2, 1000), amounts=st.lists(st.integers(1, 300), max_size=60))
def test_what_is_given_back_is_what_came(size: int, amounts: list[int]) -> None:
    """A peer that keeps to its window is never stuck, and never told of more than there is room for."""
    window, allowed = ReceiveWindow(size), size
    for amount in amounts:
        amount = min(amount, allowed)
        window.take(amount)
        allowed += window.give_back(amount) - amount
        assert size // 2 < allowed + 1 <= size + 1
    with pytest.raises(Broken):
        window.take(allowed + 1)


@given(messages=st.lists(st.binary(max_size=100), max_size=8), cuts=st.lists(st.integers(0, 2000), max_size=12))
def test_messages_come_out_as_they_went_in(messages: list[bytes], cuts: list[int]) -> None:
    """However a stream is cut into frames, its messages are the same."""
    unwrapper = Unwrapper(1000)
    data = b"".join(map(wrapped, messages))
    assert [found for piece in pieces(data, cuts) for found in unwrapper.feed(piece)] == messages
    assert unwrapper.held == 0


@pytest.mark.parametrize(
    ("prefix", "code"),
    [
        (b"\1\0\0\0\1", StatusCode.INTERNAL),
        (b"\0" + (1001).to_bytes(4, "big"), StatusCode.RESOURCE_EXHAUSTED),
        (b"\0\xff\xff\xff\xff", StatusCode.INTERNAL),
    ],
    ids=["compressed", "too large", "nonsense"],
)
def test_messages_that_are_not_taken(prefix: bytes, code: StatusCode) -> None:
    """What is compressed, or larger than it may be, ends the call before it is held."""
    with pytest.raises(Failure) as caught:
        Unwrapper(1000).feed(prefix)
    assert caught.value.code is code
