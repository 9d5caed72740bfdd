"""The snapshot's file: generations, merging, permissions, and what crashes and crowds may not do to it."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import re
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

from tests.prefixes.snapshots import PREFIX, make, open_file
from tideover.clock import Stamp
from tideover.errors import SnapshotCorrupt
from tideover.paths import default_folder, snapshot_paths
from tideover.prefixes.snapshots import snapshot_file, snapshot_reading
from tideover.prefixes.snapshots.snapshot import Accepted, Snapshot
from tideover.prefixes.snapshots.snapshot_file import Loaded, SnapshotFile
from tideover.prefixes.snapshots.snapshot_format import decode, encode
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner


def revision_of(loaded: Loaded | None) -> int:
    """Return the revision of a snapshot that must be there, without anything rejected."""
    assert loaded is not None
    assert loaded.rejected == ()
    assert loaded.snapshot is not None
    return loaded.snapshot.revision


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x01
    path.write_bytes(data)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# What child processes have in common. There are a hundred of them; to import pytest would take most of it.
PRELUDE = f"""
import os, resource, sys, threading, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from snapshots import *
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def run(code: str, *arguments: object) -> str:
    child = start(code, *arguments)
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return output.strip()


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that also another user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


# Identity


def test_name_depends_on_everything_that_changes_what_is_seen(tmp_path: Path) -> None:
    """Another namespace, prefix, cluster or user has another file; the order of endpoints does not matter."""

    def stem(namespace: str, prefix: bytes, endpoints: list[str], user: str) -> str:
        return SnapshotFile(tmp_path, SnapshotOwner(namespace, endpoints, user), prefix=prefix).path.name

    base = stem("ns", b"/p/", ["a", "b"], "u")
    assert base == stem("ns", b"/p/", ["b", "a", "b"], "u")
    others = [
        stem("n", b"s/p/", ["a", "b"], "u"),
        stem("ns", b"/p", ["a", "b"], "u"),
        stem("ns", b"/p/", ["a"], "u"),
        stem("ns", b"/p/", ["a,b"], "u"),
        stem("ns", b"/p/", ["a", "b"], ""),
        stem("ns", b"/p/", ["a", "b", "u"], ""),
    ]
    assert len({base, *others}) == 7
    assert base.startswith("config-")
    assert len(base) == len("config-") + 32 + len(".json")


def test_the_name_of_an_accepted_snapshot_says_what_has_accepted_it(tmp_path: Path) -> None:
    """Class, shape and prefix have a file each; a start finds those of one user and no others."""

    def file(form: str, shape: str, prefix: bytes = PREFIX, user: str = "u") -> SnapshotFile:
        return SnapshotFile(tmp_path, SnapshotOwner("ns", ["b", "a"], user), prefix=prefix, accepted=(form, shape))

    found = [file("a.B", "1"), file("a.B", "2"), file("a.C", "1"), file("a.B", "1", b"/config/x/")]
    raw = SnapshotFile(tmp_path, SnapshotOwner("ns", ["a", "b"], "u"), prefix=PREFIX)
    for each in (*found, file("a.B", "1", user="v"), raw):
        label = None if each is raw else Accepted("a.B", "1", frozenset())
        for revision in (1, 2):
            assert each.save(replace(make(revision, prefix=each.prefix, keys=0), accepted=label))
    paths = SnapshotOwner("ns", ["a", "b"], "u").accepted_paths(tmp_path)
    assert paths == sorted(path for each in found for path in (each.path, each.previous_path))
    assert len(snapshot_paths(tmp_path)) == 12
    assert SnapshotOwner("ns", ["a", "b"], "u").accepted_paths(tmp_path / "missing") == []


def former(tmp_path: Path, *revisions: int) -> tuple[SnapshotFile, SnapshotFile]:
    """Return a service's file, and the same under the name it once had, in which these have been saved."""
    old = SnapshotFile(tmp_path, SnapshotOwner("", ["a"]), prefix=PREFIX)
    for revision in revisions:
        old.save(make(revision))
    new = SnapshotFile(tmp_path, SnapshotOwner("", ["a"]), prefix=PREFIX, component="discovery")
    return new, old


