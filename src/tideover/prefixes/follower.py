"""The task that keeps a view up to date: read at revision R, watch from R+1, prove, begin again.

Prior art: etcd's Go `cache` package and client-go's reflector (list, then watch from the list's revision);
APISIX #13721 and gazette/core #24 for what happens when a watch resumes from "now" or is never doubted.
"""

from __future__ import annotations

import math
from contextlib import AsyncExitStack
from functools import partial

import anyio
from anyio.abc import TaskGroup

from tideover import telemetry
from tideover.client.client import Client
from tideover.client.namespaces import Namespaces
from tideover.cluster.state import Proof
from tideover.epoch.tracker import EpochTracker
from tideover.errors import AuthenticationFailed, InvalidRequest, PermissionDenied, TideoverError, Unavailable
from tideover.policies import RetryPolicy
from tideover.prefixes.doubts import TICK, Doubts
from tideover.prefixes.rules import progress_is_ordered
from tideover.prefixes.view import MEMBER_READ_EVERY, Origin, View, ViewTooLarge
from tideover.store.faults import UNANSWERED, FaultKind, StoreFault, public_error
from tideover.store.operations import Lane, Range, RangeResult, Status, prefix_end
from tideover.store.protocol import Compacted, Watch
from tideover.types import Header, HealthState

# Keys per page of a full read; and once a page took so many seconds, about so many bytes, so that what others ask
# for meanwhile has its turn.
_PAGE = 1000
_PAGE_SLOW = 0.8
_PAGE_BYTES = 256 * 1024
# A full read that compaction interrupts is begun again so often, then made without pages.
_PAGED_TRIES = 3
# Seconds for a page, or a key: as long as its member answers small questions, it arrives (`cluster.in_flight`).
_ARRIVING = RetryPolicy(timeout=600.0)
# Seconds to wait for a watch to open, behind large answers of its connection, and for the monitor's judgement.
_OPENING = 5.0
# Seconds to wait for it to become clear which history etcd is in.
_CONFIRM_TIMEOUT = 5.0
# Seconds between two questions how far a watch has come whose view is known to lag, and until asking is of no use.
_LAGGING_TICK = 0.2
_IN_VAIN = 1.0
# Seconds before the next try: after trouble, doubled each time up to the second; after a denial; after a prefix
# that was too large.
_AFTER_TROUBLE = 0.05
_MOST_TROUBLE = 5.0
_AFTER_REFUSAL = 5.0
_AFTER_EXCESS = 60.0


