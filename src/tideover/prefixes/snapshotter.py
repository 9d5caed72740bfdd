"""A view's snapshot on disk, restored once and written off the event loop; `snapshot_writer` writes it in time.

What changed is due at once; that the content is still in sync is due now and then, and at once when it stops being
so, because that moment is what the next start counts the age from. A disk that cannot be written harms nothing
else: it is reported and tried again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import anyio
import anyio.to_thread

from tideover import telemetry
from tideover.clock import Clock
from tideover.daemon_thread import in_daemon_thread
from tideover.encryption import KeysUnusable
from tideover.epoch.history import Epoch
from tideover.epoch.rules import Known
from tideover.epoch.tracker import EpochTracker
from tideover.errors import SnapshotSealed
from tideover.prefixes.rules import Freshness
from tideover.prefixes.snapshots.snapshot import Snapshot
from tideover.prefixes.snapshots.snapshot_file import Loaded, SnapshotFile
from tideover.prefixes.view import View
from tideover.status import SnapshotStatus
from tideover.types import Component, Entry, Source

# Seconds between two writes that say no more than "still in sync", and how many bytes lengthen that by as much.
_REFRESH = 10.0
_REFRESH_BYTES = 1024 * 1024
# Seconds before a write that failed is tried again.
_AFTER_FAILURE = 30.0
# Seconds between two looks at whether content that was not believed is believed by now.
_DOUBTED = 1.0

# What writing a snapshot raises that harms nothing else.
NOT_WRITTEN = (OSError, KeysUnusable, SnapshotSealed)


class Snapshotter:
    """Keeps the snapshot of one view."""

    def __init__(
        self,
        view: View,
        file: SnapshotFile,
        *,
        identity: EpochTracker,
        clock: Clock,
        exclude: tuple[bytes, ...] = (),
        may_save: Callable[[], bool] = lambda: True,
        writers: anyio.CapacityLimiter,
    ) -> None:
        self.error: str | None = None  # why the last write failed; None if it did not
        self.restored = False  # whether it is known what an earlier process has left
        self.size = 0  # bytes on disk; 0 if nothing is there
        self.view = view
        self._file = file
        self._identity = identity
        self._clock = clock
        self._exclude = exclude  # full prefixes of keys that must not be written to disk
        self._may_save = may_save  # while the content is not believed, the disk keeps what was before
        self._writers = writers  # of all that share it: two hundred prefixes do not take forty threads
        self._saved_content = (0, 0, "")
        self._saved_synced_at = -math.inf
        self.saved_at = -math.inf  # when it was written last, or that was tried, in monotonic seconds
        self._written_at = -math.inf

    def __repr__(self) -> str:
        """Show the file."""
        return f"<Snapshotter {self._file.path}>"

    @property
    def component(self) -> Component:
        """Whose snapshot it is."""
        return self.view.component

    @property
    def age(self) -> float:
        """Seconds since what is on disk was last proven in sync; infinite if that is unknown."""
        return self._clock.monotonic() - self._saved_synced_at

    def report(self) -> SnapshotStatus:
        """Return what `status()` shows of it."""
        saved_ago = self._clock.monotonic() - self._written_at
        return SnapshotStatus(
            component=self.component,
            prefix=self.view.name,
            keys=len(self.view.entries),
            size=self.size,
            age=self.age,
            saved_ago=saved_ago if math.isfinite(saved_ago) else None,
            error=self.error,
        )

    def _load(self) -> Loaded | None:
        try:
            self._file.check_keys()
        except KeysUnusable as exc:
            # Also where nothing is on disk that they would open: nothing will be.
            self._fail(exc)
        loaded = self._file.load()
        self.size = self._file.size()
        return loaded

    def peek(self) -> Mapping[bytes, Entry]:
        """Return what a start without etcd begins with, and put it nowhere. Blocks."""
        loaded = self._file.load()
        snapshot = None if loaded is None else loaded.snapshot
        return self.view.at_start(None if snapshot is None else snapshot.entries)[0]

    def _write(self, snapshot: Snapshot) -> None:
        self._file.save(snapshot)
        self.size = self._file.size()

    async def restore(self) -> None:
        """Put what an earlier process has left into the view, if that has nothing; once."""
        if not self.restored:
            await self._restore()
            self.restored = True
            self.view.changed.fire()

    async def _restore(self) -> None:
        # Not in anyio's pool: where a start is refused, gunicorn's own worker would wait for the pool without end.
        loaded = await in_daemon_thread(self._load, name="tideover-snapshot")
        for damage in loaded.rejected if loaded else ():
            telemetry.snapshot_rejected(self.view.component, damage.path, str(damage))
        if loaded is None or loaded.snapshot is None:
            return
        snapshot = loaded.snapshot
        history = self._recall(snapshot)
        if self.view.synced:
            return
        synced_at = -math.inf
        if snapshot.synced_at is not None:
            synced_at = self._clock.monotonic() - self._clock.elapsed(snapshot.synced_at)
        self.view.restore(
            snapshot.entries,
            freshness=Freshness(snapshot.revision, synced_at),
            history=history,
        )
        self._saved_content, self._saved_synced_at = self._content(), synced_at

    def _recall(self, snapshot: Snapshot) -> Epoch:
        if not snapshot.cluster_id:  # of no history: an operator has made it
            return self._identity.history
        return self._identity.recall(
            Known(
                snapshot.cluster_id,
                snapshot.raft_term,
                snapshot.revision,
                self._clock.monotonic(),
                snapshot.epoch,
                snapshot.history,
            )
        )

    async def save(self) -> None:
        """Write now, unless the disk already says all there is to say."""
        view = self.view
        content, freshness = self._content(), view.freshness
        saved = (content, freshness.synced_at) == (self._saved_content, self._saved_synced_at)
        if saved or not view.synced or not self._may_save():
            return
        snapshot = self._snapshot()
        try:
            await anyio.to_thread.run_sync(self._write, snapshot, abandon_on_cancel=True, limiter=self._writers)
        except NOT_WRITTEN as exc:
            self._fail(exc)
        else:
            self.error = None
            self._saved_content, self._saved_synced_at = content, freshness.synced_at
            self._written_at = self._clock.monotonic()
            telemetry.snapshot_written(self.view.component, None)
        tell_aside(self._file, self.view.component)
        self.saved_at = self._clock.monotonic()

    def _content(self) -> tuple[int, int, str]:
        return self.view.freshness.reached, self.view.history.epoch, self.view.history.marker

    @property
    def is_as_saved(self) -> bool:
        """Whether a write would only confirm what is on disk."""
        return self._content() == self._saved_content

    def due_in(self, turn: float) -> float:
        """Return seconds until a write is due, infinity if none is; mere confirmation of the file waits `turn`."""
        view = self.view
        since = self._clock.monotonic() - self.saved_at
        if not (self.restored and view.synced):
            return math.inf
        if not self._may_save():
            return _DOUBTED
        if self.error is not None:
            return _AFTER_FAILURE - since
        if not self.is_as_saved:
            return 0.0
        if view.freshness.synced_at == self._saved_synced_at:
            return math.inf
        if view.source is not Source.LIVE:
            return 0.0
        return max(turn, _REFRESH * (1 + view.size / _REFRESH_BYTES) - since)

    def _snapshot(self) -> Snapshot:
        view = self.view
        age = view.age
        return Snapshot(
            prefix=view.prefix,
            cluster_id=view.history.cluster_id,
            epoch=view.history.epoch,
            history=view.history.marker,
            raft_term=self._identity.known.raft_term if view.current else 0,
            revision=view.freshness.reached,
            synced_at=self._clock.stamp(age) if math.isfinite(age) else None,
            saved_at=self._clock.stamp(),
            entries={k: e for k, e in view.entries.items() if not k.startswith(self._exclude)},
            endpoints=tuple(self._file.owner.endpoints),
            user=self._file.owner.user,
        )

    def _fail(self, exc: Exception) -> None:
        telemetry.snapshot_written(self.view.component, type(exc).__name__)
        error = f"{type(exc).__name__}: {exc}"
        if error != self.error:
            what = f"the snapshot of {self.view.name!r} cannot be written: {error}"
            telemetry.snapshot_failed(self.view.component, what)
        self.error = error


def tell_aside(file: SnapshotFile, component: Component) -> None:
    """Report what has made room for a file, whether or not something has come of it."""
    put_aside, file.aside = file.aside, []
    for each in put_aside:
        telemetry.snapshot_put_aside(component, each.why.path, str(each.path), str(each.why))