def test_the_name_begins_with_whose_it_is(tmp_path: Path) -> None:
    """A service's snapshot is named after discovery, the configuration's as ever."""
    new, old = former(tmp_path)
    assert new.path.name == old.path.name.replace("config-", "discovery-")


def test_a_former_name_is_read_and_given_up(tmp_path: Path) -> None:
    """What an earlier version has saved under the former name is read; the next save leaves that name behind."""
    new, old = former(tmp_path, 5, 6)
    assert revision_of(new.load()) == 6
    assert new.save(make(7))
    assert (revision_of(new.load()), new.previous_path.exists()) == (7, True)
    assert decode(new.previous_path.read_bytes(), path="").revision == 6
    assert not old.path.exists()
    assert not old.previous_path.exists()


def test_a_former_name_with_something_newer_is_not_overwritten(tmp_path: Path) -> None:
    """An older snapshot replaces no newer one, also if that one bears the former name."""
    new, old = former(tmp_path, 9)
    assert not new.save(make(7))
    assert (revision_of(new.load()), old.path.exists()) == (9, False)


def test_a_former_name_beside_the_own_is_removed(tmp_path: Path) -> None:
    """Where an earlier version still runs beside this one, its file is not read and goes with the next save."""
    new, old = former(tmp_path, 5)
    new.save(make(7))
    old.save(make(6))
    assert revision_of(new.load()) == 7
    new.save(make(8))
    assert not old.path.exists()


def test_a_damaged_former_name_gives_the_generation_before(tmp_path: Path) -> None:
    """Under the former name, too, the previous generation is used if the newest is damaged, and that is said."""
    new, old = former(tmp_path, 5, 6)
    old.path.write_bytes(b"{")
    loaded = new.load()
    assert loaded is not None
    assert loaded.snapshot is not None
    assert (loaded.snapshot.revision, [each.path for each in loaded.rejected]) == (5, [str(old.path)])


def test_paths(tmp_path: Path) -> None:
    """The three files lie side by side, and the representation names the first."""
    file = open_file(tmp_path)
    stem = file.path.name.removesuffix(".json")
    assert file.previous_path == tmp_path / f"{stem}.prev.json"
    assert file.lock_path == tmp_path / f"{stem}.lock"
    assert repr(file) == f"<SnapshotFile prefix=b'/config/' path='{file.path}'>"


def test_constructor_refuses_mistakes(tmp_path: Path) -> None:
    """A bare string of endpoints and a lock timeout that cannot work are refused at once."""
    with pytest.raises(ValueError, match="not the string 'http://a'"):
        SnapshotFile(tmp_path, SnapshotOwner("", "http://a"), prefix=b"")
    for timeout in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="lock_timeout"):
            open_file(tmp_path, lock_timeout=timeout)


