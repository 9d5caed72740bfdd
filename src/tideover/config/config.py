"""`tide.config`: `Reader`, and everything that may wait."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, overload

import anyio

from tideover import telemetry
from tideover.broadcast import Broadcast
from tideover.client.client import Client
from tideover.client.parts import Part
from tideover.client.read_batching import Coalescer
from tideover.codecs import Decoder, encode
from tideover.config.assembly import Assembly
from tideover.config.bound import Bound, OnInvalid
from tideover.config.changes import Changes, Subscriptions
from tideover.config.decoded import decoder_for
from tideover.config.fetch_cache import OnDemandCache
from tideover.config.keys import settings_prefix
from tideover.config.listener import Listener
from tideover.config.live import Live
from tideover.config.news import News
from tideover.config.overrides import Layer, Overrides
from tideover.config.reader import Reader
from tideover.config.readings import MISSING
from tideover.errors import InvalidRequest, Unavailable
from tideover.fencing.guard import Guard
from tideover.options import Options
from tideover.policies import RetryPolicy
from tideover.prefixes.accepted_values import AcceptedValues
from tideover.prefixes.view import View
from tideover.shown import quoted
from tideover.status import RejectedValue
from tideover.store.operations import Delete, Put, Range, WriteResult
from tideover.store.transactions import Txn
from tideover.types import Change, Entry, Reading, Source, Written

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")
D = TypeVar("D")

# Seconds a write waits for this process's own view to show it.
_VISIBLE_WITHIN = 1.0
# The part of a fetch's timeout that is kept for asking a surviving member: at most so many seconds, and this
# share.
_MEMBER_TIME = 0.5
_MEMBER_SHARE = 0.25


def quorum_time(timeout: float) -> float:
    """Return the seconds of a fetch's timeout for asking the quorum; the rest is for a member."""
    return timeout - min(_MEMBER_TIME, timeout * _MEMBER_SHARE)


