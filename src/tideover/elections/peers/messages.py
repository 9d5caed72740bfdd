"""Signed messages between candidates: what is said, and proof that one who has the secret has said it to whom.

Each carries a MAC over everything in it, and over its direction, so that no message can be made, changed, turned
round or used for another election, term, candidate or epoch. The number grows with each message of its sender; who
receives it refuses older ones, and a reply is bound to the whole of its request, with its nonce. So a recorded
message is worth nothing. No clock of another machine is ever asked for.

They are not secret: whoever listens can read names of elections and addresses.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from tideover.foreign_bytes import Malformed, integer, load_object, number, text

# Nobody sends longer strings; what is longer is not looked at. Nor are promises beyond any time.
_LONGEST = 2048
_LONGEST_PROMISE = 1e9


class Kind(StrEnum):
    """What a message is.

    Attributes:
        ASK: A leader asks a candidate for a promise.
        PING: A leader asks a candidate whether it is there.
        JOIN: A candidate makes itself known to a leader.
        RETIRE: A candidate tells a leader that it has given up, for good.
    """

    ASK = "ask"
    PING = "ping"
    JOIN = "join"
    RETIRE = "retire"


class Rejected(Exception):  # as "Unavailable", it is named for what happened
    """Raised when a message is none, or is not signed by one who has the secret."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request.

    Attributes:
        election: The key of the election's record, as text.
        leader: The incarnation that holds the record.
        number: Grows with each message of the sender.
        peer: The other incarnation: who is asked, who joins or retires.
        promise: Seconds for which a promise is asked for.
    """

    kind: Kind
    election: str
    epoch: int
    leader: str
    term: int
    number: int
    nonce: str
    peer: str
    promise: float = 0.0
    address: str = ""

    @property
    def to(self) -> str:
        """The incarnation that it is for."""
        return self.peer if self.kind in (Kind.ASK, Kind.PING) else self.leader


class Keyring:
    """Secrets that are shared by all candidates. The first signs, all verify."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = tuple(secrets)

    def __repr__(self) -> str:
        """Count them; they are never shown."""
        return f"<Keyring of {len(self._secrets)}>"

    def request(self, message: Message) -> bytes:
        """Return a signed request."""
        return json.dumps({**asdict(message), "mac": self._sign("request", message)}).encode()

    def read(self, body: bytes) -> Message:
        """Return what a request says.

        Raises:
            Rejected: It is none, or not signed with a secret of ours.
        """
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
        """Return the verdict of a reply to a request of ours.

        Raises:
            Rejected: It is none, or belongs to another request, or is not signed with a secret of ours.
        """
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
        # All are tried, so that the time taken tells nothing.
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