def test_relative_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later change of the working directory does not move the file."""
    monkeypatch.chdir(tmp_path)
    file = open_file(Path("cache"))
    monkeypatch.chdir("/")
    assert file.path.parent == tmp_path / "cache"


def test_default_folder_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is tideover's own folder in the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = default_folder()
    assert folder.is_absolute()
    assert "tideover" in folder.name


# Loading


def test_nothing_saved(tmp_path: Path) -> None:
    """A missing file and a missing folder both mean: nothing was ever saved."""
    assert open_file(tmp_path).load() is None
    assert open_file(tmp_path / "missing" / "deep").load() is None
    assert names(tmp_path) == set(), "loading creates nothing"


def test_load_what_was_saved(tmp_path: Path) -> None:
    """What was saved is loaded, and its path is told."""
    file = open_file(tmp_path)
    assert file.save(make(5))
    assert file.load() == Loaded(make(5), file.path, ())


def test_damaged_newest_falls_back(tmp_path: Path) -> None:
    """With the newest damaged, the previous generation is used and the damage is reported."""
    file = open_file(tmp_path)
    file.save(make(5))
    file.save(make(6))
    damage(file.path)
    loaded = file.load()
    assert loaded is not None
    assert (loaded.snapshot, loaded.path) == (make(5), file.previous_path)
    assert [error.path for error in loaded.rejected] == [str(file.path)]


def test_missing_newest_falls_back(tmp_path: Path) -> None:
    """With the newest missing, the previous generation is used."""
    file = open_file(tmp_path)
    file.save(make(5))
    file.save(make(6))
    file.path.unlink()
    assert revision_of(file.load()) == 5


def test_both_damaged(tmp_path: Path) -> None:
    """With both damaged there is no snapshot, but both reasons, newest first: not the same as never saved."""
    file = open_file(tmp_path)
    file.save(make(5))
    file.save(make(6))
    damage(file.path)
    damage(file.previous_path)
    loaded = file.load()
    assert loaded is not None
    assert (loaded.snapshot, loaded.path) == (None, None)
    assert [error.path for error in loaded.rejected] == [str(file.path), str(file.previous_path)]
    assert all(error.__traceback__ is None for error in loaded.rejected)


def test_empty_file_is_damaged(tmp_path: Path) -> None:
    """A file of no bytes, the usual trace of a crash elsewhere, is not an empty configuration."""
    file = open_file(tmp_path)
    file.path.touch()
    loaded = file.load()
    assert loaded is not None
    assert loaded.snapshot is None
    assert len(loaded.rejected) == 1


def test_other_prefix_is_rejected(tmp_path: Path) -> None:
    """A whole snapshot of another prefix, copied here by hand, is not ours."""
    file = open_file(tmp_path)
    file.path.write_bytes(encode(make(5, prefix=b"/other/")))
    loaded = file.load()
    assert loaded is not None
    assert loaded.snapshot is None
    assert "b'/other/'" in str(loaded.rejected[0])


@pytest.mark.parametrize("obstacle", ["folder", "below a file"])
def test_unreadable_is_rejected(tmp_path: Path, obstacle: str) -> None:
    """What cannot be read is rejected with the system's reason; loading raises nothing."""
    folder = tmp_path / "place"
    file = open_file(folder)
    if obstacle == "folder":
        file.path.mkdir(parents=True)
    else:
        folder.touch()
    loaded = file.load()
    assert loaded is not None
    assert loaded.snapshot is None
    assert "cannot be read" in str(loaded.rejected[0])
    assert isinstance(loaded.rejected[0], SnapshotCorrupt)


AS_NOBODY = """
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
file = open_file(Path(sys.argv[1]))
loaded = file.load()
print(loaded.snapshot and loaded.snapshot.revision, *loaded.rejected, sep="; ")
try:
    print(file.save(make(7)))
except OSError as exc:
    print(type(exc).__name__)
"""


def test_read_only_folder(public_folder: Path) -> None:
    """A read-only folder can be loaded from; saving fails with an OSError and changes nothing."""
    file = open_file(public_folder)
    file.save(make(5))
    file.path.chmod(0o444)
    before = names(public_folder)
    public_folder.chmod(0o555)
    try:
        assert run(AS_NOBODY, public_folder).splitlines() == ["5", "PermissionError"]
    finally:
        public_folder.chmod(0o755)
    assert names(public_folder) == before
    assert revision_of(file.load()) == 5


def test_file_of_another_user(public_folder: Path) -> None:
    """A file without permission to read it is rejected by name, and replaced if the folder allows it.

    Who owns neither the file nor the folder has then written it: nobody else takes that for a snapshot.
    """
    file = open_file(public_folder)
    file.save(make(5))
    file.path.chmod(0o000)
    file.lock_path.chmod(0o666)
    public_folder.chmod(0o777)
    first, second = run(AS_NOBODY, public_folder).splitlines()
    assert first == f"None; snapshot {file.path} cannot be read: Permission denied"
    assert second == "True"
    loaded = file.load()
    assert loaded is not None
    assert loaded.snapshot is None
    assert [str(why) for why in loaded.rejected] == [
        f"snapshot {file.path} cannot be read: it belongs to another user"
    ]
    assert not file.previous_path.exists()
    os.chown(public_folder, file.path.stat().st_uid, -1)
    assert revision_of(file.load()) == 7


def test_without_hard_links(public_folder: Path) -> None:
    """Where hard links fail, the previous generation is kept by a rename."""
    if os.geteuid() != 0 or Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "1":
        pytest.skip("needs root and a kernel that refuses links to other users' files")
    file = open_file(public_folder)
    file.save(make(5))
    file.path.chmod(0o444)
    file.lock_path.chmod(0o666)
    public_folder.chmod(0o777)
    assert run(AS_NOBODY, public_folder).splitlines() == ["5", "True"]
    loaded = file.load()
    assert loaded is not None
    assert loaded.snapshot == make(5)
    assert len(names(public_folder)) == 3


