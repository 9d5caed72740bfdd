"""Sealed snapshots: what opens, what is told of, and that nothing that cannot be used is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.canaries import canary
from tests.prefixes.snapshots import PREFIX, make
from tests.test_encryption import new_key
from tideover.encryption import Encryption, KeysUnusable
from tideover.errors import SnapshotCorrupt, SnapshotSealed
from tideover.prefixes.snapshots import sealing
from tideover.prefixes.snapshots.sealing import _PIECE
from tideover.prefixes.snapshots.snapshot import Accepted, Snapshot
from tideover.prefixes.snapshots.snapshot_file import MOST_ASIDE, Loaded, SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.prefixes.snapshots.snapshot_reading import read
from tideover.types import Entry

OLD, NEW, OTHER = (Encryption(new_key()) for _ in range(3))


def open_file(
    folder: Path,
    encryption: Encryption | None = NEW,
    *,
    namespace: str = "/shop",
    endpoints: Sequence[str] = ("a:1",),
) -> SnapshotFile:
    """Return the file of a prefix."""
    return SnapshotFile(folder, SnapshotOwner(namespace, endpoints), prefix=PREFIX, encryption=encryption)


def ours(revision: int, *, endpoints: tuple[str, ...] = ("a:1",), cluster_id: int = 1) -> Snapshot:
    """Return a snapshot of this cluster, with a value that nobody else may see."""
    secret = {PREFIX + b"password": Entry(canary("value").encode(), 1, 1)}
    return replace(make(revision, cluster_id=cluster_id), entries=secret, endpoints=endpoints)


def rejected(file: SnapshotFile) -> str:
    """Return why a file cannot be used; there is nothing else to use."""
    loaded = file.load()
    assert loaded is not None
    assert loaded.snapshot is None
    return str(loaded.rejected[0])


def contents(folder: Path) -> set[bytes]:
    """Return what all snapshots hold, under whatever name."""
    return {path.read_bytes() for path in folder.glob("config-*") if path.suffix != ".lock"}


def test_what_was_sealed_is_loaded_and_nothing_of_it_is_in_the_clear(tmp_path: Path) -> None:
    """Keys and values, endpoints and user are hidden; namespace, cluster and revision stand in the envelope."""
    file = open_file(tmp_path)
    snapshot = replace(ours(0x1234, cluster_id=0xABC), user="shopkeeper")
    file.owner = replace(file.owner, user="shopkeeper")
    assert file.save(snapshot)
    assert file.load() == Loaded(snapshot, file.path, ())
    data = file.path.read_bytes()
    assert json.loads(data).keys() == {"sealed", "key", "namespace", "cluster", "revision", "pieces"}
    assert data.startswith(
        b'{"sealed":1,"key":"%s","namespace":"/shop","cluster":"abc","revision":4660,'
        % (NEW.ring().names[0].encode())
    )
    for hidden in (b"password", b"a:1", b"shopkeeper"):
        assert hidden not in data
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_large_snapshots_are_sealed_in_pieces(tmp_path: Path) -> None:
    """Pieces that are left out, doubled or in another order are told of."""
    file = open_file(tmp_path)
    file.save(replace(ours(5), entries={PREFIX + b"a": Entry(b"x" * (2 * _PIECE), 1, 1)}))
    document = json.loads(file.path.read_bytes())
    pieces = document["pieces"]
    assert len(pieces) == 3
    assert file.load() is not None
    for wrong in (pieces[:2], pieces[::-1], [*pieces, pieces[0]], [pieces[0]] * 3):
        file.path.write_text(json.dumps({**document, "pieces": wrong}, separators=(",", ":")))
        assert "belongs to another cluster, namespace, revision or place" in rejected(file)


def test_rotation(tmp_path: Path) -> None:
    """With both keys the old file is read and the next one is of the new key; then the old key is not needed."""
    old, new = new_key(), new_key()
    open_file(tmp_path, Encryption(old)).save(ours(5))
    both = open_file(tmp_path, Encryption([new, old]))
    assert both.load() == Loaded(ours(5), both.path, ())
    assert both.save(ours(6))
    assert not both.aside
    alone = open_file(tmp_path, Encryption(new))
    assert alone.load() == Loaded(ours(6), alone.path, ())


def tamper_with_a_piece(path: Path) -> None:
    """Alter the sealed bytes, somewhere in the middle."""
    document = json.loads(path.read_bytes())
    piece = document["pieces"][0]
    middle = len(piece) // 2
    document["pieces"][0] = piece[:middle] + ("A" if piece[middle] != "A" else "B") + piece[middle + 1 :]
    path.write_text(json.dumps(document, separators=(",", ":")))


def tamper_with(path: Path, **changed: object) -> None:
    """Alter the envelope."""
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changed}, separators=(",", ":")))


BAD = {
    "another key": "and the keys here are",
    "a forgotten key": "and the keys here are",
    "altered": "it was altered after it was encrypted",
    "altered revision": "it was altered: a part of it belongs to another",
    "altered cluster": "it was altered: a part of it belongs to another",
    "another cluster": "is of the cluster at b:2, not of the cluster at a:1",
    "another namespace": "is of the namespace '/other', not of '/shop'",
    "damaged": "is damaged",
    "torn": "is damaged",
}


def put_in_place(kind: str, path: Path, folder: Path) -> None:
    """Put a file that cannot be used in the place of a good one."""
    made = {
        "another key": open_file(folder, OTHER),
        "a forgotten key": open_file(folder, OLD),
        "another cluster": open_file(folder, endpoints=("b:2",)),
        "another namespace": open_file(folder, namespace="/other"),
    }.get(kind, open_file(folder))
    made.save(ours(99, endpoints=tuple(made.owner.endpoints)))
    if kind == "altered":
        tamper_with_a_piece(made.path)
    elif kind == "altered revision":
        tamper_with(made.path, revision=100)
    elif kind == "altered cluster":
        tamper_with(made.path, cluster="2")
    elif kind == "damaged":
        made.path.write_bytes(b"[" + made.path.read_bytes()[1:])
    elif kind == "torn":
        made.path.write_bytes(made.path.read_bytes()[:-100])
    made.path.replace(path)


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_used_is_told_of_and_never_lost(tmp_path: Path, kind: str) -> None:
    """Each kind is rejected in words of its own; a save keeps the file under another name, byte for byte."""
    file = open_file(tmp_path / "cache")
    file.folder.mkdir()
    put_in_place(kind, file.path, tmp_path / "elsewhere")
    before = file.path.read_bytes()
    assert BAD[kind] in rejected(file)
    assert file.path.read_bytes() == before, "reading leaves it where it is"
    assert file.save(ours(5))
    loaded = file.load()
    assert loaded == Loaded(ours(5), file.path, ())
    (aside,) = file.aside
    assert aside.path.read_bytes() == before
    assert aside.path.parent == file.folder
    assert BAD[kind] in str(aside.why)
    file.save(ours(6))
    file.save(ours(7))
    assert before in contents(file.folder)


def test_both_generations_of_a_lost_key_are_kept(tmp_path: Path) -> None:
    """Neither the newest one nor the one before it is replaced by what the new key writes."""
    before = open_file(tmp_path, OLD)
    before.save(ours(5))
    before.save(ours(6))
    kept = contents(tmp_path)
    file = open_file(tmp_path)
    for revision in range(1, 6):
        assert file.save(ours(revision))
    assert kept < contents(tmp_path)
    assert len(file.aside) == 2
    found = [read(each.path, OLD).revision for each in file.aside]
    assert found == [6, 5], "and the old key opens them"


def test_a_generation_before_that_opens_is_used(tmp_path: Path) -> None:
    """If only the newest was tampered with, the one before it is used, and stays the generation before."""
    file = open_file(tmp_path)
    file.save(ours(5))
    file.save(ours(6))
    tamper_with_a_piece(file.path)
    loaded = file.load()
    assert loaded is not None
    assert (loaded.snapshot, loaded.path, len(loaded.rejected)) == (ours(5), file.previous_path, 1)
    file.save(ours(7))
    assert [each.path.name for each in file.aside] == [f"{file.path.name}.aside-1"]
    assert read(file.previous_path, NEW).revision == 5


def test_processes_with_different_keys_do_not_fill_the_disk(tmp_path: Path) -> None:
    """Each puts the other's file aside; when all places are taken, nothing is written, and none goes."""
    one, other = open_file(tmp_path, OLD), open_file(tmp_path, NEW)
    written: set[bytes] = set()
    with pytest.raises(OSError, match="4 files that cannot be used are beside it"):
        for revision in range(1, 20):
            for file in (one, other):
                file.save(ours(revision))
                written.add(file.path.read_bytes())
    assert len(contents(tmp_path)) == MOST_ASIDE + 1
    assert written == contents(tmp_path)


