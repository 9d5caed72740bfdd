"""Signed messages between candidates.

Guarantee: each message carries a MAC over all its fields and its direction, so without the secret no message can
    be made, changed, reflected or used for another election, term, candidate or epoch. Numbers grow with each
    message of a sender and receivers refuse older ones; a reply is bound to its whole request, nonce included. So
    recorded messages are useless. No clock of another machine matters.

Not guaranteed: secrecy. An eavesdropper reads names of elections and addresses.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from tideover.foreign_bytes import Malformed, integer, load_object, number, text

# Longer strings, and promises beyond any time, are rejected unread.
_LONGEST = 2048
_LONGEST_PROMISE = 1e9


class Kind(StrEnum):
    """The kind of a message."""

    ASK = "ask"  # a leader asks a candidate for a promise
    PING = "ping"  # a leader asks a candidate whether it is there
    JOIN = "join"  # a candidate asks a leader to list it
    RETIRE = "retire"  # a candidate tells a leader that it has withdrawn for good


class Rejected(Exception):  # as "Unavailable", it is named for what happened
    """Raised when a message is malformed, or not signed with a known secret."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request about the record of an election, numbered by its sender."""

    kind: Kind
    election: str
    epoch: int
    leader: str  # the incarnation that holds the record
    term: int
    number: int
    nonce: str
    peer: str  # the incarnation that is asked, joins or retires
    promise: float = 0.0  # seconds for which the leader asks for a promise
    address: str = ""

    @property
    def to(self) -> str:
        """The incarnation that receives the message."""
        return self.peer if self.kind in (Kind.ASK, Kind.PING) else self.leader


class Keyring:
    """The secrets that all candidates share. The first signs, all verify."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = tuple(secrets)

    def __repr__(self) -> str:
        """Count the secrets, and show none."""
        return f"<Keyring of {len(self._secrets)}>"

    def request(self, message: Message) -> bytes:
        """Return a signed request."""
        return json.dumps({**asdict(message), "mac": self._sign("request", message)}).encode()

    def read(self, body: bytes) -> Message:
        """Return the message in a request; raise `Rejected` if malformed, or not signed with a known secret."""
        try:
            found = load_object(body)
            message = _message(found)
        except Malformed as exc:
            raise Rejected(str(exc)) from None
        mac = found.get("mac")
        self._verify(mac, "request", message)
        return message

    def reply(self, message: Message, verdict: str) -> bytes:
        """Return a signed reply to a request."""
        return json.dumps({"verdict": verdict, "mac": self._sign("reply", message, verdict)}).encode()

    def read_reply(self, body: bytes, message: Message) -> str:
        """Return the verdict in the reply to a request; raise `Rejected` as `read`, and for another request's."""
        try:
            found = load_object(body)
            verdict = text(found.get("verdict"), "its verdict", longest=_LONGEST)
        except Malformed as exc:
            raise Rejected(str(exc)) from None
        self._verify(found.get("mac"), "reply", message, verdict)
        return verdict

    def _sign(self, direction: str, message: Message, verdict: str = "") -> str:
        return _mac(self._secrets[0], direction, message, verdict)

    def _verify(self, mac: object, direction: str, message: Message, verdict: str = "") -> None:
        if not isinstance(mac, str) or not mac.isascii():
            raise Rejected("it is not signed")
        # All secrets are tried, so that the time taken tells nothing.
        matches = [hmac.compare_digest(_mac(secret, direction, message, verdict), mac) for secret in self._secrets]
        if not any(matches):
            raise Rejected("it is not signed with a secret that is known here")


def _mac(secret: bytes, direction: str, message: Message, verdict: str) -> str:
    # JSON of a list: no two different messages have the same text.
    text = json.dumps(["tideover peers 1", direction, *asdict(message).values(), verdict])
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def _message(found: dict[str, object]) -> Message:
    kind = found.get("kind")
    if kind not in tuple(Kind):
        raise Malformed("its kind is unknown")

    def word(name: str) -> str:
        return text(found.get(name), f"its {name}", longest=_LONGEST)

    def count(name: str) -> int:
        return integer(found.get(name), f"its {name}")

    return Message(
        Kind(str(kind)),
        election=word("election"),
        epoch=count("epoch"),
        leader=word("leader"),
        term=count("term"),
        number=count("number"),
        nonce=word("nonce"),
        peer=word("peer"),
        promise=number(found.get("promise"), "its promise", least=0, most=_LONGEST_PROMISE),
        address=word("address"),
    )
