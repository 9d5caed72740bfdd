"""A followed prefix: its last known content, and how fresh that is.

Guarantees. The content moves forward only, a whole revision at a time, except on a *reset*: when etcd is in
another history (`epoch`), that one is taken over in full. `rules` says as of when the content was
proven in sync; nothing else counts as fresh, least of all a quiet watch. No outage empties a view.

Not guaranteed: that every intermediate value is seen. After a compaction, or after a time in which no member was
reachable, the prefix is read in full and what changed is found by comparing.

This module holds the content and waits for nothing; `follower` keeps it up to date.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from tideover.broadcast import Broadcast
from tideover.client.client import Client
from tideover.cluster.state import Proof
from tideover.epoch.history import Epoch
from tideover.epoch.tracker import EpochTracker
from tideover.errors import AuthenticationFailed, PermissionDenied, TideoverError, Unavailable
from tideover.prefixes.rules import Freshness
from tideover.store.operations import RangeResult
from tideover.store.protocol import Event
from tideover.types import Component, Entry, HealthState, Source

# While there is no quorum, a surviving member is asked this often for what it knows.
MEMBER_READ_EVERY = 5.0


class ViewTooLarge(TideoverError):
    """Raised when a followed prefix holds more than the limit; what was known before stays served."""


@dataclass(frozen=True, slots=True)
class ViewRules:
    """The numbers of a view; durations are seconds.

    An open watch goes on delivering what this client may not read any more, hence `rights_every`. That is infinite
    where etcd is not told who this client is.
    """

    live_limit: float = 12.0  # since the last proof, for which content counts as live
    silence_limit: float = 10.0  # without an answer to a progress request, after which a watch counts as dead
    full_read_every: float = 600.0  # between full reads, which bound whatever a watch could miss
    rights_every: float = math.inf  # between two looks at whether this client may still read the prefix
    max_keys: int = 100_000
    max_bytes: int = 64 * 1024 * 1024  # of keys and values


class Origin(StrEnum):
    """Who gave the content."""

    NOTHING = "nothing"
    BOOTSTRAP = "bootstrap"
    DISK = "disk"
    MEMBER = "member"
    QUORUM = "quorum"


# Whose content says nothing of what is not in it.
_SILENT = (Origin.NOTHING, Origin.BOOTSTRAP)
# Looking a member of an enumeration up takes longer than the comparison, and requirements ask at each request.
_NOTHING, _BOOTSTRAP = _SILENT


class View:
    """The last known content of a prefix.

    `on_change` is called with what changed (key to its new entry, or None for a deleted key) and the revision,
    after `entries` has it.
    """

    def __init__(
        self,
        prefix: bytes,
        client: Client,
        *,
        identity: EpochTracker,
        rules: ViewRules,
        left_out: tuple[bytes, ...] = (),
        bootstrap: Mapping[bytes, Entry] | None = None,
        on_change: Callable[[Mapping[bytes, Entry | None], int], None],
    ) -> None:
        self.prefix = prefix
        self.entries: dict[bytes, Entry] = {}
        self.freshness = Freshness()
        self.origin = Origin.NOTHING
        self.changed = Broadcast()  # fires when content, freshness or trouble changed
        self.denied: PermissionDenied | None = None  # why a quorum refuses to let this client read the prefix
        self.trouble: TideoverError | None = None  # the last in following; None while all is well
        self.history = identity.history  # the one that the content is of
        self.resets = 0  # how often another history was taken over
        self.rules = rules
        self.component: Component = client.component
        self.bootstrapped: frozenset[bytes] = frozenset()  # the keys whose values are from `bootstrap`
        self._bootstrap = bootstrap or {}  # what is served of keys that neither etcd nor a snapshot knows
        self._cluster = client.state
        self._identity = identity
        self._clock = client.clock
        self._on_change = on_change
        self.size = 0  # bytes of all keys and values
        self._member_read_at = -math.inf
        self._left_out = left_out  # prefixes of keys that are in no snapshot, which says nothing about them

    def __repr__(self) -> str:
        """Show the prefix, where its content comes from, and how much it is."""
        source = self.source or "empty"
        return f"<View {self.name} {source} revision {self.freshness.reached}, {len(self.entries)} keys>"

    @property
    def name(self) -> str:
        """The prefix as text."""
        return self.prefix.decode(errors="backslashreplace")

    @property
    def synced(self) -> bool:
        """Whether anything was ever read, so that a key that is not there is known to be absent."""
        return self.origin is not _NOTHING and self.origin is not _BOOTSTRAP

    @property
    def known(self) -> bool:
        """Whether there is anything to serve, if only from the bootstrap file."""
        return self.origin is not _NOTHING

    @property
    def error(self) -> str | None:
        """The last trouble in following, in words; None while all is well."""
        return None if self.trouble is None else str(self.trouble)

    @property
    def refused(self) -> bool:
        """Whether etcd was asked and it cannot be read all the same, such as for want of rights."""
        passing = self.trouble is None or isinstance(self.trouble, Unavailable | AuthenticationFailed)
        return self.denied is not None or not passing

    @property
    def awaited(self) -> bool:
        """Whether etcd is about to be heard for the first time: it was not yet, and nothing known prevents it."""
        health = self._cluster.health
        if self.origin not in (*_SILENT, Origin.DISK) or self.refused:
            return False
        if not health.decided or health.state is HealthState.AVAILABLE:
            return True
        return health.state is HealthState.DEGRADED and not self.synced and self.trouble is None

    @property
    def current(self) -> bool:
        """Whether the content is of the history that etcd is in, as far as is known."""
        return self.history is self._identity.history

    @property
    def age(self) -> float:
        """Seconds since the content was last proven in sync; infinite if that is unknown."""
        return self.freshness.age(self._clock.monotonic())

    def age_of(self, key: bytes) -> float:
        """Return the age of one key, which may be from the bootstrap file: then it is unknown."""
        return math.inf if key in self.bootstrapped else self.age

    def tells_of(self, key: bytes) -> bool:
        """Return whether a key that is not among the entries is known to be absent."""
        return self.synced and not (self.origin is Origin.DISK and self.leaves_out(key))

    def leaves_out(self, key: bytes) -> bool:
        """Return whether snapshots leave a key out."""
        return key.startswith(self._left_out)

    @property
    def source(self) -> Source | None:
        """The rung of the ladder the content stands on now; None if nothing was ever read."""
        if self.origin is Origin.NOTHING:
            return None
        state, proven = self._cluster.health.state, self.freshness.synced_at > self._cluster.health.lost_at
        if (
            state is HealthState.AVAILABLE
            and self.origin is Origin.QUORUM
            and proven
            and self.current
            and self.age <= self.rules.live_limit
        ):
            return Source.LIVE
        if self.origin is Origin.DISK or self.origin is _BOOTSTRAP:
            return Source.DISK
        asked_lately = self._clock.monotonic() - self._member_read_at <= 2 * MEMBER_READ_EVERY
        return Source.MEMBER if state is HealthState.DEGRADED and asked_lately else Source.MEMORY

    def begin(self) -> None:
        """Serve what is in the bootstrap file, until etcd or a snapshot knows better."""
        if self._bootstrap and not self.synced:
            self.origin = Origin.BOOTSTRAP
            content, bootstrapped = self.at_start(None)
            self._replace(content, 0, bootstrapped=bootstrapped)

    def at_start(self, snapshot: Mapping[bytes, Entry] | None) -> tuple[dict[bytes, Entry], frozenset[bytes]]:
        """Return what is served until etcd answers, and which of these keys are from the bootstrap file."""
        if snapshot is None:
            return dict(self._bootstrap), frozenset(self._bootstrap)
        content = {key: entry for key, entry in snapshot.items() if not self.leaves_out(key)}
        bootstrapped = {key: entry for key, entry in self._bootstrap.items() if self.leaves_out(key)}
        return {**content, **bootstrapped}, frozenset(bootstrapped)

    def restore(
        self,
        entries: Mapping[bytes, Entry],
        *,
        freshness: Freshness,
        history: Epoch,
    ) -> None:
        """Begin with the content of a snapshot; `freshness` is in this process's monotonic seconds."""
        self.freshness, self.history = freshness, history
        self.origin = Origin.DISK
        content, bootstrapped = self.at_start(entries)
        self._replace(content, freshness.reached, bootstrapped=bootstrapped)

    def take_quorum(self, found: RangeResult, sent_at: float, history: Epoch) -> None:
        """Apply a linearizable full read of `history` that was asked for at `sent_at`, in monotonic seconds."""
        self._enter(history)
        self.origin = Origin.QUORUM
        self.denied = self.trouble = None
        revision = found.header.revision
        self.freshness = self.freshness.moved(revision).asked(sent_at, revision)
        self._replace(found.entries, revision)

    def _enter(self, history: Epoch) -> None:
        """Forget how fresh the content is if it is of another history: revisions of two cannot be compared."""
        if self.synced and history is not self.history:
            self.resets += 1
            self.freshness = Freshness()
        self.history = history

    def contradiction(self, found: RangeResult) -> str | None:
        """Return why a full read is of another history than the content; None if it need not be.

        Whatever was last changed at a revision that the content has reached must be as it is here.
        """
        reached = self.freshness.reached
        if not self.synced:
            return None
        for key, entry in found.entries.items():
            known = entry.mod_revision > reached or self.entries.get(key) == entry
            if not known and not (self.origin is Origin.DISK and self.leaves_out(key)):
                return (
                    f"a key under {self.name!r} has another past: revision {entry.mod_revision} is not as it was"
                )
        return None

    def newest_entry(self) -> tuple[bytes, Entry] | None:
        """Return the key that was changed last, and its entry; None if there is none, in etcd or a snapshot."""
        known = (item for item in self.entries.items() if item[0] not in self.bootstrapped)
        return max(known, key=lambda item: item[1].mod_revision, default=None)

    def take_member(self, found: RangeResult) -> bool:
        """Apply a serializable full read, unless it is older than what is known; return whether it was applied."""
        header = found.header
        if self.synced and self.current and header.revision < self.freshness.reached:
            return False
        self._enter(self._identity.history)
        if self.origin is not Origin.QUORUM:
            self.origin = Origin.MEMBER
        self._member_read_at = self._clock.monotonic()
        self.freshness = self.freshness.moved(header.revision)
        self._replace(found.entries, header.revision)
        return True

    def confirm_member(self, sent_at: float) -> None:
        """Record that the member of the last such read had nothing else when it was asked then."""
        self._member_read_at = max(self._member_read_at, sent_at)

    def take_events(self, events: Sequence[Event]) -> None:
        """Apply events of a watch: whole revisions, in order.

        Raises:
            ViewTooLarge: The view has outgrown its limit; the events from there on are not applied.
        """
        fresh = (event for event in events if event.revision > self.freshness.reached)
        # One at a time, so that each is announced with its own revision and none is hidden by a later one.
        for revision, whole in groupby(fresh, key=lambda event: event.revision):
            self._take_revision(revision, {event.key: event.entry for event in whole})

    def _take_revision(self, revision: int, changes: Mapping[bytes, Entry | None]) -> None:
        size = self.size + sum(
            self._weight(k, e) - self._weight(k, self.entries.get(k)) for k, e in changes.items()
        )
        grown = sum(
            (e is not None) - (k in self.entries) for k, e in changes.items() if e is None or k not in self.entries
        )
        self.check_size(len(self.entries) + grown, size)
        for key, entry in changes.items():
            if entry is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = entry
        self.size = size
        self._move(self.freshness.moved(revision))
        self._announce(changes, revision)

    def take_progress(self, requested_at: float, revision: int) -> None:
        """Apply a progress reply of the watch; see `Freshness.confirmed`."""
        self._move(self.freshness.confirmed(requested_at, revision))

    def take_comparison(self, found: RangeResult, sent_at: float) -> bool:
        """Apply a linearizable look at what has changed since the view's revision; return whether nothing has.

        `found` has the keys changed since, and counts all keys; `sent_at` is in monotonic seconds.
        """
        same = not found.entries and found.count == len(self.entries)
        if same:
            self._move(self.freshness.compared(sent_at))
        return same

    def take_proof(self, proof: Proof) -> None:
        """Apply a linearizable read made elsewhere; see `Freshness.asked`."""
        self._move(self.freshness.asked(proof.sent_at, proof.header.revision))

    def check_size(self, keys: int, size: int) -> None:
        """Raise `ViewTooLarge` if so many keys, or keys and values of so many bytes, are over the limit."""
        if keys > self.rules.max_keys or size > self.rules.max_bytes:
            raise ViewTooLarge(
                f"{self.name!r} holds more than {self.rules.max_keys} keys or {self.rules.max_bytes} bytes: "
                "follow narrower prefixes"
            )

    @staticmethod
    def _weight(key: bytes, entry: Entry | None) -> int:
        return 0 if entry is None else len(key) + len(entry.value)

    def _move(self, freshness: Freshness) -> None:
        if freshness != self.freshness:
            self.freshness = freshness
            self.changed.fire()

    def _replace(
        self, entries: dict[bytes, Entry], revision: int, *, bootstrapped: frozenset[bytes] = frozenset()
    ) -> None:
        old = self.entries
        # In the order of the revisions they are announced with: deletions are known as of this read only.
        changed = sorted((e.mod_revision, k) for k, e in entries.items() if old.get(k) != e)
        changes: dict[bytes, Entry | None] = {k: entries[k] for _, k in changed}
        changes.update(dict.fromkeys(sorted(old.keys() - entries.keys())))
        self.entries, self.bootstrapped = entries, bootstrapped
        self.size = sum(self._weight(k, e) for k, e in entries.items())
        self._announce(changes, revision)

    def _announce(self, changes: Mapping[bytes, Entry | None], revision: int) -> None:
        if changes:
            self._on_change(changes, revision)
        self.changed.fire()