def test_plain_files_are_not_used_and_go(tmp_path: Path) -> None:
    """With keys a file in the clear could be anybody's; the first sealed one leaves nothing of it behind."""
    plain = open_file(tmp_path, None)
    plain.save(replace(make(5), endpoints=("a:1",)))
    plain.save(replace(make(6), endpoints=("a:1",)))
    file = open_file(tmp_path)
    assert "is not encrypted, and only encrypted ones are used" in rejected(file)
    loaded = file.load()
    assert loaded is not None
    assert all(isinstance(each, SnapshotSealed) for each in loaded.rejected)
    assert file.save(ours(3))
    assert [path.name for path in tmp_path.glob("config-*.json*")] == [file.path.name]
    assert not file.aside


def test_sealed_files_stay_where_there_are_no_keys(tmp_path: Path) -> None:
    """Without keys a sealed file is told of, and nothing is written in the clear in its place, asked or not."""
    open_file(tmp_path).save(ours(5))
    before, plain = contents(tmp_path), open_file(tmp_path, None)
    assert "it is encrypted with key" in rejected(plain)
    assert "no keys are given" in rejected(plain)
    for unasked in (True, False):
        with pytest.raises(SnapshotSealed, match="no keys are given"):
            plain.save(make(9), unasked=unasked)
    assert contents(tmp_path) == before


