"""A snapshot as bytes.

One JSON document, one entry per line, so that `grep` and `jq` serve an operator during an outage::

    {"header":{"format":1,"prefix":"/config/",...,"sha256":"..."},
    "entries":{
    "/config/rate":{"create_revision":7,"mod_revision":9,"value":"10"},
    "base64:L2NvbmZpZy//":{"create_revision":8,"mod_revision":8,"value":{"base64":"/w=="}}
    }}

Format 2 is that of an accepted snapshot. Its header has one more member, and all else is as in format 1::

    "accepted":{"class":"shop.Pool","keys":["/config/pool/size",...],"shape":"9f86d081884c7d65"}

A raw snapshot stays in format 1, because a version that knows no other refuses the whole of any other file. Such
a version finds the raw snapshot where it has always been, and looks at no accepted one.

`sha256` is over the canonical JSON (sorted names, no spaces, no ASCII escapes) of the whole document without
`sha256` itself. It guards against accidents, not against an attacker who can write the file.

`decode` checks the sum over what it *understood*, not over the bytes it read: nothing that it overlooked or
misread can pass.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence

from tideover.clock import Stamp
from tideover.epoch.rules import MAX_EPOCH
from tideover.errors import SnapshotCorrupt
from tideover.foreign_bytes import INT64, UINT64, integer, load_json, text
from tideover.prefixes.snapshots.snapshot import Accepted, Snapshot
from tideover.types import Entry

_RAW, _ACCEPTED = 1, 2
# Bytes of a file: more than anybody follows, and less than harms.
MOST_BYTES = 256 * 1024 * 1024

_BASE64 = "base64"
_BASE64_KEY = "base64:"
_HEADER_NAMES = frozenset(
    {
        "format",
        "prefix",
        "cluster_id",
        "epoch",
        "history",
        "raft_term",
        "revision",
        "synced_at",
        "saved_at",
        "sha256",
    }
)
# Absent in snapshots of earlier versions.
_ORIGIN_NAMES = frozenset({"endpoints", "user"})
_ACCEPTED_NAMES = frozenset({"class", "keys", "shape"})
_STAMP_NAMES = frozenset({"wall", "boot", "boot_id"})

_canonical = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode


def encode(snapshot: Snapshot) -> bytes:
    """Return the snapshot as JSON, the same for equal snapshots. Raises `ValueError`: a stamp is not finite."""
    lines = _entry_lines(snapshot.entries)
    header = _header(snapshot)
    header["sha256"] = _checksum(header, lines)
    body = ",\n".join(lines)
    return f'{{"header":{_canonical(header)},\n"entries":{{\n{body}\n}}}}\n'.encode()


def decode(data: bytes, *, path: str) -> Snapshot:
    """Return the snapshot in the bytes of a file. Raises `SnapshotCorrupt`: anything at all is wrong with it."""
    try:
        return _understand(data)
    except ValueError as exc:
        reason = str(exc)
    # Raised outside the handler: a chained decoding error would keep the whole file, secrets included, alive.
    raise SnapshotCorrupt(f"snapshot {path} is damaged: {reason}", path=path)


def _header(snapshot: Snapshot) -> dict[str, object]:
    synced_at = snapshot.synced_at
    origin = {"endpoints": list(snapshot.endpoints), "user": snapshot.user} if snapshot.endpoints else {}
    return {
        **origin,
        **_label(snapshot.accepted),
        "prefix": _spell_key(snapshot.prefix),
        "cluster_id": snapshot.cluster_id,
        "epoch": snapshot.epoch,
        "history": snapshot.history,
        "raft_term": snapshot.raft_term,
        "revision": snapshot.revision,
        "synced_at": None if synced_at is None else _spell_stamp(synced_at),
        "saved_at": _spell_stamp(snapshot.saved_at),
    }


def _label(accepted: Accepted | None) -> dict[str, object]:
    if accepted is None:
        return {"format": _RAW}
    keys = sorted(map(_spell_key, accepted.keys))
    return {"format": _ACCEPTED, "accepted": {"class": accepted.form, "keys": keys, "shape": accepted.shape}}


def _entry_lines(entries: Mapping[bytes, Entry]) -> list[str]:
    # One entry at a time, not one json.dumps of everything: that would hold the GIL, and with it the event
    # loop, for as long as it takes.
    return [
        f'{_canonical(key)}:{{"create_revision":{entry.create_revision},"mod_revision":{entry.mod_revision},'
        f'"value":{_canonical(_spell_value(entry.value))}}}'
        for key, entry in sorted((_spell_key(key), entry) for key, entry in entries.items())
    ]


def _checksum(header: dict[str, object], lines: Sequence[str]) -> str:
    return hashlib.sha256(
        f'{{"entries":{{{",".join(lines)}}},"header":{_canonical(header)}}}'.encode()
    ).hexdigest()


def _spell_key(key: bytes) -> str:
    try:
        spelt = key.decode()
    except UnicodeDecodeError:
        return _BASE64_KEY + base64.b64encode(key).decode()
    # A text that looks like the escape is escaped itself, so that each key has one spelling only.
    return _BASE64_KEY + base64.b64encode(key).decode() if spelt.startswith(_BASE64_KEY) else spelt


def _spell_value(value: bytes) -> object:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {_BASE64: base64.b64encode(value).decode()}


def _spell_stamp(stamp: Stamp) -> dict[str, object]:
    return {"wall": float(stamp.wall), "boot": float(stamp.boot), "boot_id": stamp.boot_id}


def _understand(data: bytes) -> Snapshot:
    document = load_json(data, size=MOST_BYTES, values=None)
    root = _read_record(document, frozenset({"header", "entries"}), "the document")
    if not isinstance(root["header"], dict):
        raise ValueError("the header is not an object")
    if (number := integer(root["header"].get("format"), "format")) not in (_RAW, _ACCEPTED):
        raise ValueError(f"its format is {number}, and only {_RAW} and {_ACCEPTED} are known here")
    told = _ORIGIN_NAMES & root["header"].keys()
    names = _HEADER_NAMES | (_ORIGIN_NAMES if told else set()) | ({"accepted"} if number == _ACCEPTED else set())
    header = _read_record(root["header"], names, "the header")
    synced_at = header["synced_at"]
    snapshot = Snapshot(
        prefix=_read_key(text(header["prefix"], "prefix")),
        cluster_id=integer(header["cluster_id"], "cluster_id", most=UINT64),
        epoch=integer(header["epoch"], "epoch", most=MAX_EPOCH),
        history=text(header["history"], "history"),
        raft_term=integer(header["raft_term"], "raft_term", most=UINT64),
        revision=integer(header["revision"], "revision", most=INT64),
        synced_at=None if synced_at is None else _read_stamp(synced_at, "synced_at"),
        saved_at=_read_stamp(header["saved_at"], "saved_at"),
        entries=_read_entries(root["entries"]),
        endpoints=_read_texts(header["endpoints"], "endpoints") if told else (),
        user=text(header["user"], "user") if told else "",
        accepted=_read_label(header["accepted"]) if number == _ACCEPTED else None,
    )
    if header["sha256"] != _checksum(_header(snapshot), _entry_lines(snapshot.entries)):
        raise ValueError("the checksum does not match")
    return snapshot


def _read_record(value: object, names: frozenset[str], what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not an object")
    if value.keys() != names:
        raise ValueError(f"{what} does not have exactly the members {', '.join(sorted(names))}")
    return value


def _read_texts(value: object, what: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{what} is not a list")
    return tuple(text(each, what) for each in value)


def _read_label(value: object) -> Accepted:
    label = _read_record(value, _ACCEPTED_NAMES, "accepted")
    return Accepted(
        form=text(label["class"], "class"),
        shape=text(label["shape"], "shape"),
        keys=frozenset(map(_read_key, _read_texts(label["keys"], "keys"))),
    )


def _read_seconds(value: object, what: str) -> float:
    if type(value) is not float or not math.isfinite(value):
        raise ValueError(f"{what} is not a finite number of seconds")
    return value


def _read_stamp(value: object, what: str) -> Stamp:
    stamp = _read_record(value, _STAMP_NAMES, what)
    return Stamp(
        wall=_read_seconds(stamp["wall"], f"{what}.wall"),
        boot=_read_seconds(stamp["boot"], f"{what}.boot"),
        boot_id=text(stamp["boot_id"], f"{what}.boot_id"),
    )


def _read_key(spelt: str) -> bytes:
    if spelt.startswith(_BASE64_KEY):
        return base64.b64decode(spelt.removeprefix(_BASE64_KEY), validate=True)
    return spelt.encode()


def _read_value(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    record = _read_record(value, frozenset({_BASE64}), "a value")
    return base64.b64decode(text(record[_BASE64], "a value"), validate=True)


def _read_entries(value: object) -> dict[bytes, Entry]:
    if not isinstance(value, dict):
        raise ValueError("the entries are not an object")
    names = frozenset({"value", "create_revision", "mod_revision"})
    entries = {}
    for spelt, raw in value.items():
        record = _read_record(raw, names, "an entry")
        entries[_read_key(spelt)] = Entry(
            value=_read_value(record["value"]),
            create_revision=integer(record["create_revision"], "create_revision"),
            mod_revision=integer(record["mod_revision"], "mod_revision"),
        )
    if len(entries) != len(value):
        raise ValueError("a key occurs twice")
    return entries