def test_what_is_no_file_is_rejected_at_once(tmp_path: Path) -> None:
    """A FIFO, a link to a device without an end, a link to a good file: each is named, and the one before is used.

    The next snapshot takes its place.
    """
    elsewhere = tmp_path / "elsewhere"
    for number, make_odd in enumerate((os.mkfifo, link("/dev/zero"), link(elsewhere))):
        file = open_file(tmp_path / str(number))
        file.save(make(5))
        file.save(make(6))
        elsewhere.write_bytes(file.path.read_bytes())
        file.path.unlink()
        make_odd(file.path)
        loaded = file.load()
        assert loaded is not None
        assert loaded.snapshot == make(5)
        (why,) = loaded.rejected
        assert str(why) == f"snapshot {file.path} cannot be read: {'it is a link' if number else NO_FILE}"
        assert file.save(make(7))
        assert revision_of(file.load()) == 7


NO_FILE = "it is no regular file"


def link(target: str | Path) -> Callable[[Path], None]:
    """Return what makes a link."""
    return lambda path: path.symlink_to(target)


def test_a_lock_file_that_is_none_is_an_error(tmp_path: Path) -> None:
    """Nothing is locked, or made, where a link leads to."""
    file = open_file(tmp_path)
    file.lock_path.symlink_to(tmp_path / "made")
    with pytest.raises(OSError, match="it is a link"):
        file.save(make(5))
    assert not (tmp_path / "made").exists()


