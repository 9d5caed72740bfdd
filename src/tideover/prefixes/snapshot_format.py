"""The snapshot: the last good state of one prefix, and its encoding as bytes.

One JSON document, one entry per line, so that `grep` and `jq` serve an operator during an outage::

    {"header":{"format":1,"prefix":"/config/",...,"sha256":"..."},
    "entries":{
    "/config/rate":{"create_revision":7,"mod_revision":9,"value":"10"},
    "base64:L2NvbmZpZy//":{"create_revision":8,"mod_revision":8,"value":{"base64":"/w=="}}
    }}

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
from dataclasses import dataclass

from tideover.clock import Stamp
from tideover.epoch.rules import MAX_EPOCH
from tideover.errors import SnapshotCorrupt
from tideover.foreign_bytes import INT64, UINT64, integer, load_json, text
from tideover.shown import quoted
from tideover.types import Entry

FORMAT = 1
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
_STAMP_NAMES = frozenset({"wall", "boot", "boot_id"})

_canonical = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot:
    """What is known of one prefix at one revision, fit for outliving the process.

    Attributes:
        prefix: The full etcd prefix.
        cluster_id: The cluster it came from; 0 if an operator has made it.
        epoch: The operator-visible counter of histories; grows when etcd was restored, rebuilt or replaced.
        raft_term: The term at the time.
        revision: The store revision up to which the entries are complete.
        synced_at: The newest moment proven in sync with a quorum; None if none was (a member read).
        saved_at: When it was handed to the disk.
        entries: Full etcd key to entry. Must not change while it is being saved.
        history: The random id of that epoch's marker in etcd; empty if none was seen.
        endpoints: The endpoints of the cluster that its writer was given; empty if unknown.
        user: The etcd user that it was read as; empty for none, or if unknown.

    Raises:
        ValueError: A counter is negative, or a key lies outside the prefix.
    """

    prefix: bytes
    cluster_id: int
    epoch: int
    raft_term: int
    revision: int
    synced_at: Stamp | None
    saved_at: Stamp
    entries: Mapping[bytes, Entry]
    history: str = ""
    endpoints: tuple[str, ...] = ()
    user: str = ""

    def __post_init__(self) -> None:
        """Reject what cannot have come from etcd."""
        for name in ("cluster_id", "epoch", "raft_term", "revision"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        for key in self.entries:
            if not key.startswith(self.prefix):
                raise ValueError(f"key {quoted(key)} lies outside the prefix {quoted(self.prefix)}")

    def __repr__(self) -> str:
        """Return one line without the values: they may be secret, and there may be many."""
        return (
            f"<Snapshot prefix={self.prefix!r} cluster_id={self.cluster_id:x} epoch={self.epoch} "
            f"revision={self.revision} entries={len(self.entries)}>"
        )


def supersedes(ours: Snapshot, theirs: Snapshot) -> bool:
    """Return whether `ours` tells more than `theirs`, so that it may take its place.

    Args:
        ours: The candidate.
        theirs: What is on disk.

    Returns:
        True for a higher (epoch, revision), and at the same one for a later proof of being in sync. Revisions
        of different clusters cannot be compared: there only a higher epoch counts. What an operator has made of
        plain values is of no cluster, and gives way to any that is of one.
    """
    if not theirs.cluster_id and ours.cluster_id:
        return True  # theirs is an operator's, and etcd has said something since
    if ours.cluster_id != theirs.cluster_id:
        return ours.epoch > theirs.epoch
    if (ours.epoch, ours.revision) != (theirs.epoch, theirs.revision):
        return (ours.epoch, ours.revision) > (theirs.epoch, theirs.revision)
    return _is_later(ours.synced_at, theirs.synced_at)


def _is_later(ours: Stamp | None, theirs: Stamp | None) -> bool:
    if ours is None or theirs is None:
        return ours is not None
    if ours.boot_id and ours.boot_id == theirs.boot_id:
        return ours.boot > theirs.boot
    return ours.wall > theirs.wall


def encode(snapshot: Snapshot) -> bytes:
    """Return the snapshot as the bytes of a file.

    Args:
        snapshot: What to write.

    Returns:
        A JSON document, the same for equal snapshots.

    Raises:
        ValueError: A stamp holds a number that is not finite.
    """
    lines = _entry_lines(snapshot.entries)
    header = _header(snapshot)
    header["sha256"] = _checksum(header, lines)
    body = ",\n".join(lines)
    return f'{{"header":{_canonical(header)},\n"entries":{{\n{body}\n}}}}\n'.encode()


def decode(data: bytes, *, path: str) -> Snapshot:
    """Return the snapshot in the bytes of a file.

    Args:
        data: What the file holds.
        path: The file, for the error.

    Returns:
        The snapshot, complete and unaltered.

    Raises:
        SnapshotCorrupt: Anything at all is wrong with it.
    """
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
        "format": FORMAT,
        "prefix": _spell_key(snapshot.prefix),
        "cluster_id": snapshot.cluster_id,
        "epoch": snapshot.epoch,
        "history": snapshot.history,
        "raft_term": snapshot.raft_term,
        "revision": snapshot.revision,
        "synced_at": None if synced_at is None else _spell_stamp(synced_at),
        "saved_at": _spell_stamp(snapshot.saved_at),
    }


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
    if (number := integer(root["header"].get("format"), "format")) != FORMAT:
        raise ValueError(f"its format is {number}, and only {FORMAT} is known here")
    told = _ORIGIN_NAMES & root["header"].keys()
    header = _read_record(root["header"], _HEADER_NAMES | (_ORIGIN_NAMES if told else set()), "the header")
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
