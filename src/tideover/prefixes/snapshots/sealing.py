"""The encrypted form of a snapshot's file: an envelope that names what it holds, and the sealed pieces.

    {"sealed":1,"key":"1f3a9c20","namespace":"/shop","cluster":"3eca1f2b90","revision":812,"pieces":[
    "gAAAAA...",
    "gAAAAA..."
    ]}

The envelope is for people who have no key, and says which key to try; nothing else relies on it. Each piece says
inside itself, under the key, what the envelope says, and which piece of how many: a piece of another cluster,
namespace or revision, or in another place, is found when it is opened. Fernet knows no additional data that would
do this. A file has one spelling: a byte more, less or other anywhere in it is found.

Hidden are the keys and values, the endpoints and the user. Not hidden are the namespace, the cluster, the
revision, the size, and when it was written: each token begins with its time.

In pieces because `cryptography` holds the GIL, and with it the event loop, for as long as one takes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from tideover.encryption import Encryption, KeysUnusable, NotOurs
from tideover.foreign_bytes import INT64, Malformed, hexadecimal, integer, load_json, text

FORMAT = 1
_MARK = b'{"sealed":'
# Bytes of a piece before it is sealed: some milliseconds.
_PIECE = 256 * 1024

_canonical = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Sealed(ValueError):
    """Raised when what is sealed cannot be opened for want of its key; it may be whole."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a sealed snapshot belongs to."""

    namespace: str
    cluster: str  # its id, in hexadecimal
    revision: int  # up to which the snapshot is complete


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a sealed snapshot says without a key; anybody who can write to the folder may have written it."""

    key: str  # the name of the key that sealed it
    origin: Origin
    pieces: tuple[str, ...]  # what is sealed


def is_sealed(data: bytes) -> bool:
    """Whether the bytes of a file are a sealed snapshot, damaged or not."""
    return data.startswith(_MARK)


def seal(data: bytes, origin: Origin, encryption: Encryption) -> bytes:
    """Return `data` as the bytes of a sealed file. Raises `KeysUnusable`: there are no keys."""
    ring = encryption.ring()
    parts = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)]
    pieces = tuple(
        ring.seal(_bound(origin, number, len(parts)) + part).decode() for number, part in enumerate(parts, start=1)
    )
    return _spelt(Envelope(ring.names[0], origin, pieces))


def unseal(data: bytes, encryption: Encryption | None, *, most: int) -> tuple[bytes, Origin]:
    """Return what is sealed in the bytes of a file, `most` at the most, and what it belongs to.

    Raises:
        Sealed: It cannot be opened for want of its key; without any keys, whatever is wrong with it.
        Malformed: It was altered, or is no sealed file.
    """
    if encryption is None:
        raise Sealed(f"{_named(data, most)}, and no keys are given")
    envelope = read_envelope(data, most=most)
    try:
        ring = encryption.ring()
    except KeysUnusable as exc:
        raise Sealed(f"it is encrypted with key {envelope.key}, and there are no keys: {exc}") from None
    opened = []
    for number, piece in enumerate(envelope.pieces, start=1):
        bound = _bound(envelope.origin, number, len(envelope.pieces))
        try:
            message = ring.open(piece.encode(), envelope.key)
        except NotOurs:
            raise _not_ours(envelope, ring.names) from None
        if not message.startswith(bound):
            raise Malformed(
                "it was altered: a part of it belongs to another cluster, namespace, revision or place"
            )
        opened.append(message[len(bound) :])
    if data != _spelt(envelope):
        raise Malformed("it was altered: what is around its parts is not as it was written")
    return b"".join(opened), envelope.origin


def read_envelope(data: bytes, *, most: int) -> Envelope:
    """Return what a sealed file of up to `most` bytes says without a key. Raises `Malformed`: no such file."""
    document = load_json(data, size=most, values=None)
    if not isinstance(document, dict):
        raise Malformed("it is not an object")
    if (number := integer(document.get("sealed"), "sealed")) != FORMAT:
        raise Malformed(f"it is sealed in format {number}, and only {FORMAT} is known here")
    if document.keys() != {"sealed", "key", "namespace", "cluster", "revision", "pieces"}:
        raise Malformed("the envelope has other members than it should")
    pieces = document["pieces"]
    if not isinstance(pieces, list) or not pieces:
        raise Malformed("it has no pieces")
    cluster = text(document["cluster"], "cluster")
    key = text(document["key"], "key")
    hexadecimal(cluster, "cluster")
    hexadecimal(key, "key")
    origin = Origin(
        text(document["namespace"], "namespace"), cluster, integer(document["revision"], "revision", most=INT64)
    )
    return Envelope(key, origin, tuple(text(piece, "a piece") for piece in pieces))


def _spelt(envelope: Envelope) -> bytes:
    head = _canonical({"sealed": FORMAT, "key": envelope.key, **asdict(envelope.origin)})[:-1]
    lines = ",\n".join(f'"{piece}"' for piece in envelope.pieces)
    return f'{head},"pieces":[\n{lines}\n]}}\n'.encode()


def _bound(origin: Origin, number: int, pieces: int) -> bytes:
    """Return what a piece begins with: all that it belongs to, in one line."""
    return f"{_canonical({**asdict(origin), 'piece': number, 'pieces': pieces})}\n".encode()


def _named(data: bytes, most: int) -> str:
    try:
        return f"it is encrypted with key {read_envelope(data, most=most).key}"
    except Malformed as exc:
        return f"it is encrypted, and damaged: {exc}"


def _not_ours(envelope: Envelope, names: tuple[str, ...]) -> ValueError:
    if envelope.key in names:
        return Malformed(f"it was altered after it was encrypted with key {envelope.key}")
    return Sealed(f"it is encrypted with key {envelope.key}, and the keys here are {', '.join(names)}")