def test_without_keys_nothing_is_written(tmp_path: Path) -> None:
    """A key file that is missing rejects what is there, and lets nothing be written: least of all in the clear."""
    open_file(tmp_path / "cache").save(ours(5))
    before = contents(tmp_path / "cache")
    file = open_file(tmp_path / "cache", Encryption(tmp_path / "keys"))
    assert "there are no keys: the key file cannot be read" in rejected(file)
    with pytest.raises(KeysUnusable, match="the key file cannot be read"):
        file.save(ours(9))
    assert contents(tmp_path / "cache") == before
    empty = open_file(tmp_path / "empty", Encryption(tmp_path / "keys"))
    with pytest.raises(KeysUnusable):
        empty.save(ours(9))
    assert not contents(tmp_path / "empty")


def test_a_plain_copy_from_another_cluster_is_not_used(tmp_path: Path) -> None:
    """Without any keys, too, a file says whose it is; one of an earlier version, which does not, is used."""
    file = open_file(tmp_path / "a", None)
    elsewhere = open_file(tmp_path / "b", None, endpoints=("b:2",))
    file.save(make(1))
    assert file.load() == Loaded(make(1), file.path, ())
    elsewhere.save(replace(make(9), endpoints=("b:2",)))
    file.path.write_bytes(elsewhere.path.read_bytes())
    assert "is of the cluster at b:2, not of the cluster at a:1" in rejected(file)
    before = file.path.read_bytes()
    assert file.save(make(2))
    assert before in contents(tmp_path / "a")