def test_what_is_too_large_is_neither_read_nor_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would not be read again is not written either; the snapshot before stays."""
    file = open_file(tmp_path)
    file.save(make(5))
    size = file.size()
    monkeypatch.setattr(snapshot_file, "MOST_BYTES", size)
    assert revision_of(file.load()) == 5
    with pytest.raises(OSError, match="more than"):
        file.save(make(6, keys=3))
    assert revision_of(file.load()) == 5
    monkeypatch.setattr(snapshot_reading, "MOST_BYTES", size - 1)
    loaded = file.load()
    assert loaded is not None
    assert loaded.snapshot is None


# Merging


def test_newer_wins_and_older_never_overwrites(tmp_path: Path) -> None:
    """Whatever the order of saving, the newest stays, and `save` tells whether it wrote."""
    file = open_file(tmp_path)
    assert [file.save(make(revision)) for revision in (5, 4, 5, 7, 6)] == [True, False, False, True, False]
    assert revision_of(file.load()) == 7
    assert not file.save(make(99, cluster_id=2)), "revisions of different clusters cannot be compared"
    assert file.save(make(1, epoch=1))
    assert not file.save(make(100))
    assert revision_of(file.load()) == 1


def test_later_proof_wins(tmp_path: Path) -> None:
    """At the same revision a later proof of being in sync is written, because the age is computed from it."""
    file = open_file(tmp_path)
    proven = replace(make(5), synced_at=Stamp(1_700_000_100.0, 110.0, "boot"))
    assert file.save(make(5))
    assert file.save(proven)
    assert not file.save(make(5))
    assert not file.save(proven)
    assert file.load() == Loaded(proven, file.path, ())


def test_another_epoch_wins(tmp_path: Path) -> None:
    """After a reset the lower revision is written; one of the epoch before is not, however high its revision."""
    file = open_file(tmp_path)
    file.save(make(9))
    assert file.save(make(2, cluster_id=7, epoch=1))
    assert not file.save(make(99))
    assert file.load() == Loaded(make(2, cluster_id=7, epoch=1), file.path, ())
    file.path.unlink()
    assert revision_of(file.load()) == 9


def test_damaged_newest_is_replaced_but_not_kept(tmp_path: Path) -> None:
    """Damage heals with the next save and never becomes the previous generation."""
    file = open_file(tmp_path)
    file.save(make(5))
    file.save(make(6))
    damage(file.path)
    assert file.save(make(6))
    assert revision_of(file.load()) == 6
    file.path.unlink()
    assert revision_of(file.load()) == 5


def test_other_prefix_is_refused(tmp_path: Path) -> None:
    """Saving a snapshot of another prefix is a mistake of the caller and writes nothing."""
    with pytest.raises(ValueError, match=r"b'/config/', not b'/other/'"):
        open_file(tmp_path / "x").save(make(5, prefix=b"/other/"))
    assert names(tmp_path) == set()


def test_encoding_error_changes_nothing(tmp_path: Path) -> None:
    """A snapshot that cannot be encoded leaves the old one and the lock as they were."""
    file = open_file(tmp_path)
    file.save(make(5))
    with pytest.raises(ValueError, match="JSON"):
        file.save(replace(make(6), saved_at=Stamp(float("nan"), 0.0, "")))
    assert revision_of(file.load()) == 5
    assert file.save(make(6))


# Writing


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_permissions(tmp_path: Path, umask: int) -> None:
    """Whatever the umask, only this user can read any of the files or enter any folder made for them."""
    file = open_file(tmp_path / "a" / "b")
    old = os.umask(umask)
    try:
        file.save(make(5))
        file.save(make(6))
    finally:
        os.umask(old)
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700
    assert names(tmp_path / "a" / "b") == {file.path.name, file.previous_path.name, file.lock_path.name}
    assert {mode(path) for path in (file.path, file.previous_path, file.lock_path)} == {0o600}


def test_order_of_system_calls(tmp_path: Path) -> None:
    """The data reach the disk before they get their name, and the name before `save` returns.

    From its first byte on, the temporary file is for this user only.
    """
    file = open_file(tmp_path)
    file.save(make(5))
    calls: list[str] = []
    modes: list[int] = []

    def watch(frame: FrameType, event: str, argument: object) -> None:
        name = getattr(argument, "__name__", "")
        if event == "c_call" and name in ("fsync", "link", "replace", "write"):
            calls.append(name)
            modes.extend(mode(path) for path in tmp_path.glob("*.tmp"))

    old = os.umask(0)
    sys.setprofile(watch)
    try:
        file.save(make(6))
    finally:
        sys.setprofile(None)
        os.umask(old)
    assert calls == ["write", "fsync", "link", "replace", "replace", "fsync"]
    assert set(modes) == {0o600}


def test_old_generation_stays_open(tmp_path: Path) -> None:
    """A reader that has the file open keeps reading what it opened: saving never writes into a named file."""
    file = open_file(tmp_path)
    file.save(make(5))
    with file.path.open("rb") as reader:
        file.save(make(6))
        file.save(make(7))
        assert reader.read() == encode(make(5))


def test_leftovers_are_removed(tmp_path: Path) -> None:
    """Temporary files of dead writers go with the next save, those of other snapshots stay."""
    file = open_file(tmp_path)
    stem = file.path.name.removesuffix(".json")
    mine = tmp_path / f"{stem}.999999-0badcafe.tmp"
    other = tmp_path / "config-00000000000000000000000000000000.999999-0badcafe.tmp"
    mine.write_bytes(b"half")
    other.write_bytes(b"half")
    file.save(make(5))
    assert not mine.exists()
    assert other.exists()


def test_crash_between_the_renames(tmp_path: Path) -> None:
    """If a writer died when current and previous were one file, the next save works and leaves no trace."""
    file = open_file(tmp_path)
    file.save(make(5))
    file.previous_path.hardlink_to(file.path)
    file.save(make(6))
    assert len(names(tmp_path)) == 3
    assert revision_of(file.load()) == 6
    file.path.unlink()
    assert revision_of(file.load()) == 5


@pytest.mark.parametrize("where", ["below a file", "a file", "in proc"])
def test_impossible_folder(tmp_path: Path, where: str) -> None:
    """Where no folder can be made, saving raises an OSError at once."""
    (tmp_path / "file").touch()
    folder = {
        "below a file": tmp_path / "file" / "x",
        "a file": tmp_path / "file",
        "in proc": Path("/proc/a/b"),
    }
    with pytest.raises(OSError):
        open_file(folder[where]).save(make(5))


def test_full_disk(tmp_path: Path) -> None:
    """A write that fails halfway raises, leaves no temporary file, and the old snapshot stays."""
    file = open_file(tmp_path)
    file.save(make(5))
    output = run(
        """
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
file = open_file(Path(sys.argv[1]))
for keys in (1000, 2):
    try:
        print(file.save(make(6, keys=keys)))
    except OSError as exc:
        print(exc.errno)
