"""The sources of a settings object's values: the newest ones, or those that its class has last accepted."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

from tideover.codecs import Refusal
from tideover.config.assembly import Assembly
from tideover.config.decoded import decoder_for, refused
from tideover.config.reader import Reader
from tideover.config.readings import MISSING, absent, found
from tideover.prefixes.accepted_values import AcceptedValues
from tideover.prefixes.snapshots.snapshot import Accepted, Snapshot
from tideover.types import Reading, Source


class Newest:
    """The newest values, in etcd or as last known; `found` once there has been any."""

    def __init__(self, reader: Reader, assembly: Assembly[Any]) -> None:
        self.found = False
        self._reader = reader
        self._nested = tuple(f"{key}/" for key in assembly.nested)
        # Updated by `apply_change`: going through all followed keys takes long.
        self._below = {key for prefix in self._nested for key in reader.keys_below(prefix)}

    def apply_change(self, key: str) -> None:
        """Apply a change, or a deletion, of a key, which may be below a field that is a record."""
        if key.startswith(self._nested):
            (self._below.add if self._reader.entry(key) is not None else self._below.discard)(key)

    def read(self, key: str, form: object) -> Reading[Any]:
        """Return a key's value; see `Origin`."""
        self.found = self.found or self._reader.entry(key) is not None
        return self._reader.read_quietly(key, form)

    def synced(self, key: str) -> bool:
        """Return whether an absent key is known to be absent."""
        return self._reader.synced(key)

    def below(self, prefix: str) -> list[str]:
        """Return the present keys below a field."""
        return [key for key in self._below if key.startswith(prefix)]


class LastAccepted:
    """The values that a class has last accepted; the newest ones for keys that the snapshot does not cover.

    A snapshot covers neither keys that must not be on disk nor fields that its version of the class did not have.
    """

    def __init__(
        self, snapshot: Snapshot, newest: Newest, reader: Reader, may_hold: Callable[[bytes], bool]
    ) -> None:
        self._may_hold = may_hold
        self._snapshot = snapshot
        self._newest = newest
        self._reader = reader
        self._keys = [reader.short_name(full) for full in snapshot.entries]

    def _covers(self, key: str) -> bool:
        full = self._reader.full_key(key)
        return self._may_hold(full) and self._snapshot.speaks_of(full)

    def read(self, key: str, form: object) -> Reading[Any]:
        """Return a key's value; see `Origin`."""
        if not self._covers(key):
            return self._newest.read(key, form)
        entry = self._snapshot.entries.get(self._reader.full_key(key))
        if entry is None:
            return absent(key, MISSING, Source.DISK, 0.0, stale=True)
        decode = decoder_for(key, form)
        try:
            value = decode(entry.value)
        except Refusal as exc:
            raise refused(key, entry.mod_revision, exc, decode.name) from exc
        return found(key, value, Source.DISK, entry.mod_revision, 0.0, stale=True)

    def synced(self, key: str) -> bool:
        """Return whether an absent key is known to be absent."""
        return self._covers(key) or self._newest.synced(key)

    def below(self, prefix: str) -> list[str]:
        """Return the present keys below a field."""
        others = (key for key in self._newest.below(prefix) if not self._covers(key))
        return [*(key for key in self._keys if key.startswith(prefix)), *others]


class Acceptance:
    """The values that a settings object has accepted, and accepts now."""

    def __init__(self, values: AcceptedValues, reader: Reader, assembly: Assembly[Any]) -> None:
        self._values = values
        self._reader = reader
        self._assembly = assembly
        self._prefix = reader.full_name(assembly.prefix).encode(errors="surrogateescape")

    @property
    def why_none(self) -> str:
        """Why no accepted values of an earlier process are known, in words."""
        if self._values.folder is None:
            return "without snapshots (cache_dir) no accepted value outlives its process"
        if not self._values.restored:
            return "what was accepted is still being read from disk"
        return "no value has been accepted before by this class at this prefix"

    def last(self, newest: Newest) -> LastAccepted | None:
        """Return the last accepted values, with the newest ones for all else; None if none were accepted."""
        snapshot = self._values.last(self._prefix, self._assembly.full_name, self._assembly.shape)
        return None if snapshot is None else LastAccepted(snapshot, newest, self._reader, self._values.may_hold)

    def accept(self, newest: Newest) -> None:
        """Record the newest values as accepted, unless they are not known, or are a test's."""
        reader, assembly, may_hold = self._reader, self._assembly, self._values.may_hold
        held = [key for key in assembly.keys if may_hold(reader.full_key(key))]
        if reader.overridden or not held or not all(map(newest.synced, held)):
            return
        below = [f"{key}/" for key in assembly.nested]
        entries = {reader.full_key(key): reader.entry(key) for key in chain(held, *map(newest.below, below))}
        spoken_of = frozenset(filter(may_hold, map(reader.full_key, (*held, *below))))
        label = Accepted(assembly.full_name, assembly.shape, spoken_of)
        present = {full: entry for full, entry in entries.items() if entry is not None and may_hold(full)}
        self._values.accept(self._prefix, label, present, reader.view_of(held[0]))
