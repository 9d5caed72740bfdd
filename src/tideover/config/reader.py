"""Reading followed keys: synchronous, never any I/O.

The warm path is `get`: two dict look-ups and one comparison. `refresh` has worked out beforehand whether an answer
can be anything but the live value, and has summed that up in `_mode`. A read in an outage takes the same path,
plus one look at the request's record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeVar, overload

from tideover import telemetry
from tideover.client.client import Client
from tideover.cluster.rules.health import reason_of
from tideover.codecs import Decoder, Refusal
from tideover.config.decoded import Values, decoder_for, refused
from tideover.config.keys import Keys
from tideover.config.limits import Limits
from tideover.config.overrides import Overrides
from tideover.config.read_counts import ReadCounts
from tideover.config.readings import MISSING, absent, found
from tideover.errors import AuthenticationFailed, ConfigKeyError, ConfigValueError, NotSynced
from tideover.policies import StalenessLimit
from tideover.prefixes.rules import Verdict
from tideover.prefixes.view import View
from tideover.request_record import Mark, present_record
from tideover.status import RejectedValue
from tideover.telemetry import current_context
from tideover.types import Entry, Reading, Source

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")
D = TypeVar("D")

COMPONENT = "config"

# What a read must do beyond the look-up: nothing; mark the request; compare the age with a limit; everything.
_PLAIN, _DEGRADED, _LIMITED, _CHECKED = range(4)


class Reader:
    """Reads the followed keys, as last known.

    The warm path has no time for objects of its own, and needs the attributes of a `Config` to be 28 at the most:
    CPython keeps more of them in a dict, which makes a read a fifth slower.
    """

    def __init__(
        self,
        client: Client,
        base: str,
        views: Sequence[View],
        *,
        limits: Mapping[str, StalenessLimit],
        since: Callable[[], str],
    ) -> None:
        self._lifecycle = client.lifecycle
        self._keys = Keys(base, views)
        self._cluster = client.state
        self._monotonic = client.clock.monotonic
        self._limits = Limits(limits, since)
        self._outage_id = client.outage_id
        self._since = since
        self._values = Values(entry_of=self._entry, on_rejected=telemetry.config_rejected)
        self._warm = self._values.warm
        self._overrides = Overrides(self._keys)
        self._mode = _CHECKED
        self._unlimited_until = 0.0
        self._marked_context: object = None
        # `refresh` moves these two to the others.
        self._plain_reads = 0
        self._degraded_reads = 0
        self._degraded_source = Source.MEMORY
        self._counts = ReadCounts()

    def __repr__(self) -> str:
        """Show the followed prefixes."""
        return f"<{type(self).__name__} {self._keys.base} {list(self._keys.views)}>"

    @overload
    def get(self, key: str) -> str: ...
    @overload
    def get(self, key: str, type: TypeForm[T]) -> T: ...
    @overload
    def get(self, key: str, *, default: D) -> str | D: ...
    @overload
    def get(self, key: str, type: TypeForm[T], *, default: D) -> T | D: ...
    def get(self, key: str, type: object = str, *, default: object = MISSING) -> object:
        """Return the value of a followed key. No I/O, ever; callable from any thread.

        The value is decoded once per revision and shared by all reads: do not change a list, dict, dataclass
        or model that a read returns.

        Args:
            key: The key, without the namespace.
            type: What to decode it as; see `tideover.codecs.decode`.
            default: Returned if the key is absent or nothing is known of it.

        Returns:
            The value, or the default.

        Raises:
            ConfigKeyError: The key is absent and there is no default.
            NotSynced: Nothing is known of the key's prefix and there is no default.
            NotFollowed: The key is in no followed prefix.
            ConfigValueError: The value is of another type, no earlier value was, and there is no default.
            TooStale: The value is older than its limit allows.
            PermissionDenied: A quorum refuses to let this client read the prefix.
            AuthenticationFailed: Nothing is known of the prefix, because a quorum refuses the credentials.
            InvalidRequest: The key cannot be a key.
            TypeError: The type cannot be decoded, whether there is a value or not.
            Closed: The coordinator is not open.

        When degraded:
            The last known value, of this process or of an earlier one, and the request is marked as degraded.
        """
        try:
            value = self._warm[type][key]
        except (KeyError, TypeError):
            return self._look_up(key, type, default).value
        mode = self._mode
        if not mode:
            self._plain_reads += 1
            return value
        if mode == _LIMITED:
            # In two steps: CPython calls an attribute quicker that it has loaded as a value.
            monotonic = self._monotonic
            if monotonic() < self._unlimited_until:
                self._plain_reads += 1
                return value
        if mode == _DEGRADED:
            record = present_record()
            if current_context() is self._marked_context if record is None else COMPONENT in record.marks:
                self._degraded_reads += 1
            else:
                self._note_view(self.view_of(key))
            return value
        return self._look_up(key, type, default).value

    @overload
    def read(self, key: str) -> Reading[str | None]: ...
    @overload
    def read(self, key: str, type: TypeForm[T]) -> Reading[T | None]: ...
    @overload
    def read(self, key: str, *, default: D) -> Reading[str | D]: ...
    @overload
    def read(self, key: str, type: TypeForm[T], *, default: D) -> Reading[T | D]: ...
    def read(self, key: str, type: object = str, *, default: object = MISSING) -> Reading[object]:
        """Return the value of a followed key together with the truth about it. No I/O, ever.

        Args:
            key: The key, without the namespace.
            type: What to decode it as; see `tideover.codecs.decode`.
            default: The reading's value if the key is absent or nothing is known of it.

        Returns:
            The reading; `present` is False and `value` the default, or None, if the key is absent or unknown.

        Raises:
            NotFollowed: The key is in no followed prefix.
            ConfigValueError: The value is of another type, no earlier value was, and there is no default.
            TooStale: The value is older than its limit allows.
            PermissionDenied: A quorum refuses to let this client read the prefix.
            AuthenticationFailed: Nothing is known of the prefix, because a quorum refuses the credentials.
            InvalidRequest: The key cannot be a key.
            TypeError: The type cannot be decoded, whether there is a value or not.
            Closed: The coordinator is not open.

        When degraded:
            The last known value with its source and age, and the request is marked as degraded.
        """
        return self._look_up(key, type, default, strict=False)

    def _look_up(self, key: str, form: object, default: object, *, strict: bool = True) -> Reading[object]:
        """Read with all checks; `strict` raises for an absent key without a default."""
        view = self.view_of(key)
        decode = decoder_for(key, form)
        if (laid := self._overridden(key, form, decode, default)) is not None:
            return laid
        full = self._keys.full(key)
        source, age, entry = view.source, view.age_of(full), view.entries.get(full)
        if view.denied is not None:
            raise view.denied
        known = source is not None and (entry is not None or view.tells_of(full))
        if not known and not view.synced and self._cluster.health.unauthorized:
            # No outage: a default would hide wrong credentials.
            raise AuthenticationFailed(f"nothing is known of {key!r}: {self._since()}, and there is no snapshot")
        required = strict and default is MISSING
        if source is None or not known:
            if required:
                raise NotSynced(key, f"nothing is known of {key!r}: {self._since()}")
            return self._defaulted(key, default, math.inf)
        stale = source is not Source.LIVE
        exceeded = self._limits.exceeded(key, age, has_default=default is not MISSING)
        if exceeded is not None:
            stale = True
            if exceeded is Verdict.DEFAULT:
                return self._defaulted(key, default, age)
        if entry is None:
            if required:
                raise ConfigKeyError(key, f"no configuration key {key!r}: etcd has no {self._keys.base + key!r}")
            return self._absent(key, default, source, age, stale=stale)
        try:
            value = self._values.value(key, form, decode, entry)
        except ConfigValueError as exc:
            if default is MISSING:
                raise
            self._note(source, age, degraded=stale)
            return found(key, default, Source.DEFAULT, 0, age, stale=stale, rejected=exc.revision)
        self._note(source, age, degraded=stale)
        revision = self._values.revision(key, decode) or entry.mod_revision
        rejection = self._values.rejection(key, decode)
        return found(key, value, source, revision, age, stale=stale, rejected=rejection and rejection[0])

    def _overridden(
        self, key: str, form: object, decode: Decoder, default: object, *, counted: bool = True
    ) -> Reading[object] | None:
        """Return the reading of a key that a test overrides; None if none does."""
        overrides = self._overrides
        entry = overrides.entries.get(self._keys.full(key)) if overrides.layers else None
        if entry is None:
            return None
        if counted:
            self._counts.add(Source.OVERRIDE)
        try:
            value = overrides.values.value(key, form, decode, entry)
        except ConfigValueError as exc:
            if default is MISSING:
                raise
            return found(key, default, Source.DEFAULT, 0, 0.0, stale=False, rejected=exc.revision)
        return found(key, value, Source.OVERRIDE, entry.mod_revision, 0.0, stale=False)

    def _defaulted(self, key: str, default: object, age: float) -> Reading[object]:
        """Return the default because nothing is known, or the known value is too old."""
        self._note(Source.DEFAULT, age, degraded=True)
        return absent(key, default, Source.DEFAULT, age, stale=True)

    def _absent(self, key: str, default: object, source: Source, age: float, *, stale: bool) -> Reading[object]:
        """Return the default because the key is known to be absent; mark the request with the source of that."""
        self._note(source, age, degraded=stale)
        return absent(key, default, source, age, stale=stale)

    def _reading(
        self,
        key: str,
        decode: Decoder,
        default: object,
        entry: Entry | None,
        source: Source,
        synced_at: float,
        *,
        stale: bool | None = None,
    ) -> Reading[object]:
        """Make a reading of an entry that did not come from a view."""
        age = self._monotonic() - synced_at
        stale = source is not Source.QUORUM if stale is None else stale
        if entry is None:
            return self._absent(key, default, source, age, stale=stale)
        if source is Source.QUORUM:
            self._counts.add(source)
        else:
            self._note(source, age, degraded=stale)
        try:
            value = decode(entry.value)
        except Refusal as exc:
            telemetry.config_rejected(key, entry.mod_revision, str(exc))
            if default is MISSING:
                raise refused(key, entry.mod_revision, exc) from exc
            return found(key, default, Source.DEFAULT, 0, age, stale=stale, rejected=entry.mod_revision)
        return found(key, value, source, entry.mod_revision, age, stale=stale)

    def read_quietly(self, key: str, form: object) -> Reading[object]:
        """Read for a settings object, whose own use is counted and marked later.

        Raises `ConfigValueError` if the present value is refused.
        """
        view = self.view_of(key)
        decode = decoder_for(key, form)
        if (laid := self._overridden(key, form, decode, MISSING, counted=False)) is not None:
            return laid
        full = self._keys.full(key)
        entry, age = view.entries.get(full), view.age_of(full)
        source = view.source or Source.DEFAULT
        stale = source is not Source.LIVE
        if entry is None:
            return absent(key, MISSING, source, age, stale=stale)
        value = self._values.value(key, form, decode, entry)
        rejection = self._values.rejection(key, decode)
        if rejection is not None:
            raise refused(key, *rejection)
        return found(key, value, source, self._values.revision(key, decode), age, stale=stale)

    def note_use(self, key: str) -> None:
        """Count the use of a settings object as a read: check the limit of its key, and mark the request.

        Raises:
            TooStale: The key's prefix is older than its limit allows.
            PermissionDenied: A quorum refuses to let this client read the prefix.
            Closed: The coordinator is not open.
        """
        if self._mode != _PLAIN:
            view = self.view_of(key)
            if self._keys.full(key) in self._overrides.entries:
                self._counts.add(Source.OVERRIDE)
                return
            if view.denied is not None:
                raise view.denied
            self._limits.exceeded(key, view.age_of(self._keys.full(key)), has_default=False)
            self._note_view(view)

    def synced(self, key: str) -> bool:
        """Whether an absent followed key is known to be absent."""
        return self.view_of(key).tells_of(self._keys.full(key))

    def views_under(self, prefix: str) -> tuple[View, ...]:
        """Return the views of the followed keys under a prefix; raise as `check_prefix`, or `Closed`."""
        self._ensure_open()
        return self._keys.views_under(prefix)

    def is_live(self, key: str) -> bool:
        """Whether a quorum has lately confirmed a followed key's value or absence."""
        return self._keys.followed(key).source is Source.LIVE

    def keys_below(self, prefix: str) -> list[str]:
        """Return the present keys below a prefix; goes through all followed keys there."""
        full = self.full_name(prefix).encode(errors="surrogateescape")
        known = chain(*(view.entries for view in self.views_under(prefix)), self._overrides.entries)
        return [self._keys.short(key) for key in dict.fromkeys(known) if key.startswith(full)]

    @property
    def overridden(self) -> list[str]:
        """The keys that a test overrides."""
        return [self._keys.short(full) for full in self._overrides.entries]

    def check_prefix(self, prefix: str) -> None:
        """Raise `NotFollowed` if no key under the prefix is followed, `InvalidRequest` if a slash begins it."""
        self._keys.check_prefix(prefix)

    def full_name(self, prefix: str) -> str:
        """Return a key or prefix as etcd has it."""
        return self._keys.base + prefix

    def full_key(self, key: str) -> bytes:
        """Return a key as etcd has it; raise `InvalidRequest` if the key is malformed."""
        return self._keys.full(key)

    def short_name(self, full: bytes) -> str:
        """Return an etcd key as `get` names it."""
        return self._keys.short(full)

    def view_of(self, key: str) -> View:
        """Return the view of a followed key; raise `NotFollowed`, `InvalidRequest` or `Closed`."""
        self._ensure_open()
        return self._keys.followed(key)

    def _ensure_open(self) -> None:
        self._lifecycle.check()

    def entry(self, key: str) -> Entry | None:
        """Return the entry that a read of a key sees; None if it is absent or not followed."""
        full = self._keys.full(key)
        return self._overrides.entries.get(full) or self._entry_of(full)

    def _entry(self, key: str) -> Entry | None:
        return self._entry_of(self._keys.full(key))

    def _entry_of(self, full: bytes) -> Entry | None:
        view = self._keys.view_of(full)
        return None if view is None else view.entries.get(full)

    def _note(self, source: Source, age: float, *, degraded: bool) -> None:
        """Count a read, and mark the request or the span if it is the first degraded one there."""
        self._counts.add(source, degraded=degraded)
        if not degraded:
            return
        record = present_record()
        if record is None:
            # Outside of a request there is no record, and each span is marked once.
            self._marked_context = current_context()
            telemetry.mark_span(self._mark(source, age), COMPONENT, None)
        elif COMPONENT not in record.marks:
            record.marks[COMPONENT] = mark = self._mark(source, age)
            telemetry.mark_span(mark, COMPONENT, record)

    def _note_view(self, view: View) -> None:
        source = view.source or Source.DEFAULT
        self._note(source, view.age, degraded=source is not Source.LIVE)

    def _mark(self, source: Source, age: float) -> Mark:
        return Mark(
            source, age, reason_of(self._cluster.health.state, self._cluster.health.diagnosis), self._outage_id()
        )

    def refresh(self) -> None:
        """Update what reads must check: called when health, freshness or trouble has changed."""
        self._fold_counts()
        self._marked_context = None
        views = self._keys.views
        if (
            not self._lifecycle.is_open
            or self._overrides.layers
            or any(v.denied is not None or not v.synced or v.bootstrapped for v in views)
        ):
            self._mode = _CHECKED
            return
        live, tightest = sum(v.source is Source.LIVE for v in views), self._limits.tightest
        if live == 0 and views and tightest is None:
            self._mode = _DEGRADED
            self._degraded_source = views[0].source or Source.MEMORY
        elif live < len(views):
            self._mode = _CHECKED
        elif tightest is not None:
            self._unlimited_until = min((v.freshness.synced_at for v in views), default=0.0) + tightest
            self._mode = _LIMITED
        else:
            self._mode = _PLAIN

    def next_refresh(self) -> float:
        """Return the seconds until time alone may change what reads must check."""
        ages = [v.age for v in self._keys.views if v.source is Source.LIVE]
        return max(0.01, self._keys.views[0].rules.live_limit - max(ages)) if ages else math.inf

    def redecode(self, changes: Mapping[bytes, Entry | None]) -> None:
        """Decode changed keys again, for all types that they were read as."""
        for full, entry in changes.items():
            self._values.apply(self._keys.short(full), entry)

    def close(self) -> None:
        """Refuse all reads from now on."""
        # A new dict, not a cleared one: a thread that is decoding must not make a value warm again.
        self._warm = {}
        self._mode = _CHECKED

    @property
    def rejected(self) -> tuple[RejectedValue, ...]:
        """Values in etcd that are refused, one per key."""
        return self.first_rejected(None)[0]

    def first_rejected(self, most: int | None) -> tuple[tuple[RejectedValue, ...], int]:
        """Return up to `most` refused values in etcd, one per key, and the number of all."""
        return self._values.first_rejected(most)

    def count_reads(self) -> Mapping[tuple[str, bool], int]:
        """Count the reads by source, and by whether they were degraded."""
        with self._counts.moving:
            counts = self._counts.copy()
            counts[Source.LIVE.value, False] += self._plain_reads
            counts[self._degraded_source.value, True] += self._degraded_reads
        return +counts

    def _fold_counts(self) -> None:
        with self._counts.moving:
            plain, self._plain_reads = self._plain_reads, 0
            degraded, self._degraded_reads = self._degraded_reads, 0
            self._counts.add(Source.LIVE, plain)
            self._counts.add(self._degraded_source, degraded, degraded=True)