""",
        tmp_path,
    )
    assert output.splitlines() == [str(errno.EFBIG), "True"], "and a smaller one still fits"
    assert len(names(tmp_path)) == 3
    assert revision_of(file.load()) == 6


def test_really_full_disk(tmp_path: Path) -> None:
    """On a file system without space a save raises ENOSPC and what was there stays."""
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        file = open_file(tmp_path)
        file.save(make(5))
        with pytest.raises(OSError) as caught:
            file.save(make(6, keys=1000))
        assert caught.value.errno == errno.ENOSPC
        assert revision_of(file.load()) == 5
        assert len(names(tmp_path)) == 2
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# The lock


def test_lock_wait_is_bounded(tmp_path: Path) -> None:
    """A lock that another writer holds on to is given up after the timeout; loading never waits for it."""
    file = open_file(tmp_path, lock_timeout=0.05)
    file.save(make(5))
    with file.lock_path.open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert revision_of(file.load()) == 5
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"held the snapshot lock for 0.05 s.*\.lock"):
            file.save(make(6))
        assert 0.05 <= time.monotonic() - began < 2
        assert not file.save(make(4)), "what is not newer needs no lock"
    assert file.save(make(6))


def test_lock_is_waited_for(tmp_path: Path) -> None:
    """A writer that finds the lock taken writes when it is free."""
    file = open_file(tmp_path, lock_timeout=30.0)
    file.save(make(5))
    with file.lock_path.open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        writer = threading.Thread(target=file.save, args=(make(6),))
        writer.start()
        assert revision_of(file.load()) == 5
        fcntl.flock(holder, fcntl.LOCK_UN)
        writer.join()
    assert revision_of(file.load()) == 6


def test_news_that_came_while_waiting(tmp_path: Path) -> None:
    """What another process saved while this one waited for the lock is not overwritten by something older."""
    file = open_file(tmp_path, lock_timeout=30.0)
    file.save(make(5))
    results: list[bool] = []
    with file.lock_path.open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        writer = threading.Thread(target=lambda: results.append(file.save(make(6))))
        writer.start()
        # The other writer, which holds the lock: it swaps in its file as `save` would. The brief wait only
        # makes it likely that the thread has looked already; the claim holds either way.
        time.sleep(0.05)
        newer = tmp_path / "newer"
        newer.write_bytes(encode(make(9)))
        newer.rename(file.path)
        fcntl.flock(holder, fcntl.LOCK_UN)
        writer.join()
    assert results == [False]
    assert revision_of(file.load()) == 9


def test_fork_while_writing(tmp_path: Path) -> None:
    """A child forked during a save, which inherits the open lock file, does not keep the lock."""
    output = run(
        """
import signal
file = open_file(Path(sys.argv[1]), lock_timeout=0.1)
children = []
def watch(frame, event, argument):
    if event == "c_call" and argument is os.fsync and not children:
        children.append(os.fork())
        if children == [0]:
            signal.pause()
sys.setprofile(watch)
file.save(make(5))
sys.setprofile(None)
try:
    print(file.save(make(6)))
finally:
    os.kill(children[0], signal.SIGKILL)
    os.waitpid(children[0], 0)
""",
        tmp_path,
    )
    assert output == "True"


# Crowds and crashes

WRITER = """
file = open_file(Path(sys.argv[1]), prefix=sys.argv[2].encode(), lock_timeout=60)
first, step, count = map(int, sys.argv[3:])
written = 0
for revision in range(first, first + step * count, step):
    written += file.save(make(revision, prefix=file.prefix, keys=50))
