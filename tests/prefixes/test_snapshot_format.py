"""The snapshot's record, its order, and its encoding."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tideover.clock import Stamp
from tideover.epoch.rules import MAX_EPOCH
from tideover.errors import SnapshotCorrupt
from tideover.prefixes.snapshots.snapshot import Accepted, Snapshot, supersedes
from tideover.prefixes.snapshots.snapshot_format import decode, encode
from tideover.types import Entry

counters = st.integers(min_value=0, max_value=2**63 - 1)
seconds = st.floats(allow_nan=False, allow_infinity=False)
stamps = st.builds(Stamp, wall=seconds, boot=seconds, boot_id=st.sampled_from(["", "boot-a", "böot-b"]))
raw = st.one_of(st.binary(max_size=30), st.text(max_size=20).map(str.encode))
entries = st.builds(Entry, value=raw, create_revision=counters, mod_revision=counters)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    prefix = draw(raw)
    found = draw(st.dictionaries(raw.map(lambda rest: prefix + rest), entries, max_size=6))
    absent = draw(st.lists(raw.map(lambda rest: prefix + rest), max_size=3))
    label = Accepted(draw(st.text(max_size=9)), draw(st.text(max_size=9)), frozenset({*found, *absent}))
    return Snapshot(
        prefix=prefix,
        cluster_id=draw(st.integers(0, 2**64 - 1)),
        epoch=draw(st.integers(0, MAX_EPOCH)),
        raft_term=draw(counters),
        revision=draw(counters),
        synced_at=draw(st.none() | stamps),
        saved_at=draw(stamps),
        entries=found,
        accepted=draw(st.none() | st.just(label)),
    )


def make(*, revision: int = 9, epoch: int = 0, cluster_id: int = 1, synced_at: Stamp | None = None) -> Snapshot:
    return Snapshot(
        prefix=b"/config/",
        cluster_id=cluster_id,
        epoch=epoch,
        raft_term=3,
        revision=revision,
        synced_at=synced_at,
        saved_at=Stamp(1_700_000_000.5, 12.25, "boot-a"),
        entries={
            b"/config/rate": Entry(b"10", 7, 9),
            b"/config/name": Entry("Größe\n".encode(), 2, 2),
            b"/config/\xff": Entry(b"\x00\xff", 8, 8),
        },
    )


def make_accepted() -> Snapshot:
    keys = frozenset({b"/config/\xff", b"/config/absent", b"/config/db/", b"/config/name", b"/config/rate"})
    entries = {**make().entries, b"/config/db/host": Entry(b"a", 3, 3)}
    return replace(make(), entries=entries, accepted=Accepted("shop.Größe", "9f86d081884c7d65", keys))


def corrupt(data: bytes) -> str:
    with pytest.raises(SnapshotCorrupt) as caught:
        decode(data, path="/var/some.json")
    assert caught.value.path == "/var/some.json"
    assert "/var/some.json" in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None, "would keep the file's content alive"
    return str(caught.value)


def canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        errors="surrogatepass"
    )


def seal(document: Any) -> bytes:
    """Return the document as a file with a right checksum, computed independently of the code under test."""
    document["header"].pop("sha256", None)
    document["header"]["sha256"] = hashlib.sha256(canonical(document)).hexdigest()
    return canonical(document)


@given(snapshots())
@example(replace(make(), prefix=b"", entries={b"": Entry(b"", 0, 0)}))
@example(replace(make(), prefix=b"", entries={b"base64:": Entry(b"a", 1, 1), b"base64:/w==": Entry(b"b", 1, 1)}))
@example(replace(make(), prefix=b"", entries={b"\xff": Entry(b"a", 1, 1), b"base64:/w==": Entry(b"b", 1, 1)}))
@settings(deadline=None, max_examples=200)
def test_round_trip(snapshot: Snapshot) -> None:
    """Whatever etcd can hold comes back as it was, arbitrary bytes included."""
    assert decode(encode(snapshot), path="p") == snapshot


@given(snapshots())
@settings(deadline=None)
def test_checksum_is_over_canonical_json(snapshot: Snapshot) -> None:
    """Anybody can check the sum: it is over the canonical JSON of the document without the sum."""
    data = encode(snapshot)
    expected = json.loads(data)["header"]["sha256"]
    document = json.loads(data)
    assert json.loads(seal(document))["header"]["sha256"] == expected


def test_readable_by_an_operator() -> None:
    """Text is stored as text, one entry a line, ordered by key; other bytes are marked as base64."""
    lines = encode(make()).decode().splitlines()
    assert lines[0].startswith('{"header":{"cluster_id":1,"epoch":0,"format":1,"history":"","prefix":"/config/"')
    key = base64.b64encode(b"/config/\xff").decode()
    assert lines[1:] == [
        '"entries":{',
        '"/config/name":{"create_revision":2,"mod_revision":2,"value":"Größe\\n"},',
        '"/config/rate":{"create_revision":7,"mod_revision":9,"value":"10"},',
        f'"base64:{key}":{{"create_revision":8,"mod_revision":8,"value":{{"base64":"AP8="}}}}',
        "}}",
    ]


def test_endpoints_and_user_stand_in_the_header() -> None:
    """A snapshot says whose it is, under the checksum; one of an earlier version does not, and is read as well."""
    snapshot = replace(make(), endpoints=("10.0.0.1:2379", "10.0.0.2:2379"), user="größe")
    data = encode(snapshot)
    header = json.loads(data)["header"]
    assert (header["endpoints"], header["user"]) == (["10.0.0.1:2379", "10.0.0.2:2379"], "größe")
    assert decode(data, path="p") == snapshot
    assert "checksum" in corrupt(data.replace(b"10.0.0.2", b"10.0.0.3"))
    assert decode(encode(make()), path="p").endpoints == ()
    for name, bad in (("endpoints", "a:1"), ("endpoints", [1]), ("user", None)):
        document = json.loads(data)
        document["header"][name] = bad
        assert name in corrupt(seal(document))
    document = json.loads(data)
    del document["header"]["user"]
    assert "exactly the members" in corrupt(seal(document))


# What the version before wrote for `make()` with endpoints and a user.
BEFORE = (
    b'{"header":{"cluster_id":1,"endpoints":["a:1"],"epoch":0,"format":1,"history":"","prefix":"/config/",'
    b'"raft_term":3,"revision":9,"saved_at":{"boot":12.25,"boot_id":"boot-a","wall":1700000000.5},"sha256":'
    b'"f3d6bd71e807fd3f7410f2124be045a184561e8cc36561a7083b45cd026e3eaa","synced_at":null,"user":"u"},\n"entries":{\n'
    b'"/config/name":{"create_revision":2,"mod_revision":2,"value":"Gr\xc3\xb6\xc3\x9fe\\n"},\n'
    b'"/config/rate":{"create_revision":7,"mod_revision":9,"value":"10"},\n'
    b'"base64:L2NvbmZpZy//":{"create_revision":8,"mod_revision":8,"value":{"base64":"AP8="}}\n}}\n'
)


def test_a_raw_snapshot_is_what_the_version_before_wrote() -> None:
    """Raw snapshots are the very bytes of format 1, so each version starts from what the other has left."""
    snapshot = replace(make(), endpoints=("a:1",), user="u")
    assert encode(snapshot) == BEFORE
    assert decode(BEFORE, path="p") == snapshot


def test_an_accepted_snapshot_is_of_another_format() -> None:
    """An accepted snapshot names its class, its shape and all keys that it speaks of, absent ones too."""
    snapshot = make_accepted()
    data = encode(snapshot)
    document = json.loads(data)
    assert document["header"]["format"] == 2
    assert document["header"]["accepted"] == {
        "class": "shop.Größe",
        "keys": ["/config/absent", "/config/db/", "/config/name", "/config/rate", "base64:L2NvbmZpZy//"],
        "shape": "9f86d081884c7d65",
    }
    assert decode(data, path="p") == snapshot
    assert "accepted by shop.Größe" in repr(snapshot)


@pytest.mark.parametrize(
    "label",
    [
        None,
        {},
        {"class": "a", "keys": ["/config/name"]},
        {"class": "a", "keys": ["/config/name"], "shape": "b"},
        {"class": 1, "keys": [], "shape": "b"},
        {"class": "a", "keys": "/config/", "shape": "b"},
        {"class": "a", "keys": [1], "shape": "b"},
        {"class": "a", "keys": [], "shape": None},
        {"class": "a", "keys": [], "shape": "b", "more": 1},
    ],
)
def test_label_of_wrong_shape(label: object) -> None:
    """A label that is none, or that leaves an entry out, is refused although the checksum is right."""
    document = json.loads(encode(make_accepted()))
    document["header"]["accepted"] = label
    corrupt(seal(document))


def test_a_label_belongs_to_its_format() -> None:
    """A raw snapshot with a label, and an accepted one without, are refused."""
    for snapshot, number in ((make(), 2), (make_accepted(), 1)):
        document = json.loads(encode(snapshot))
        document["header"]["format"] = number
        assert "exactly the members" in corrupt(seal(document))


def test_equal_snapshots_have_equal_bytes() -> None:
    """The order in which the entries came does not matter."""
    snapshot = make()
    turned = replace(snapshot, entries=dict(reversed(list(snapshot.entries.items()))))
    assert encode(turned) == encode(snapshot)


@pytest.mark.parametrize("accepted", [None, Accepted("shop.Pool", "9f", frozenset(make().entries))])
def test_every_changed_byte_is_found(accepted: Accepted | None) -> None:
    """No change of a single byte of a file yields another snapshot: it is refused, or it means the same."""
    snapshot = replace(make(synced_at=Stamp(1_700_000_000.0, 11.0, "boot-a")), accepted=accepted)
    data = encode(snapshot)
    harmless = 0
    for position in range(len(data)):
        for mask in (0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= mask
            try:
                found = decode(bytes(damaged), path="p")
            except SnapshotCorrupt:
                continue
            assert found == snapshot
            harmless += 1
    assert harmless < 20, "only white space may change"


def test_every_truncation_is_found() -> None:
    """A file cut off anywhere is refused, save that the final newline may be missing."""
    data = encode(make())
    for length in range(len(data) - 1):
        corrupt(data[:length])
    assert decode(data[:-1], path="p") == make()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 4096,
        b"null",
        b"[]",
        b"{}",
        b"1" * 5000,
        b'{"header":1,"entries":{}}',
        b'{"header":{},"entries":{}}',
        b'{"header":{"format":2},"entries":{}}',
        b'{"header":{"format":3},"entries":{}}',
        b'{"header":{"format":true},"entries":{}}',
        b'{"header":{"format":NaN},"entries":{}}',
        b"[" * 200_000,
        b'{"header":' * 200_000,
        encode(make()) + b"{}",
        encode(make()) * 2,
        encode(make()) + b"\x00",
        b"\xef\xbb\xbf" + encode(make()),
        encode(make()).decode().encode("utf-16"),
        encode(make()).replace(b'"epoch":0', b'"epoch":0,"epoch":0'),
        encode(make()).replace(b'"/config/rate"', b'"/config/name"'),
    ],
    ids=lambda data: repr(data[:24]),
)
def test_not_a_snapshot(data: bytes) -> None:
    """What is not one whole snapshot is refused as corrupt, whatever it is."""
    corrupt(data)


def test_other_format_is_named() -> None:
    """A file of a later version is refused with its format, not as a failed checksum."""
    assert "format is 3" in corrupt(seal({"header": {"format": 3, "new": 1}, "entries": {}}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prefix", None),
        ("prefix", "/other/"),
        ("prefix", "base64:?"),
        ("prefix", "\ud800"),
        ("cluster_id", True),
        ("epoch", -1),
        ("raft_term", 1.0),
        ("revision", "9"),
        ("revision", None),
        ("synced_at", {}),
        ("synced_at", {"wall": 1.0, "boot": 1.0, "boot_id": 5}),
        ("saved_at", None),
        ("saved_at", {"wall": 10**400, "boot": 1.0, "boot_id": ""}),
        ("saved_at", {"wall": True, "boot": 1.0, "boot_id": ""}),
        ("saved_at", {"wall": 1.0, "boot": 1.0, "boot_id": "", "more": 1}),
        ("unknown", 1),
    ],
)
def test_header_of_wrong_shape(name: str, value: object) -> None:
    """A header field of the wrong type or range is refused although the checksum is right."""
    document = json.loads(encode(make()))
    document["header"][name] = value
    corrupt(seal(document))


@pytest.mark.parametrize(
    "text", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"], ids=lambda text: str(text)
)
def test_numbers_that_are_none(text: bytes) -> None:
    """NaN and infinity are refused: an age computed from them would be nonsense."""
    data = encode(make())
    assert data.count(b"12.25") == 1
    message = corrupt(data.replace(b"12.25", text))
    assert "number" in message


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {},
        {"value": "a", "create_revision": 1},
        {"value": "a", "create_revision": 1, "mod_revision": True},
        {"value": 1, "create_revision": 1, "mod_revision": 1},
        {"value": None, "create_revision": 1, "mod_revision": 1},
        {"value": {"base64": "?"}, "create_revision": 1, "mod_revision": 1},
        {"value": {"base64": "AA==", "x": 1}, "create_revision": 1, "mod_revision": 1},
        {"value": "\udc80", "create_revision": 1, "mod_revision": 1},
        {"value": "a", "create_revision": 1, "mod_revision": 1, "lease": 1},
    ],
)
def test_entry_of_wrong_shape(entry: object) -> None:
    """An entry of the wrong shape is refused although the checksum is right."""
    document = json.loads(encode(make()))
    document["entries"]["/config/rate"] = entry
    corrupt(seal(document))


def test_one_key_in_two_spellings() -> None:
    """A key that occurs as text and as base64 is refused: which one would hold?"""
    document = json.loads(encode(make()))
    spelled = "base64:" + base64.b64encode(b"/config/rate").decode()
    document["entries"][spelled] = document["entries"]["/config/rate"]
    assert "twice" in corrupt(seal(document))


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=300)
def test_arbitrary_bytes(data: bytes) -> None:
    """Arbitrary bytes are refused with `SnapshotCorrupt` and no other exception."""
    corrupt(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_arbitrary_json_at_any_place(data: st.DataObject) -> None:
    """Any JSON in place of any part, under a right checksum, is refused or means what is written."""
    document = json.loads(encode(make(synced_at=Stamp(1.0, 1.0, ""))))
    node = document
    while True:
        name = data.draw(st.sampled_from(sorted(node)))
        if not isinstance(node[name], dict) or data.draw(st.booleans()):
            break
        node = node[name]
    node[name] = data.draw(json_values)
    try:
        sealed = seal(document) if isinstance(document["header"], dict) else canonical(document)
    except ValueError:
        return
    try:
        found = decode(sealed, path="p")
    except SnapshotCorrupt:
        return
    assert json.loads(encode(found)) == document


def test_reason_does_not_quote_values() -> None:
    """The reason goes into logs, so it does not contain the values, which may be secret."""
    document = json.loads(encode(make()))
    document["entries"]["/config/rate"]["value"] = ["hunter2"]
    assert "hunter2" not in corrupt(seal(document))
    document["entries"]["/config/rate"]["value"] = "hunter2"
    assert "hunter2" not in corrupt(canonical(document))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_encode_refuses_what_decode_would(number: float) -> None:
    """A stamp that is not finite never reaches the disk."""
    with pytest.raises(ValueError, match="JSON"):
        encode(replace(make(), saved_at=Stamp(number, 1.0, "")))


def test_constructor_refuses_contradictions() -> None:
    """Negative counters and keys outside the prefix are mistakes of the caller."""
    with pytest.raises(ValueError, match="revision must not be negative, not -1"):
        make(revision=-1)
    with pytest.raises(ValueError, match="outside the prefix b'/config/'"):
        replace(make(), entries={b"/conf": Entry(b"", 1, 1)})
    with pytest.raises(ValueError, match="does not speak of"):
        replace(make(), accepted=Accepted("a", "b", frozenset({b"/config/rate"})))
    with pytest.raises(ValueError, match="outside the prefix b'/config/'"):
        replace(make(), entries={}, accepted=Accepted("a", "b", frozenset({b"/conf"})))


def test_repr_is_one_line_without_values() -> None:
    """The representation names the snapshot and counts its entries, and shows no value."""
    snapshot = replace(make(), entries={b"/config/password": Entry(b"hunter2\n", 1, 1)})
    assert repr(snapshot) == "<Snapshot prefix=b'/config/' cluster_id=1 epoch=0 revision=9 entries=1>"


EARLY = Stamp(wall=1000.0, boot=10.0, boot_id="a")
LATE = Stamp(wall=900.0, boot=20.0, boot_id="a")  # the wall clock was set back in between
OTHER_BOOT = Stamp(wall=1001.0, boot=5.0, boot_id="b")


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (make(revision=10), make(revision=9), True),
        (make(revision=9), make(revision=10), False),
        (make(revision=9), make(revision=9), False),
        (make(revision=10), make(revision=9, synced_at=EARLY), True),
        (make(revision=9, synced_at=LATE), make(revision=10), False),
        (make(revision=5, epoch=1), make(revision=9), True),
        (make(revision=9), make(revision=5, epoch=1), False),
        (make(synced_at=EARLY), make(), True),
        (make(), make(synced_at=EARLY), False),
        (make(synced_at=LATE), make(synced_at=EARLY), True),
        (make(synced_at=EARLY), make(synced_at=LATE), False),
        (make(synced_at=OTHER_BOOT), make(synced_at=EARLY), True),
        (make(synced_at=EARLY), make(synced_at=OTHER_BOOT), False),
        (make(revision=99, cluster_id=2), make(revision=9), False),
        (make(revision=1, cluster_id=2, epoch=1), make(revision=9), True),
    ],
)
def test_order(ours: Snapshot, theirs: Snapshot, expected: bool) -> None:
    """The higher (epoch, revision) wins, then the later proof; another cluster wins by its epoch only."""
    assert supersedes(ours, theirs) is expected


@given(snapshots(), snapshots())
@settings(deadline=None)
def test_order_is_strict(one: Snapshot, other: Snapshot) -> None:
    """No two snapshots replace each other in turn, and none replaces itself."""
    assert not supersedes(one, one)
    assert not (supersedes(one, other) and supersedes(other, one))


def test_many_keys() -> None:
    """A hundred thousand keys survive the round trip."""
    many = {b"/config/service/key-%06d" % number: Entry(b"value", number, number) for number in range(100_000)}
    snapshot = replace(make(), entries=many)
    assert decode(encode(snapshot), path="p") == snapshot
