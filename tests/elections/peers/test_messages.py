"""Signed messages: what was changed, turned round, repeated or made by somebody else does not count."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideover.elections.peers.messages import Keyring, Kind, Message, Rejected

SECRET, OTHER = b"0123456789abcdef", b"fedcba9876543210"
MESSAGE = Message(Kind.ASK, "ns/elections/x", 1, "leader", 3, 7, "nonce", "peer", 15.0)


def test_a_message_arrives() -> None:
    """What was signed is read as it was, by whoever has the secret, first or not."""
    assert Keyring([OTHER, SECRET]).read(Keyring([SECRET]).request(MESSAGE)) == MESSAGE


@pytest.mark.parametrize("name", [field.name for field in fields(Message)])
def test_each_field_is_signed(name: str) -> None:
    """A message with any field changed is refused, as request and in the reply to it."""
    keys = Keyring([SECRET])
    found = json.loads(keys.request(MESSAGE))
    found[name] = "ping" if name == "kind" else found[name] + ("x" if isinstance(found[name], str) else 1)
    with pytest.raises(Rejected):
        keys.read(json.dumps(found).encode())
    changed: dict[str, Any] = {name: Kind.PING if name == "kind" else found[name]}
    other = replace(MESSAGE, **changed)
    with pytest.raises(Rejected):
        keys.read_reply(keys.reply(other, "promised"), MESSAGE)


def test_a_reply_is_no_request() -> None:
    """The MAC of a request is not one of a reply, and the verdict is signed too."""
    keys = Keyring([SECRET])
    request = json.loads(keys.request(MESSAGE))
    for verdict in ("", "promised"):
        with pytest.raises(Rejected):
            keys.read_reply(json.dumps({"verdict": verdict, "mac": request["mac"]}).encode(), MESSAGE)
    reply = json.loads(keys.reply(MESSAGE, "leads"))
    with pytest.raises(Rejected):
        keys.read_reply(json.dumps({**reply, "verdict": "promised"}).encode(), MESSAGE)


def test_another_secret() -> None:
    """Who has another secret neither understands nor is understood, and nothing shows a secret."""
    with pytest.raises(Rejected) as caught:
        Keyring([OTHER]).read(Keyring([SECRET]).request(MESSAGE))
    for text in (str(caught.value), repr(Keyring([SECRET])), repr(caught.value)):
        assert SECRET.decode() not in text


@given(
    st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        ).map(lambda value: json.dumps(value).encode()),
        st.fixed_dictionaries(
            {
                field.name: st.one_of(st.text(max_size=5), st.integers(), st.floats(), st.none(), st.just("ask"))
                for field in fields(Message)
            }
            | {"mac": st.one_of(st.text(), st.integers(), st.none())}
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_garbage(body: bytes) -> None:
    """Whatever comes is refused in one way, as request and as reply."""
    with pytest.raises(Rejected):
        Keyring([SECRET]).read(body)
    with pytest.raises(Rejected):
        Keyring([SECRET]).read_reply(body, MESSAGE)


def test_what_is_nested_too_deeply() -> None:
    """JSON that would exhaust the stack is refused like any other."""
    with pytest.raises(Rejected):
        Keyring([SECRET]).read(b"[" * 16_000)