class Follower:
    """Keeps one view up to date; `namespaces` is where else to look, once, if etcd has nothing there."""

    def __init__(
        self,
        view: View,
        client: Client,
        *,
        identity: EpochTracker,
        doubts: Doubts,
        namespaces: Namespaces | None = None,
    ) -> None:
        self._view = view
        self._end = prefix_end(view.prefix)
        self._start = view.prefix or b"\0"
        self._store = client.store
        self._gateway = client.calls
        self._cluster = client.state
        self._identity = identity
        self._clock = client.clock
        self._doubts = doubts
        self._elsewhere = namespaces
        self._read_at = -math.inf
        # Keys of a page, once one was slow.
        self._page = _PAGE
        self._blackouts = -1
        self._requested_at = -math.inf
        self._compared_at = -math.inf
        self._ordered = False
        self._answers = True
        self._unanswered_since: float | None = None
        self._missing_since: float | None = None
        self._denial: PermissionDenied | None = None
        self._seen: Proof | None = None
        self._doubting = False
        self._rights_at = math.inf
        # How often in a row nothing came of a try.
        self._troubles = 0
        # What the survivor of a quorum had when it was last asked, and whether that was of use.
        self._survivor: Header | None = None
        self._survivor_is_ahead = False

    async def run(self) -> None:
        """Follow until cancelled."""
        while not self._cluster.health.decided:
            await self._cluster.changed.wait()
        while True:
            if self._cluster.health.quorum.closed:
                self._survivor = None
                await self._cluster.breakers.returned.wait(await self._follow())
            else:
                self._troubles = 0
                await self._endure()

    async def _follow(self) -> float:
        """Read in full if need be, then watch until the watch ends; return seconds to wait before the next try."""
        view, cluster = self._view, self._cluster
        # What the monitor suspects it asks about already; no other question is needed meanwhile.
        await cluster.breakers.settled(_OPENING)
        if not cluster.health.quorum.closed:
            return 0.0
        try:
            if self._must_read() or not await self._may_resume():
                await self._read_all()
            # Begin at a member that the monitor has judged to be well since the last trouble.
            await cluster.breakers.settled(_OPENING)
            await self._watch(cluster.active)
        except Compacted:
            telemetry.watch_restarted(self._view.component, "compacted")
            self._read_at = -math.inf
        except StoreFault as exc:
            telemetry.watch_restarted(self._view.component, exc.fault.kind)
            if exc.fault.kind is FaultKind.OVERFLOW:  # the trouble is this process's own
                return _AFTER_TROUBLE
            error = public_error(exc.fault, doing=f"watch {view.name}", writes=False)
            if isinstance(error, PermissionDenied):
                return self._deny(error)
            self._trouble(error)
            cluster.failed(exc.fault)
        except PermissionDenied as exc:
            return self._deny(exc)
        except (AuthenticationFailed, Unavailable) as exc:
            self._trouble(exc)
        except ViewTooLarge as exc:
            telemetry.prefix_refused(view.component, str(exc))
            self._read_at = -math.inf
            self._trouble(exc)
            return _AFTER_EXCESS
        except TideoverError as exc:
            telemetry.prefix_refused(view.component, f"{view.name!r} cannot be followed: {exc}")
            self._trouble(exc)
            return _AFTER_REFUSAL
        self._troubles += 1
        return min(_AFTER_TROUBLE * 2.0 ** min(self._troubles - 1, 10), _MOST_TROUBLE)

    def _must_read(self) -> bool:
        """Whether the content may be of another history, or is due for its regular full read."""
        view = self._view
        overdue = self._clock.monotonic() - self._read_at >= view.rules.full_read_every
        unsure = self._blackouts != self._cluster.blackouts or not view.current
        return overdue or unsure or view.origin is not Origin.QUORUM

    async def _may_resume(self) -> bool:
        """Whether a watch may go on where the last one ended: there is content, and etcd is in the same history.

        A cluster that was rebuilt on the same members while no process looked may keep its id and have a higher
        revision; a watch would then go on with what belongs to another history.
        """
        await self._identity.confirm(_CONFIRM_TIMEOUT)
        history = self._view.history
        if not self._view.current or not self._view.entries:
            return False
        reason = await self._rewritten_past()
        if reason is not None:
            await self._identity.refute(history, reason, timeout=_CONFIRM_TIMEOUT)
        return self._view.current

    async def _rewritten_past(self) -> str | None:
        """Return why the past, as etcd has it now, is not the one this view has seen; None if it may be.

        The key that was changed last is asked for as of the revision the view has reached. In the same history
        that is the entry known here, whatever has become of the key since.
        """
        newest = self._view.newest_entry()
        # What an operator has put on disk is of no revision.
        if newest is None or not self._view.current or not self._view.freshness.reached:
            return None
        (key, entry), reached = newest, self._view.freshness.reached
        try:
            answered = await self._gateway.call(Range(key, revision=reached), _ARRIVING)
        except InvalidRequest:  # compacted: nothing can be said
            return None
        if answered.result.entries.get(key) == entry:
            return None
        return f"a key under {self._view.name!r} has another past: it is not as it was at revision {reached}"

    def _trouble(self, error: TideoverError) -> None:
        self._view.trouble = error
        self._view.changed.fire()

    def _deny(self, error: PermissionDenied) -> float:
        if self._view.denied is None:
            telemetry.prefix_refused(self._view.component, str(error))
        self._view.denied = error
        self._read_at = -math.inf
        self._trouble(error)
        return _AFTER_REFUSAL

    # Full reads ------------------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        view, identity = self._view, self._identity
        blackouts, history = self._cluster.blackouts, None
        while history is not identity.history:
            # What was read before a reset was known may be of either history.
            history = identity.history
            found, sent_at = await self._read(serializable=False)
            reason = (view.contradiction(found) or await self._rewritten_past()) if view.current else None
            if reason is None:
                await identity.confirm(_CONFIRM_TIMEOUT)
            else:
                await identity.refute(history, reason, timeout=_CONFIRM_TIMEOUT)
        self._read_at, self._blackouts, self._missing_since = self._clock.monotonic(), blackouts, None
        view.take_quorum(found, sent_at, history)

    async def _read(self, *, serializable: bool) -> tuple[RangeResult, float]:
        """Read the prefix as of one revision; return it and when that was asked for."""
        for _ in range(_PAGED_TRIES):
            try:
                return await self._read_pages(self._page, serializable=serializable)
            except InvalidRequest:  # the revision was compacted between two pages
                continue
        return await self._read_pages(0, serializable=serializable)

    async def _read_pages(self, limit: int, *, serializable: bool) -> tuple[RangeResult, float]:
        entries = {}
        size, key, revision = 0, self._start, 0
        first = None
        while True:
            op = Range(key, self._end, serializable=serializable, limit=limit, revision=revision)
            answered = await self._gateway.call(op, _ARRIVING)
            page = answered.result
            first = first or answered
            revision = first.result.header.revision
            entries.update(page.entries)
            weight = sum(len(k) + len(e.value) for k, e in page.entries.items())
            size += weight
            self._view.check_size(len(entries), size)
            if self._page < _PAGE or self._clock.monotonic() - answered.sent_at > _PAGE_SLOW:
                self._page = min(_PAGE, max(1, len(page.entries) * _PAGE_BYTES // max(1, weight)))
            limit = limit and self._page
            if not page.more or not page.entries:
                return RangeResult(first.result.header, entries, count=len(entries)), first.sent_at
            key = next(reversed(page.entries)) + b"\0"

    # Without a quorum ------------------------------------------------------------------------------------------

    async def _endure(self) -> None:
        """Ask a surviving member now and then, until the state changes."""
        self._view.changed.fire()
        state = self._cluster.health.state
        if state is HealthState.DEGRADED:
            await self._read_member()
        with anyio.move_on_after(MEMBER_READ_EVERY):
            while self._cluster.health.state is state:
                await self._cluster.changed.wait()

    async def _read_member(self) -> None:
        """Read what a survivor has, unless a probe tells that it has nothing else than before."""
        heard = self._cluster.heard.get(self._cluster.active)
        if heard is not None and self._survivor is not None and _same(heard.header, self._survivor):
            if self._survivor_is_ahead:
                self._view.confirm_member(heard.sent_at)
            return
        self._survivor_is_ahead = False
        try:
            found, _ = await self._read(serializable=True)
        except PermissionDenied as exc:
            # Without a quorum the right cannot be given back.
            self._survivor = None if heard is None else heard.header
            self._deny(exc)
        except TideoverError as exc:
            self._trouble(exc)
        else:
            self._survivor, self._survivor_is_ahead = found.header, self._view.take_member(found)
            if not self._survivor_is_ahead:
                self._trouble(TideoverError("the surviving member knows less than this process"))

    # Watching --------------------------------------------------------------------------------------------------

    async def _watch(self, member: str) -> None:
        self._unanswered_since = None
        ended: TideoverError | None = None
        async with AsyncExitStack() as stack:
            watch = await self._open(stack, member)
            self._view.trouble, self._troubles = None, 0
            tasks = await stack.enter_async_context(anyio.create_task_group())
            self._begin_to_look(tasks)
            with self._doubts.looking(partial(self._look, watch, member, tasks)):
                try:
                    await self._receive(watch)
                except (StoreFault, ViewTooLarge) as exc:
                    ended = exc
            tasks.cancel_scope.cancel()
        ended, self._denial = ended or self._denial, None
        if ended is not None:
            raise ended

    async def _open(self, stack: AsyncExitStack, member: str) -> Watch:
        """Open a watch from the view's revision on; given up like a call if its member falls silent."""
        opening = self._store.watch(
            self._start,
            self._end,
            start_revision=self._view.freshness.reached + 1,
            member=member,
            timeout=_OPENING,
        )
        with self._cluster.waiting.calling(member, Lane.QUORUM, timeout=_OPENING):
            about = await self._store.call(Status(), member=member, timeout=_OPENING)
            watch = await stack.enter_async_context(opening)
            self._answers = not self._store.is_proxy(member)
            # Only versions that order their replies refuse to tell.
            told = about.version is None or progress_is_ordered(about.version)
            self._ordered = told and self._answers
            return watch
        raise StoreFault(UNANSWERED)

    async def _receive(self, watch: Watch) -> None:
        while True:
            batch = await watch.receive()
            self._unanswered_since = None
            if batch.events:
                self._missing_since = None
                self._view.take_events(batch.events)
            elif self._ordered:
                self._view.take_progress(self._requested_at, batch.header.revision)

    def _begin_to_look(self, tasks: TaskGroup) -> None:
        self._seen, self._doubting = None, False
        self._rights_at = self._clock.monotonic() + self._view.rules.rights_every
        if self._elsewhere is not None and not self._view.entries:
            tasks.start_soon(self._look_elsewhere, self._elsewhere)
        self._elsewhere = None

    def _look(self, watch: Watch, member: str, tasks: TaskGroup) -> None:
        """Prove the view by what the quorum says, and end a watch that must not be believed any more."""
        self._take_proof()
        if self._is_over(member):
            tasks.cancel_scope.cancel()
        elif self._view.freshness.lags and not self._doubting:
            self._doubting = True
            tasks.start_soon(self._doubt, watch, tasks.cancel_scope)
        # Rather early than late: the next look is up to a second away.
        if self._clock.monotonic() > self._rights_at - TICK:
            self._rights_at = math.inf
            tasks.start_soon(self._recheck_rights, tasks.cancel_scope)

    def _take_proof(self) -> None:
        proof = self._cluster.proof
        if proof is not None and proof is not self._seen:
            self._seen = proof
            if self._view.current:
                self._view.take_proof(proof)

    async def _doubt(self, watch: Watch, scope: anyio.CancelScope) -> None:
        """Ask how far the watch has come, as long as the view lags, and end it if it does not answer."""
        while self._view.freshness.lags:
            changed = self._cluster.changed.next()
            if self._answers and not await self._ask_progress(watch):
                scope.cancel()
                return
            if not self._ordered or self._waits_in_vain():
                await self._compare()
            if self._misses():
                scope.cancel()
                return
            with anyio.move_on_after(_LAGGING_TICK):
                await changed.wait()
            self._take_proof()
        self._doubting = False

    async def _recheck_rights(self, scope: anyio.CancelScope) -> None:
        """Ask whether this client may still read the prefix, and end the watch if it may not."""
        try:
            await self._gateway.call(Range(self._start, self._end, limit=1, keys_only=True))
        except PermissionDenied as exc:
            self._denial = exc
            scope.cancel()
        except (Unavailable, AuthenticationFailed):
            # The monitor has seen it too.
            pass
        self._rights_at = self._clock.monotonic() + self._view.rules.rights_every

    async def _look_elsewhere(self, namespaces: Namespaces) -> None:
        """Look, after the first full read, whether what is not there is under the namespace's other spelling."""
        below = self._view.name.removeprefix(f"{namespaces.own}/")
        found = await namespaces.find_misspelled(below)
        if found is not None:
            telemetry.namespace_misspelled(self._view.component, self._view.name, found, namespaces.other or "")

    async def _ask_progress(self, watch: Watch) -> bool:
        """Ask how far the watch has come, not more often than it makes sense; say whether it still answers."""
        now = self._clock.monotonic()
        if now - self._requested_at < _LAGGING_TICK and self._requested_at >= self._view.freshness.asked_at:
            return True
        self._requested_at = now
        if self._unanswered_since is None:
            self._unanswered_since = now
        elif now - self._unanswered_since > self._view.rules.silence_limit:
            telemetry.watch_restarted(self._view.component, "silent")
            return False
        try:
            await watch.request_progress()
        except StoreFault:
            return False
        return True

    def _waits_in_vain(self) -> bool:
        """Whether progress is not told: a newer member says nothing while any watch of its stream is behind."""
        since = self._unanswered_since
        return since is not None and self._clock.monotonic() - since > _IN_VAIN

    def _misses(self) -> bool:
        """Whether the quorum has long had what no watch has delivered; if so, read in full.

        The one way to find a watch dead whose stream lives, or that answers no progress requests, as behind a
        grpc-proxy; watching again there may well join the same dead watch of the proxy's.
        """
        since = self._missing_since
        if since is None or self._clock.monotonic() - since <= self._view.rules.silence_limit:
            return False
        telemetry.watch_restarted(self._view.component, "silent")
        self._read_at = -math.inf
        return True

    async def _compare(self) -> None:
        """Ask the quorum what has changed since the view's revision: for members whose progress proves nothing.

        Costs etcd a walk over the prefix, and is done only while other keys change and this view is quiet; not for
        each answer that shows a newer revision, of which a busy process has thousands a second.
        """
        now = self._clock.monotonic()
        if now - self._compared_at < _LAGGING_TICK:
            return
        self._compared_at = now
        reached = self._view.freshness.reached
        op = Range(self._start, self._end, limit=1, keys_only=True, changed_since=reached + 1)
        try:
            answered = await self._gateway.call(op, RetryPolicy(attempts=1, timeout=_OPENING))
        except TideoverError:
            return
        if self._view.freshness.reached != reached:
            return
        if self._view.take_comparison(answered.result, answered.sent_at):
            self._missing_since = None
            if self._ordered:
                # Progress was not needed, and not told for a reason that need not be this watch's death.
                self._unanswered_since = None
        elif self._missing_since is None:
            self._missing_since = self._clock.monotonic()

    def _is_over(self, member: str) -> bool:
        """Whether the watch is at a member that does not answer any more, or a full read is due."""
        cluster = self._cluster
        deserted = cluster.active != member and member not in cluster.well
        return deserted or not cluster.health.quorum.closed or self._must_read()


def _same(one: Header, other: Header) -> bool:
    """Whether two answers of a member are of the same content."""
    return (one.cluster_id, one.member_id, one.revision) == (other.cluster_id, other.member_id, other.revision)