print(written)
"""


def check_whole(snapshot: Snapshot, *, repeat: int = 20) -> None:
    expected = make(snapshot.revision, prefix=snapshot.prefix, keys=len(snapshot.entries), repeat=repeat)
    assert snapshot == expected, "a mixture of two snapshots"


def test_four_processes_on_one_file(tmp_path: Path) -> None:
    """With four writers at once a reader sees whole snapshots that never go back, and the newest remains.

    Another prefix in the same folder is not touched.
    """
    writers = [start(WRITER, tmp_path, "/config/", first, 4, 60) for first in range(1, 5)]
    other = start(WRITER, tmp_path, "/other/", 1, 1, 60)
    file = open_file(tmp_path)
    seen = loads = 0
    while any(writer.poll() is None for writer in (*writers, other)):
        loaded = file.load()
        if loaded is None:
            assert seen == 0
            continue
        revision = revision_of(loaded)
        assert revision >= seen
        assert loaded.path == file.path
        assert loaded.snapshot is not None
        check_whole(loaded.snapshot)
        seen = revision
        loads += 1
    outputs = [int(writer.communicate()[0]) for writer in (*writers, other)]
    assert revision_of(file.load()) == 240
    assert loads > 0
    assert outputs[3] >= 1, "the writer of the newest has written it"
    assert outputs[4] == 60
    assert revision_of(open_file(tmp_path, prefix=b"/other/").load()) == 60
    assert len(names(tmp_path)) == 6


SUICIDE = """
import signal
file = open_file(Path(sys.argv[1]))
left = int(sys.argv[2])
CALLS = ("mkdir", "open", "write", "fsync", "link", "replace", "unlink", "close")
def watch(frame, event, argument):
    global left
    name = getattr(argument, "__name__", "")
    if event == "c_call" and name in CALLS:
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
sys.setprofile(watch)
file.save(make(6, keys=500))
sys.setprofile(None)
print("saved")
"""


@pytest.mark.parametrize("before", [0, 2])
def test_kill_before_each_system_call(tmp_path: Path, before: int) -> None:
    """A writer that dies between any two of its system calls leaves the old snapshot or the new one, whole.

    The next writer finds the lock free and removes what the dead one left.
    """
    outcomes = []
    for steps in range(100):
        file = open_file(tmp_path / f"{before}-{steps}")
        for revision in range(6 - before, 6):
            file.save(make(revision))
        suicide = start(SUICIDE, file.folder, steps)
        if suicide.communicate()[0] == "saved\n":
            break
        loaded = file.load()
        outcomes.append(0 if loaded is None else revision_of(loaded))
        if before:
            file.path.unlink()
            assert revision_of(file.load()) in (4, 5)
        assert file.save(make(7))
        assert revision_of(file.load()) == 7
        assert names(file.folder) <= {file.path.name, file.previous_path.name, file.lock_path.name}
    assert set(outcomes) == ({5, 6} if before else {0, 6})
    assert outcomes == sorted(outcomes)
    assert len(outcomes) >= 8, "not every system call was seen"


VICTIM = """
file = open_file(Path(sys.argv[1]))
revision = int(sys.argv[2])
while True:
    revision += 1
    snapshot = make(revision, keys=200, repeat=3000)
    print("saving", revision, flush=True)
    file.save(snapshot)
    print("saved", revision, flush=True)
"""


def test_kill_while_writing(tmp_path: Path) -> None:
    """After kill -9 at any moment there is a whole snapshot: the last acknowledged or the one being written.

    The next writer finds the lock free and removes what the dead one left.
    """
    file = open_file(tmp_path)
    generator = random.Random(20240607)
    revision = 0
    for _ in range(15):
        victim = start(VICTIM, tmp_path, revision)
        assert victim.stdout is not None
        output = victim.stdout.readline()
        time.sleep(generator.uniform(0.0, 0.04))
        victim.kill()
        output += victim.stdout.read()
        victim.stdout.close()
        victim.wait()
        begun = max(map(int, re.findall(r"saving (\d+)\n", output)))
        acknowledged = max(map(int, re.findall(r"saved (\d+)\n", output)), default=revision)
        loaded = file.load()
        if acknowledged == 0 and loaded is None:
            continue
        revision = revision_of(loaded)
        assert acknowledged <= revision <= begun
        assert loaded is not None
        assert loaded.snapshot is not None
        check_whole(loaded.snapshot, repeat=3000)
    assert file.path.stat().st_size > 1_000_000
    assert file.save(make(revision + 1))
    assert len(names(tmp_path)) == 3
