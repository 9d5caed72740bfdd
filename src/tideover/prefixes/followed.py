"""Prefixes that are followed: each one's view, its snapshot on disk, and the task that keeps it up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path

import anyio

from tideover import telemetry
from tideover.client.client import Client
from tideover.client.namespaces import Namespaces
from tideover.epoch.tracker import EpochTracker
from tideover.options import Options
from tideover.paths import default_folder
from tideover.prefixes.accepted_values import AcceptedValues
from tideover.prefixes.doubts import Doubts
from tideover.prefixes.follower import Follower
from tideover.prefixes.snapshot_writer import SnapshotWriter
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.prefixes.snapshotter import Snapshotter
from tideover.prefixes.view import View, ViewRules
from tideover.types import Component, Entry

# Seconds between two looks at whether a client with an identity may still read what it follows.
RIGHTS_EVERY = 60.0
# How many snapshots are written at the same time.
_WRITERS = 4

TakeChanges = Callable[[Mapping[bytes, Entry | None], int], None]


class Followed:
    """One followed prefix: its view, and what keeps the view on disk; None if nothing does."""

    def __init__(self, view: View, keeper: Snapshotter | None, following: Following) -> None:
        self.view = view
        self.keeper = keeper
        self._following = following

    @property
    def restored(self) -> bool:
        """Whether it is known what an earlier process has left on disk."""
        return self.keeper is None or self.keeper.restored

    @property
    def awaited(self) -> bool:
        """Whether more is about to be known than is now: from etcd for the first time, or else from the disk."""
        return self.view.awaited or not (self.restored or self.view.synced)

    async def run(self) -> None:
        """Keep it up to date, here and on disk, until cancelled."""
        kept = nullcontext() if self.keeper is None else self._following.writer.keeping(self.keeper)
        with kept:
            await self._following.follower(self.view).run()


def at_start(followed: Iterable[Followed], base: str) -> dict[str, Entry]:
    """Return the followed configuration that a start without etcd begins with, by key without `base`. Blocks.

    That is what an earlier process has left on disk, and where it has left nothing, the bootstrap file.
    """
    known: dict[str, Entry] = {}
    for each in followed:
        entries = each.view.at_start(None)[0] if each.keeper is None else each.keeper.peek()
        known |= {key.decode(errors="surrogateescape").removeprefix(base): entry for key, entry in entries.items()}
    return known


class Following:
    """Makes what is needed to follow a prefix, in the same way for all of a coordinator's."""

    def __init__(
        self,
        client: Client,
        options: Options,
        *,
        identity: EpochTracker,
        namespaces: Namespaces,
        bootstrap: Mapping[bytes, Entry],
    ) -> None:
        self._client = client
        self._namespaces = namespaces  # where else to look for what is not there
        self._bootstrap = bootstrap  # by full key, for keys that neither etcd nor a snapshot knows
        self._options = options
        self._identity = identity
        self.doubts = Doubts(client.state, client.ticker)  # run in the background, as `writer` is
        self.writer = SnapshotWriter(client.clock, client.home)
        self._writers = anyio.CapacityLimiter(_WRITERS)
        self._folder = _snapshot_folder(options)
        self.rights_every = RIGHTS_EVERY  # seconds between two looks at whether what is followed may still be read
        self._rules = ViewRules(rights_every=self.rights_every) if options.has_identity else ViewRules()

    def follow(
        self,
        prefix: str,
        *,
        component: Component,
        on_change: TakeChanges,
        exclude: tuple[str, ...] = (),
        may_save: Callable[[], bool] = lambda: True,
    ) -> Followed:
        """Return what follows a whole prefix in etcd; nothing happens before it is run.

        `on_change` is called with what has changed (None: deleted), and the revision. Keys that begin with a whole
        prefix in `exclude` are not written to disk, and the others only while `may_save` returns True.
        """
        start, excluded = prefix.encode(), tuple(each.encode() for each in exclude)
        view = View(
            start,
            self._client.of(component),
            identity=self._identity,
            rules=self._rules,
            left_out=excluded,
            bootstrap={key: entry for key, entry in self._bootstrap.items() if key.startswith(start)},
            on_change=on_change,
        )
        return Followed(view, self._keeper(view, excluded, may_save), self)

    def follower(self, view: View) -> Follower:
        """Return what brings a view up to date."""
        return Follower(
            view,
            self._client.of(view.component),
            identity=self._identity,
            doubts=self.doubts,
            namespaces=self._namespaces if self._options.bookkeeping else None,
        )

    def accepted(self) -> AcceptedValues:
        """Return what keeps what settings objects have accepted; nothing happens before it is run."""
        return AcceptedValues(self._folder, self._options, clock=self._client.clock)

    def _keeper(self, view: View, exclude: tuple[bytes, ...], may_save: Callable[[], bool]) -> Snapshotter | None:
        if self._folder is None:
            return None
        file = SnapshotFile(
            self._folder,
            SnapshotOwner.of(self._options),
            prefix=view.prefix,
            component=view.component,
            encryption=self._options.encryption,
        )
        return Snapshotter(
            view,
            file,
            identity=self._identity,
            clock=self._client.clock,
            exclude=exclude,
            may_save=may_save,
            writers=self._writers,
        )


def _snapshot_folder(options: Options) -> Path | None:
    if options.cache_dir is False:
        return None
    try:
        return default_folder() if options.cache_dir is None else Path(options.cache_dir)
    except RuntimeError as exc:
        telemetry.snapshot_failed(None, f"no snapshots are kept: {exc}")
        return None
