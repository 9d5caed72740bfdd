"""What settings objects have last accepted: in memory, and on disk for the next start.

All of it is read at the start, before anybody knows what will be bound, because nothing may wait for a disk later.
What a disk that cannot be written keeps from the next start is reported and tried again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread

from tideover import telemetry
from tideover.broadcast import Broadcast
from tideover.clock import Clock
from tideover.daemon_thread import in_daemon_thread
from tideover.errors import SnapshotCorrupt
from tideover.options import Options
from tideover.prefixes.snapshots.snapshot import Accepted, Snapshot
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.prefixes.snapshots.snapshot_reading import read
from tideover.prefixes.snapshotter import NOT_WRITTEN, tell_aside
from tideover.prefixes.view import View
from tideover.types import Entry

# Seconds in which further news joins a write, and those before a write that failed is tried again.
_DEBOUNCE = 0.2
_AFTER_FAILURE = 30.0
# Shapes of one class whose files are kept: the versions of a service that a host may run side by side, and a few.
_MOST_SHAPES = 4

# Prefix, class, shape.
_Name = tuple[bytes, str, str]


class AcceptedValues:
    """The accepted snapshots of one coordinator, in `folder`; in memory alone if that is None."""

    def __init__(self, folder: Path | None, options: Options, *, clock: Clock) -> None:
        # Absolute, as the files have it, so that a daemon's later chdir does not move it.
        self.folder = None if folder is None else folder.absolute()
        self.restored = folder is None  # whether it is known what an earlier process has left
        self.changed = Broadcast()  # fires when `restored` does, and when there is something to write
        self._options = options
        self._owner = SnapshotOwner.of(options)
        self._clock = clock
        self._excluded = tuple((options.base + prefix).encode() for prefix in options.exclude)
        self._known: dict[_Name, Snapshot] = {}
        self._files: dict[_Name, SnapshotFile] = {}
        self._unsaved: set[_Name] = set()
        self._error: str | None = None

    def may_hold(self, key: bytes) -> bool:
        """Return whether a key may be written to disk."""
        return not key.startswith(self._excluded)

    def last(self, prefix: bytes, form: str, shape: str) -> Snapshot | None:
        """Return what the class `form` has last accepted at a full etcd prefix.

        What another shape of the class has accepted is returned if this one has accepted nothing: a new version of
        a service has to start, too.
        """
        own = prefix, form, shape
        name = own if own in self._known else next(iter(self._of_class(prefix, form)), own)
        return self._known.get(name)

    def accept(self, prefix: bytes, label: Accepted, entries: Mapping[bytes, Entry], view: View) -> None:
        """Record what a class accepts now, by full etcd key, for the next start as well."""
        name = prefix, label.form, label.shape
        known = self._known.get(name)
        if known is not None and (known.entries, known.accepted) == (entries, label):
            return
        age = view.age
        self._known[name] = Snapshot(
            prefix=prefix,
            cluster_id=view.history.cluster_id,
            epoch=view.history.epoch,
            history=view.history.marker,
            raft_term=0,
            revision=view.freshness.reached,
            synced_at=self._clock.stamp(age) if math.isfinite(age) else None,
            saved_at=self._clock.stamp(),
            entries=entries,
            endpoints=tuple(self._owner.endpoints),
            user=self._owner.user,
            accepted=label,
        )
        self._unsaved.add(name)
        self.changed.fire()

    async def run(self) -> None:
        """Read what an earlier process has left, then write whenever there is something new, until cancelled."""
        if not self.restored:
            found, again, damaged = await in_daemon_thread(self._load, name="tideover-accepted")
            for damage in damaged:
                telemetry.snapshot_rejected("config", damage.path, str(damage))
            # What was accepted meanwhile is newer.
            self._known = {**found, **self._known}
            self._unsaved |= again
            self.restored = True
            self.changed.fire()
        while True:
            changed = self.changed.next()
            if self._unsaved and self.folder is not None:
                await anyio.sleep(_AFTER_FAILURE if self._error else _DEBOUNCE)
                await self.save()
            else:
                await changed.wait()

    async def save(self) -> None:
        """Write now what is not on disk."""
        if self.folder is None:
            return
        for name in tuple(self._unsaved):
            if name not in self._unsaved:  # of a shape that is surplus by now
                continue
            snapshot = self._known[name]
            try:
                await anyio.to_thread.run_sync(
                    self._write, self._file(name), snapshot, self._take_surplus(name), abandon_on_cancel=True
                )
            except NOT_WRITTEN as exc:
                self._fail(snapshot, exc)
                return
            finally:
                tell_aside(self._file(name), "config")
            telemetry.snapshot_written("config", None)
            if self._known[name] is snapshot:
                self._unsaved.discard(name)
        self._error = None

    def _of_class(self, prefix: bytes, form: str) -> list[_Name]:
        """Return the shapes of a class of which something is known, the newest first."""
        names = (name for name in self._known if name[:2] == (prefix, form))
        return sorted(names, key=lambda name: (self._known[name].epoch, self._known[name].revision), reverse=True)

    def _take_surplus(self, name: _Name) -> list[SnapshotFile]:
        """Forget all but the newest shapes of a class, and return their files."""
        surplus = [each for each in self._of_class(*name[:2])[_MOST_SHAPES:] if each != name]
        for each in surplus:
            del self._known[each]
            self._unsaved.discard(each)
        return [self._file(each) for each in surplus]

    def _file(self, name: _Name) -> SnapshotFile:
        assert self.folder is not None
        options, (prefix, form, shape) = self._options, name
        return self._files.setdefault(
            name,
            SnapshotFile(
                self.folder,
                self._owner,
                prefix=prefix,
                accepted=(form, shape),
                encryption=options.encryption,
            ),
        )

    def _fail(self, snapshot: Snapshot, exc: Exception) -> None:
        telemetry.snapshot_written("config", type(exc).__name__)
        error = f"{type(exc).__name__}: {exc}"
        if error != self._error:
            prefix = snapshot.prefix.decode(errors="backslashreplace")
            telemetry.snapshot_failed("config", f"what is accepted at {prefix!r} cannot be written: {error}")
        self._error = error

    # In threads, for disks may hang ----------------------------------------------------------------------------

    @staticmethod
    def _write(file: SnapshotFile, snapshot: Snapshot, surplus: list[SnapshotFile]) -> None:
        file.save(snapshot)
        for each in surplus:
            each.remove()

    def _load(self) -> tuple[dict[_Name, Snapshot], set[_Name], list[SnapshotCorrupt]]:
        """Return what an earlier process has left, what of it has to be written again, and what is damaged."""
        found, again = {}, set()
        files, damaged = self._find()
        for name, file in files.items():
            loaded = file.load()
            damaged += () if loaded is None else loaded.rejected
            if loaded is None or loaded.snapshot is None:
                continue
            found[name] = self._without_excluded(loaded.snapshot)
            if found[name] is not loaded.snapshot:
                # Written before the key was excluded.
                again.add(name)
                file.remove()
        return found, again, damaged

    def _find(self) -> tuple[dict[_Name, SnapshotFile], list[SnapshotCorrupt]]:
        """Return the files, by what either generation of each says that it is, and those that say nothing."""
        assert self.folder is not None
        files, damaged, options = {}, [], self._options
        paths = self._owner.accepted_paths(self.folder)
        for path in paths:
            try:
                snapshot = read(path, options.encryption, namespace=options.namespace)
            except OSError as exc:
                damaged.append(SnapshotCorrupt(f"snapshot {path} cannot be read: {exc.strerror}", path=str(path)))
            except SnapshotCorrupt as exc:
                damaged.append(exc.with_traceback(None))
            else:
                name = None if snapshot.accepted is None else _name(snapshot)
                file = None if name is None else self._file(name)
                # By name: a folder may be given relatively.
                if file is not None and path.name in (file.path.name, file.previous_path.name):
                    files[_name(snapshot)] = file
                else:
                    damaged.append(SnapshotCorrupt(f"snapshot {path} is of something else", path=str(path)))
        # Of these `load` tells.
        whole = {str(path) for file in files.values() for path in (file.path, file.previous_path)}
        return files, [each for each in damaged if each.path not in whole]

    def _without_excluded(self, snapshot: Snapshot) -> Snapshot:
        entries = {key: entry for key, entry in snapshot.entries.items() if self.may_hold(key)}
        if len(entries) == len(snapshot.entries):
            return snapshot
        assert snapshot.accepted is not None
        keys = frozenset(filter(self.may_hold, snapshot.accepted.keys))
        return replace(snapshot, entries=entries, accepted=replace(snapshot.accepted, keys=keys))


def _name(snapshot: Snapshot) -> _Name:
    assert snapshot.accepted is not None
    return snapshot.prefix, snapshot.accepted.form, snapshot.accepted.shape
