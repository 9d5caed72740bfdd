"""The snapshot's file: who may write it, when, and how it survives crashes.

Guaranteed, also with many processes on one host and with any of them killed at any moment: once a snapshot
has been saved, a reader finds a whole one; what `save` has acknowledged survives a power cut; an older
snapshot never replaces a newer one unasked; a damaged file is never kept as the previous generation. A file that
cannot be used, because it is damaged, of another cluster or sealed with another key, is never deleted: before
another one takes its name it is put aside under a name of its own. There are `MOST_ASIDE` such names; when all are
taken, nothing is written. The generation before is replaced unread, as long as the current one can be used: else
each key that is taken away would use one of these names up.

With keys, files are sealed (`sealing`), and a file that is not sealed is not used: a user who may write to the
folder could have put it there. The first sealed file replaces it, and it is not kept. Without keys nothing is
written in the place of a sealed file: a forgotten key must not bring to light what was hidden.

Not guaranteed: that every snapshot reaches the disk (the newest does), or, without keys, secrecy from root and
from this user's other processes. If the lock file is deleted while it is held, two writers can meet: one of
them may then fail or be overwritten, but no file is torn.

The recipe is the usual one (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014): temporary
file in the same folder, fsync, rename, fsync of the folder. The lock is flock's, not fcntl's, which vanishes
when any descriptor of the file is closed; it ends with its process, so that no process has to judge whether a
lock's owner still lives.
"""

from __future__ import annotations

import errno
import math
import os
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tideover.encryption import Encryption
from tideover.errors import SnapshotCorrupt, SnapshotSealed
from tideover.paths import make_private_folder
from tideover.prefixes.snapshots.durable_files import locked, sync_folder, write_durably
from tideover.prefixes.snapshots.sealing import Origin, seal
from tideover.prefixes.snapshots.snapshot import Snapshot, supersedes
from tideover.prefixes.snapshots.snapshot_format import MOST_BYTES, encode
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.prefixes.snapshots.snapshot_reading import read_either
from tideover.shown import shown
from tideover.types import Component

# How many files that cannot be used are kept beside one snapshot.
MOST_ASIDE = 4

_Mark = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was found on disk: the newest whole generation."""

    snapshot: Snapshot | None  # None if every generation was rejected
    path: Path | None  # None if there is no snapshot
    rejected: tuple[SnapshotCorrupt, ...]  # why newer generations could not be used, newest first; worth a warning


@dataclass(frozen=True, slots=True)
class Aside:
    """A file that could not be used and has made room for one that can: what it is called now, and why."""

    path: Path
    why: SnapshotCorrupt


@dataclass(frozen=True, slots=True)
class _Found:
    """What bears a snapshot's name."""

    mark: _Mark | None  # which file it is; None if there is none
    snapshot: Snapshot | None = None  # perhaps without its entries; None if there is none, or it cannot be used
    why: SnapshotCorrupt | None = None  # why it cannot be used