def test_a_byte_more_or_less_or_other_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sealed file has one spelling: also what JSON and Fernet read over, such as a blank, is an alteration."""
    monkeypatch.setattr(sealing, "_PIECE", 256)
    file = open_file(tmp_path)
    file.save(ours(5))
    data = file.path.read_bytes()
    assert len(json.loads(data)["pieces"]) > 1
    head = data.index(b"gAAAA")
    second = data.index(b'",\n"', head)
    places = [*range(0, head + 4, 2), *range(head + 4, second, 131), *range(second - 2, second + 8)]
    for at in (*places, *range(len(data) - 6, len(data))):
        put_in = [data[:at] + extra + data[at:] for extra in (b" ", b"'", b"!", b"\\n", b"=", b"\xc3\xa9")]
        other = data[:at] + bytes([data[at] ^ 0x04]) + data[at + 1 :]
        for altered in (*put_in, other, data[:at] + data[at + 1 :], data[:at]):
            file.path.write_bytes(altered)
            with pytest.raises(SnapshotCorrupt):
                read(file.path, NEW, namespace="/shop")
    for altered in (data + b"\n", b"\xef\xbb\xbf" + data, data.replace(b"\n", b"\r\n"), data + data, data * 2):
        file.path.write_bytes(altered)
        with pytest.raises(SnapshotCorrupt):
            read(file.path, NEW, namespace="/shop")


def test_a_sealed_generation_before_a_plain_one_is_kept(tmp_path: Path) -> None:
    """What no key opens is put aside also where a plain file stands before it; what a key opens stays."""
    for folder, encryption, kept in ((tmp_path / "a", OTHER, 1), (tmp_path / "b", NEW, 0)):
        sealed, plain = open_file(folder, encryption), open_file(folder, None)
        sealed.save(ours(5))
        before = sealed.path.read_bytes()
        sealed.path.replace(sealed.previous_path)
        plain.save(ours(6))
        file = open_file(folder)
        assert file.save(ours(7))
        assert len(file.aside) == kept
        assert before in contents(folder)
        assert len(contents(folder)) == 2


def test_another_kind_of_snapshot_is_not_used(tmp_path: Path) -> None:
    """What a class has accepted is neither all there is nor another class's; a copy is told of, and kept."""

    def accepted(form: str) -> tuple[SnapshotFile, Snapshot]:
        made = replace(ours(5), accepted=Accepted(form, "s", frozenset({PREFIX + b"password"})))
        kind = SnapshotFile(
            tmp_path, SnapshotOwner("/shop", ("a:1",)), prefix=PREFIX, encryption=NEW, accepted=(form, "s")
        )
        return kind, made

    raw = open_file(tmp_path), ours(6)
    for (source, snapshot), (target, newer), why in (
        (accepted("shop.A"), raw, "is what shop.A in shape s has accepted, not the newest state"),
        (raw, accepted("shop.A"), "is the newest state, not what shop.A in shape s has accepted"),
        (
            accepted("shop.A"),
            accepted("shop.B"),
            "is what shop.A in shape s has accepted, not what shop.B in shape",
        ),
    ):
        source.save(snapshot, unasked=False)
        source.path.replace(target.path)
        assert why in rejected(target)
        assert target.save(newer)
        assert [each.path.name for each in target.aside] == [f"{target.path.name}.aside-1"]
        for path in tmp_path.iterdir():
            path.unlink()


def test_what_cannot_be_used_is_not_removed_either(tmp_path: Path) -> None:
    """Where a snapshot has to go, as one with a key that is now excluded, what no key opens stays."""
    file = open_file(tmp_path)
    file.save(ours(5))
    file.save(ours(6))
    tamper_with_a_piece(file.path)
    file.remove()
    assert [path.name for path in tmp_path.glob("config-*.json")] == [file.path.name]