class Config(Reader, Part):
    """The configuration of one coordinator."""

    def __init__(
        self,
        client: Client,
        options: Options,
        views: Sequence[View],
        *,
        coalescer: Coalescer,
        accepted: AcceptedValues,
        since: Callable[[], str],
        listeners: Sequence[Listener],
    ) -> None:
        super().__init__(client, options.base, views, limits=options.limits, since=since)
        self._home = client.home
        self._gateway = client.calls
        self._coalescer = coalescer
        self._options = options
        self._accepted = accepted
        self._news = News(views, client)
        self._on_demand = OnDemandCache(options.cache, clock=client.clock)
        self._subscriptions = Subscriptions(client.home)
        self._bound: weakref.WeakSet[Live[Any]] = weakref.WeakSet()
        self._listeners = listeners

    @overload
    async def fetch(self, key: str, *, timeout: float | None = None) -> Reading[str | None]: ...
    @overload
    async def fetch(self, key: str, type: TypeForm[T], *, timeout: float | None = None) -> Reading[T | None]: ...
    @overload
    async def fetch(self, key: str, *, default: D, timeout: float | None = None) -> Reading[str | D]: ...
    @overload
    async def fetch(
        self, key: str, type: TypeForm[T], *, default: D, timeout: float | None = None
    ) -> Reading[T | D]: ...
    async def fetch(
        self, key: str, type: object = str, *, default: object = MISSING, timeout: float | None = None
    ) -> Reading[object]:
        """Ask etcd for a key, followed or not, and walk down the ladder if etcd is away.

        Args:
            key: The key, without the namespace.
            type: What to decode it as; see `tideover.codecs.decode`.
            default: The reading's value if the key is absent, or unknown and etcd is away.
            timeout: Seconds for the whole walk; None means the retry policy's.

        Returns:
            The reading; `present` is False if the key is absent.

        Raises:
            Unavailable: No rung has an answer and there is no default.
            ConfigValueError: The value is of another type and there is no default.
            PermissionDenied: A quorum refuses to let this client read the key.
            AuthenticationFailed: A quorum refuses the credentials.
            InvalidRequest: The key cannot be a key, or the timeout is not positive.
            TypeError: The type cannot be decoded, whether there is a value or not; nothing was asked.
            Closed: The coordinator is not open.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            A surviving member's answer (`MEMBER`), never older than what was already seen; else the last known
            value (`MEMORY`, `DISK`); else the default. In a declared outage without a member no packet is sent.
        """
        self._home.check(self)
        self._ensure_open()
        full, decode = self._keys.full(key), decoder_for(key, type)
        if (laid := self._overridden(key, type, decode, default)) is not None:
            return laid
        policy, patience = self._options.retry, None
        if timeout is not None:
            policy = self._policy(timeout)
            patience = quorum_time(timeout)
        with telemetry.fetching(self._options.namespace, key if self._options.record_keys else None):
            known = self._on_demand.fresh(full)
            if known is not None:
                return self._reading(
                    key, decode, default, known.entry, Source.MEMORY, known.synced_at, stale=False
                )
            began = self._monotonic()
            try:
                entry, sent_at = await self._coalescer.read(full, patience)
            except Unavailable as exc:
                left = began + policy.timeout - self._monotonic()
                reading = await self._fetch_member(key, full, decode, default, policy.within(max(left, 0.01)))
                return reading or self._fallback(key, full, type, default, exc)
            if self._keys.view_of(full) is None:
                self._on_demand.keep(full, entry, sent_at)
            return self._reading(key, decode, default, entry, Source.QUORUM, sent_at)

    async def _fetch_member(
        self, key: str, full: bytes, decode: Decoder, default: object, policy: RetryPolicy
    ) -> Reading[object] | None:
        try:
            answered = await self._gateway.call(Range(full, serializable=True), policy)
        except Unavailable:
            return None
        header = answered.result.header
        view = self._keys.view_of(full)
        if view is not None and view.synced and view.current:
            newest, synced_at = view.freshness.reached, view.freshness.synced_at
        else:
            newest, synced_at = 0, -math.inf
        proof = self._cluster.proof
        if proof is not None and proof.header.cluster_id == header.cluster_id:
            newest = max(newest, proof.header.revision)
            # The member has reached at least what the quorum had when it last answered.
            synced_at = max(synced_at, proof.sent_at)
        if header.revision < newest:
            return None
        entry = answered.result.entries.get(full)
        return self._reading(key, decode, default, entry, Source.MEMBER, synced_at)

    def _fallback(
        self, key: str, full: bytes, form: object, default: object, error: Unavailable
    ) -> Reading[object]:
        view = self._keys.view_of(full)
        if view is not None and (view.synced or full in view.entries):
            return self._look_up(key, form, default, strict=False)
        known = self._on_demand.last(full)
        if known is not None:
            return self._reading(key, decoder_for(key, form), default, known.entry, Source.MEMORY, known.synced_at)
        if default is MISSING:
            raise error
        return self._defaulted(key, default, math.inf)

    async def put(
        self, key: str, value: object, *, timeout: float | None = None, guard: Guard | None = None
    ) -> Written:
        """Write a key. Writes never degrade: they succeed or raise.

        Args:
            key: The key, without the namespace.
            value: A value of any type that `get` can read back; see `tideover.codecs.encode`.
            timeout: Seconds for everything; None means the retry policy's.
            guard: The fence of the write, from `held.guard()` or `term.guard()`: etcd applies the write only if
                the lock is held, or no other leader was elected, at that very moment. None writes in any case.

        Returns:
            The revision, and whether this process's own view shows it already.

        Raises:
            LockLost: The guard's lock is not held any more; nothing was written.
            LeadershipLost: The guard's term is over; nothing was written.
            OutcomeUnknown: The write was sent and may have been applied.
            Unavailable: etcd is away; the write was not applied.
            PermissionDenied: A quorum refuses to let this client write the key.
            AuthenticationFailed: A quorum refuses the credentials; nothing was written.
            SpaceExhausted: etcd's quota is used up.
            DataCorrupt: etcd accepts no writes, because it has found its data damaged.
            InvalidRequest: The key is malformed, or the value is larger than etcd accepts (1.5 MiB), or a proxy
                before it.
            TypeError: The value is of a type that cannot be stored.
            Closed: The coordinator is not open.
            WrongLoop: This is another event loop than the coordinator's; nothing was sent.

        When degraded:
            Raises; in a declared outage at once and without a packet.
        """
        self._home.check(self)
        self._ensure_open()
        full, data = self._keys.full(key), encode(value)
        try:
            return await self._write(full, Put(full, data), timeout, guard)
        except InvalidRequest as exc:
            exc.add_note(f"the value of {quoted(key)} has {len(data)} bytes; etcd takes 1.5 MiB by default")
            raise

    async def delete(self, key: str, *, timeout: float | None = None, guard: Guard | None = None) -> Written:
        """Delete a key; no error if it is absent. Writes never degrade: they succeed or raise.

        Args:
            key: The key, without the namespace.
            timeout: Seconds for everything; None means the retry policy's.
            guard: The fence of the deletion; see `put`.

        Returns:
            The revision, whether this process's own view shows it already, and whether the key was absent.

        Raises:
            LockLost: The guard's lock is not held any more; nothing was deleted.
            LeadershipLost: The guard's term is over; nothing was deleted.
            OutcomeUnknown: The deletion was sent and may have been applied.
            Unavailable: etcd is away; nothing was deleted.
            PermissionDenied: A quorum refuses to let this client delete the key.
            AuthenticationFailed: A quorum refuses the credentials; nothing was deleted.
            InvalidRequest: The key cannot be a key.
            Closed: The coordinator is not open.
            WrongLoop: This is another event loop than the coordinator's; nothing was sent.

        When degraded:
            Raises; in a declared outage at once and without a packet.
        """
        self._home.check(self)
        self._ensure_open()
        full = self._keys.full(key)
        return await self._write(full, Delete(full), timeout, guard)

    async def _send(self, op: Put | Delete, policy: RetryPolicy, guard: Guard | None) -> WriteResult:
        if guard is None:
            return (await self._gateway.call(op, policy)).result
        with guard.writing() as condition:
            result = (await self._gateway.call(Txn((condition,), then=(op,)), policy)).result
        if not result.succeeded:
            raise guard.refused()
        return result.written(0)

    async def _write(self, full: bytes, op: Put | Delete, timeout: float | None, guard: Guard | None) -> Written:
        self._on_demand.forget(full)
        try:
            result = await self._send(op, self._policy(timeout), guard)
        finally:
            # Again: a fetch meanwhile may have kept the former value.
            self._on_demand.forget(full)
        view, revision = self._keys.view_of(full), result.header.revision
        visible = view is not None
        if view is not None:
            with anyio.move_on_after(_VISIBLE_WITHIN) as scope:
                # A deletion of nothing has no event to wait for.
                while view.freshness.reached < revision and (full in view.entries or isinstance(op, Put)):
                    await view.changed.wait()
            visible = not scope.cancelled_caught
        return Written(revision, visible, absent=isinstance(op, Delete) and not result.deleted)

    def changes(self, prefix: str = "") -> Changes:
        """Return the changes of followed keys, from now on: `async for change in config.changes("payments/")`.

        Args:
            prefix: Only keys that begin so; empty means all followed keys.

        Returns:
            An async iterator. A reader slower than etcd sees the newest change of each key, not every one.

        Raises:
            NotFollowed: The prefix is not followed.
            InvalidRequest: The prefix begins with a slash.
            Closed: The coordinator is not open.

        When degraded:
            Silent; the changes made meanwhile come when etcd is back.
        """
        self._ensure_open()
        self._keys.check_prefix(prefix)
        return self._subscriptions.open(prefix)

    def bind(
        self,
        type: type[T],
        *,
        prefix: str = "",
        validate: Callable[[T], object] | None = None,
        on_invalid: OnInvalid = "raise",
    ) -> Live[T]:
        """Return a settings object that follows its keys.

        Args:
            type: A dataclass, a `TypedDict`, or a model of pydantic's; each field is the key `prefix + name`. A
                field with fields of its own is JSON under that key, or has a key for each of them: `db`, or
                `db/host` and `db/port`.
            prefix: The keys' common prefix, such as `"payments/"`; behind a letter or digit the slash is added.
            validate: Called with each new object; raising refuses it. The log, the event and the status show the
                text of an `InvalidValue`, and the class of any other exception.
            on_invalid: What to do if the object is not valid now: `"raise"`; or use the class's `"default"` for
                each refused value, and all defaults if the object as a whole is refused; or start with the values
                that the class has accepted `"last_good"` at this prefix, in this process or an earlier one. The
                newest values are tried first, and again at every change.

        Returns:
            The live object; its `value` is the last valid one, or stands in until there is one.

        Raises:
            ConfigKeyError: A field without a default has no key, and nothing stands in.
            NotSynced: The same, and nothing is known of the prefix.
            ConfigValueError: The object is not valid now, and nothing stands in: the refused value has no default,
                or no value was accepted before, or the accepted one is not valid any more. Without snapshots
                (`cache_dir=False`) accepted values end with the process.
            NotFollowed: The prefix is not followed.
            InvalidRequest: The prefix begins with a slash.
            TypeError: `type` is none of these, or a field's type cannot be decoded.
            ValueError: `on_invalid` is none of the three.
            Closed: The coordinator is not open.

        When degraded:
            Made of the last known values, without changes until etcd is back.
        """
        self._ensure_open()
        self._keys.check_start("prefix", prefix)
        prefix = settings_prefix(prefix)
        # First, because this error says more.
        decoder_for(prefix, type)
        return self.follow(Assembly(type, prefix, validate), on_invalid)

    def follow(self, assembly: Assembly[T], on_invalid: OnInvalid) -> Live[T]:
        """Return the settings object of an assembly; see `bind`."""
        live = Bound(assembly, reader=self, accepted=self._accepted, on_invalid=on_invalid)
        self._bound.add(live)
        live.report_unfound()
        return live

    def take_changes(self, changes: Mapping[bytes, Entry | None], revision: int) -> None:
        """Apply the changes of a view."""
        self._news.changed(changes, revision)
        self.redecode(changes)
        hidden = self._overrides.entries
        self._announce({full: entry for full, entry in changes.items() if full not in hidden}, revision)

    def _announce(self, changes: Mapping[bytes, Entry | None], revision: int) -> None:
        """Pass changes to all iterators, settings objects and listeners."""
        revisions = {}
        for full, entry in changes.items():
            key, at = self._keys.short(full), revision if entry is None else entry.mod_revision
            revisions[key] = at
            value = None if entry is None else entry.value.decode(errors="surrogateescape")
            self._subscriptions.publish(Change(key, value, at))
        # While the coordinator closes, events still come, and reads are refused.
        for live in list(self._bound) if self._lifecycle.is_open else ():
            live.apply_changes(revisions)
        for listener in list(self._listeners):
            listener.changed(revisions)

    def override(self, values: Mapping[str, bytes]) -> Layer:
        """Override values of etcd until `lift` gets the layer; for tests, see `tideover.testing.overriding`.

        Raises:
            InvalidRequest: A key is malformed.
            Closed: The coordinator is not open.
        """
        self._ensure_open()
        keys = {self._keys.full(key): data for key, data in values.items()}

        def add() -> Layer:
            # As if the values had been written this moment.
            at = {full: self._reached(full) for full in keys}
            layer = {full: Entry(data, at[full], at[full]) for full, data in keys.items()}
            self._lay((*self._overrides.layers, layer))
            return layer

        return self._home.loop.call(add)

    def lift(self, layer: Layer) -> None:
        """Remove a layer of `override`."""

        def remove() -> None:
            self._lay(tuple(each for each in self._overrides.layers if each is not layer))

        self._home.loop.call(remove, late=True)

    def _lay(self, layers: tuple[Layer, ...]) -> None:
        before, now = self._overrides.entries, Overrides(self._keys, layers)
        self._overrides = now
        if not self._lifecycle.is_open:
            return
        self.refresh()
        changes: dict[bytes, Entry | None] = {}
        for full in sorted(before.keys() | now.entries.keys()):
            etcd = self._entry_of(full)
            if now.entries.get(full, etcd) is not before.get(full, etcd):
                changes[full] = now.entries.get(full, etcd)
        # Together: a settings object may accept only all of them.
        self._announce(changes, max(map(self._reached, changes), default=0))

    def _reached(self, full: bytes) -> int:
        view = self._keys.view_of(full)
        return 0 if view is None else view.freshness.reached

    def started(self) -> None:
        """Record the end of the start: from now on the known values are served."""
        self.refresh()
        self._news.started()

    def refresh(self) -> None:
        """Update what reads must check, and report what is new."""
        super().refresh()
        if self._lifecycle.is_open:
            self._news.report()
        for listener in list(self._listeners):
            listener.refreshed()

    def begin(self) -> None:
        """Let reads through: the coordinator is open."""
        self.refresh()

    def health_changed(self) -> None:
        """Follow a change of etcd's health at once."""
        self.refresh()

    def reset(self, why: str, revision: int) -> None:
        """Drop the answers about keys that are not followed, and check the others: etcd shows another history."""
        self._on_demand.clear()
        for view in self._keys.views:
            view.changed.fire()

    def poison(self, why: str) -> None:
        """Refuse all reads: this is a forked child."""
        self.close()

    async def tend(self) -> None:
        """Call `refresh` after each change of the views, until cancelled."""
        news = Broadcast()
        for view in self._keys.views:
            view.changed.join(news)
        while True:
            changed = news.next()
            self.refresh()
            for live in list(self._bound):
                live.report_unfound()
            with anyio.move_on_after(self.next_refresh()):
                await changed.wait()

    def first_rejected(self, most: int | None) -> tuple[tuple[RejectedValue, ...], int]:
        """Return refused values by key and settings objects by prefix, up to `most`, and the number of all."""
        values, count = super().first_rejected(most)
        bound = [refused for live in list(self._bound) if (refused := live.refused) is not None]
        first = (*values, *bound)[:most]
        named = tuple(replace(refused, etcd_key=self.full_name(refused.key)) for refused in first)
        return named, count + len(bound)

    @property
    def unfound(self) -> tuple[str, ...]:
        """The prefixes of settings objects of which etcd has never had a key."""
        return tuple(sorted({live.prefix for live in list(self._bound) if live.unfound}))

    def close(self) -> None:
        """Refuse everything from now on, and end all iterations."""
        super().close()
        self._subscriptions.close()

    def _policy(self, timeout: float | None) -> RetryPolicy:
        if timeout is None:
            return self._options.retry
        if not timeout > 0:
            raise InvalidRequest(f"timeout must be more than 0 seconds, not {timeout}")
        return self._options.retry.within(timeout)