class SnapshotFile:
    """The snapshot of one prefix on disk, with one previous generation, shared by the processes of a host.

    It holds no descriptors: use it across forks, and from any thread, one at a time.

    Args:
        folder: Created when first saving, accessible to this user only.
        accepted: Which accepted snapshot it is, by its label's class and shape; None for the raw one.
        encryption: How the file is sealed, and others are not used; None if it is not.
        lock_timeout: Seconds to wait for another writer before giving up.
    """

    def __init__(
        self,
        folder: Path,
        owner: SnapshotOwner,
        *,
        prefix: bytes,
        component: Component = "config",
        accepted: tuple[str, str] | None = None,
        encryption: Encryption | None = None,
        lock_timeout: float = 5.0,
    ) -> None:
        if not 0 <= lock_timeout < math.inf:
            raise ValueError(f"lock_timeout must be at least 0 seconds and finite, not {lock_timeout}")
        # Absolute, so that a daemon's later chdir does not move it.
        self.folder = folder.absolute()
        self.prefix = prefix
        self.lock_timeout = lock_timeout
        self.owner = owner
        self.aside: list[Aside] = []  # what saving has put aside, until it is told
        self._accepted = accepted
        self._encryption = encryption
        # What this process wrote last, without its entries: not to be read again to learn what it says.
        self._own = _Found(None)
        self._stem = (
            owner.raw_stem(component, prefix) if accepted is None else owner.accepted_stem(prefix, *accepted)
        )
        # All were named after the configuration once: such a file is read until it has been given its own name.
        self._former = owner.raw_stem("config", prefix) if component == "discovery" else None

    @property
    def path(self) -> Path:
        """The newest generation."""
        return self._generations(self._stem)[0]

    @property
    def previous_path(self) -> Path:
        """The generation before it."""
        return self._generations(self._stem)[1]

    @property
    def lock_path(self) -> Path:
        """The file that writers lock; never removed, because a removed lock file excludes no writer."""
        return self.folder / f"{self._stem}.lock"

    def __repr__(self) -> str:
        """Return one line that names the file and what it is for."""
        return f"<SnapshotFile prefix={self.prefix!r} path={str(self.path)!r}>"

    def load(self) -> Loaded | None:
        """Read the newest generation that is whole, without any lock; a read-only folder will do.

        Returns:
            What was found, also if everything found was rejected; None if nothing was ever saved.

        When degraded:
            Needs no etcd. A missing folder is no error; a file that cannot be read counts as rejected.
        """
        found = self._newest()
        if found is None and self._former is not None:
            found = self._newest(self._former)
            if found is None or found.snapshot is None:
                # A writer may be giving it its own name.
                found = self._newest() or found
        if found is not None and found.path == self.previous_path and not found.rejected:
            # The newest was merely missing: a writer may have brought it in the meantime.
            found = self._newest()
        return found

    def save(self, snapshot: Snapshot, *, unasked: bool = True) -> bool:
        """Write the snapshot durably if it tells more than what is on disk (`supersedes`); return whether it was.

        False means that the disk already holds something at least as new. With `unasked=False` the snapshot is
        written whatever is on disk; what was there is the previous generation then.

        Raises:
            ValueError: The snapshot is of another prefix or cannot be encoded.
            KeysUnusable: The source of the keys has none.
            SnapshotSealed: There are no keys, and what is on disk was sealed.
            TimeoutError: Another process held the lock for `lock_timeout` seconds.
            OSError: The folder or file cannot be written (full, read-only, no permission), or `MOST_ASIDE` files
                that cannot be used are beside it. What was on disk before is still there.

        When degraded:
            Needs no etcd.
        """
        if snapshot.prefix != self.prefix:
            raise ValueError(f"this file is for prefix {self.prefix!r}, not {snapshot.prefix!r}")
        # Looked at without the lock first: of many processes with the same news, most end here, and those
        # that go on hold the lock for a write only.
        found = self._look()
        if unasked and not _is_wanted(snapshot, found.snapshot):
            return False
        if self._encryption is None and isinstance(found.why, SnapshotSealed):
            raise found.why
        make_private_folder(self.folder)
        with locked(self.lock_path, timeout=self.lock_timeout):
            self._remove_leftovers()
            self._rename_former()
            if _mark(self.path) != found.mark:
                found = self._look()
                if unasked and not _is_wanted(snapshot, found.snapshot):
                    return False
            data = self._encode(snapshot)
            if len(data) > MOST_BYTES:
                raise OSError(errno.EFBIG, f"it would have more than {MOST_BYTES:,} bytes", str(self.path))
            in_the_clear = isinstance(found.why, _InTheClear)
            if found.why is not None and not in_the_clear:
                self._make_room(found.why)
            self._publish(data, keep_current=found.snapshot is not None)
            if in_the_clear:
                self._clear_previous()
            mark = _mark(self.path)
            self._own = _Found(mark, None if mark is None else replace(snapshot, entries={}))
        return True

    def remove(self) -> None:
        """Remove both generations, but none that cannot be used; what the disk refuses stays as well."""
        for path in (self.path, self.previous_path):
            with suppress(SnapshotCorrupt, OSError):
                if self._read(path) is not None:
                    path.unlink()

    def check_keys(self) -> None:
        """Look whether there are keys, if a source is named. Raises `KeysUnusable`: there are none."""
        if self._encryption is not None:
            self._encryption.ring()

    def size(self) -> int:
        """Return the bytes of the newest generation; 0 if there is none, or it cannot be looked at."""
        mark = _mark(self.path)
        return 0 if mark is None else mark[2]

    def _newest(self, stem: str = "") -> Loaded | None:
        rejected = []
        for path in self._generations(stem or self._stem):
            try:
                snapshot = self._read(path)
            except SnapshotCorrupt as exc:
                # Without its traceback, whose frames would keep the file's content alive.
                rejected.append(exc.with_traceback(None))
                continue
            if snapshot is not None:
                return Loaded(snapshot, path, tuple(rejected))
        return Loaded(None, None, tuple(rejected)) if rejected else None

    def _encode(self, snapshot: Snapshot) -> bytes:
        data = encode(snapshot)
        if self._encryption is None:
            return data
        return seal(
            data, Origin(self.owner.namespace, f"{snapshot.cluster_id:x}", snapshot.revision), self._encryption
        )

    def _look(self) -> _Found:
        mark = _mark(self.path)  # taken before reading: a change in between must not go unseen
        if mark is not None and self._own.mark == mark:
            return self._own
        try:
            return _Found(mark, self._read(self.path))
        except SnapshotCorrupt as exc:
            return _Found(mark, None, exc.with_traceback(None))

    def _read(self, path: Path) -> Snapshot | None:
        try:
            snapshot, was_sealed = read_either(path, self._encryption, self.owner.namespace)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise SnapshotCorrupt(f"snapshot {path} cannot be read: {exc.strerror}", path=str(path)) from exc
        if snapshot.prefix != self.prefix:
            raise SnapshotCorrupt(
                f"snapshot {path} is of prefix {snapshot.prefix!r}, not {self.prefix!r}", path=str(path)
            )
        if (label := _label(snapshot)) != self._accepted:
            kinds = f"{_kind(label)}, not {_kind(self._accepted)}"
            raise SnapshotCorrupt(f"snapshot {path} is {kinds}", path=str(path))
        # An earlier version has written none.
        ours, theirs = (self.owner.endpoints, self.owner.user), (snapshot.endpoints, snapshot.user)
        if snapshot.endpoints and theirs != ours:
            raise SnapshotCorrupt(
                f"snapshot {path} is of {_where(*theirs)}, not of {_where(*ours)}", path=str(path)
            )
        if self._encryption is not None and not was_sealed:
            raise _InTheClear(
                f"snapshot {path} is not encrypted, and only encrypted ones are used", path=str(path)
            )
        return snapshot

    def _make_room(self, why: SnapshotCorrupt) -> None:
        """Put what cannot be used aside, and the generation before it, if that one cannot be used either."""
        self._put_aside(self.path, why)
        try:
            self._read(self.previous_path)
        except SnapshotCorrupt as exc:
            self._put_aside(self.previous_path, exc.with_traceback(None))

    def _clear_previous(self) -> None:
        """Remove the generation before, if it is in the clear; if it cannot be used, put it aside."""
        try:
            self._read(self.previous_path)
        except _InTheClear:
            self.previous_path.unlink()
        except SnapshotCorrupt as exc:
            self._put_aside(self.previous_path, exc.with_traceback(None))

    def _put_aside(self, path: Path, why: SnapshotCorrupt) -> None:
        if not _is_file(path):
            return  # a link, a FIFO: nothing of a snapshot's is in it
        for number in range(1, MOST_ASIDE + 1):
            place = self.path.with_name(f"{self.path.name}.aside-{number}")
            if not os.path.lexists(place):
                os.replace(path, place)
                self.aside.append(Aside(place, why))
                return
        raise OSError(
            errno.EEXIST,
            f"{MOST_ASIDE} files that cannot be used are beside it: open them with their keys, or take them away",
            str(place),
        )

    def _publish(self, data: bytes, *, keep_current: bool) -> None:
        temporary = self._temporary_path()
        try:
            write_durably(temporary, data)
            if keep_current:
                self._keep_current()
            os.replace(temporary, self.path)
        finally:
            with suppress(OSError):
                temporary.unlink()
        sync_folder(self.folder)

    def _keep_current(self) -> None:
        second_name = self._temporary_path()
        try:
            os.link(self.path, second_name)
        except OSError:
            # No hard links here (FAT, some network disks, another user's file). For a moment there is then no
            # current generation, but readers find the very same one under its new name.
            os.replace(self.path, self.previous_path)
            return
        try:
            os.replace(second_name, self.previous_path)
        finally:
            # After a crash between the two renames of a save, current and previous are one file, and a rename
            # of a file onto itself does nothing: the second name would stay.
            with suppress(OSError):
                second_name.unlink()

    def _temporary_path(self) -> Path:
        return self.folder / f"{self._stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp"

    def _generations(self, stem: str) -> tuple[Path, Path]:
        return self.folder / f"{stem}.json", self.folder / f"{stem}.prev.json"

    def _rename_former(self) -> None:
        """Give what an earlier version has left its own name, or remove it if there is something newer."""
        if self._former is None:
            return
        # The generation before first: a reader that looks in between finds the newest one.
        pairs = zip(self._generations(self._former), self._generations(self._stem), strict=True)
        for former, own in reversed(list(pairs)):
            with suppress(FileNotFoundError):
                if self.path.exists():
                    former.unlink()
                else:
                    os.replace(former, own)

    def _remove_leftovers(self) -> None:
        # Temporary files are made under the lock only, and we hold it: the process that made these is dead. Asking
        # for their process by its number would be wrong across containers that share the folder.
        for leftover in self.folder.glob(f"{self._stem}.*.tmp"):
            with suppress(OSError):
                leftover.unlink()


class _InTheClear(SnapshotSealed):
    """Raised when a snapshot is not sealed where keys are given."""


def _label(snapshot: Snapshot) -> tuple[str, str] | None:
    return None if snapshot.accepted is None else (snapshot.accepted.form, snapshot.accepted.shape)


def _kind(label: tuple[str, str] | None) -> str:
    return "the newest state" if label is None else shown(f"what {label[0]} in shape {label[1]} has accepted")


def _where(endpoints: Sequence[str], user: str) -> str:
    where = ", ".join(endpoints)
    return shown(f"the cluster at {where}" + (f" as user {user!r}" if user else ""))


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _is_wanted(snapshot: Snapshot, current: Snapshot | None) -> bool:
    return current is None or supersedes(snapshot, current)


def _mark(path: Path) -> _Mark | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
