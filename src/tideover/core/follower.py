"""The task that keeps a view up to date: read at revision R, watch from R+1, prove, begin again.

Prior art: etcd's Go `cache` package and client-go's reflector (list, then watch from the list's revision);
APISIX #13721 and gazette/core #24 for what happens when a watch resumes from "now" or is never doubted.
"""

from __future__ import annotations

import logging
import math

import anyio

from tideover import telemetry
from tideover.clock import Clock
from tideover.core.gateway import READ_ATTEMPT, Gateway
from tideover.core.lanes import Lanes
from tideover.core.view import MEMBER_READ_EVERY, Origin, View, ViewTooLarge
from tideover.errors import PermissionDenied, TideoverError, Unavailable
from tideover.etcd.faults import StoreFault, public_error
from tideover.etcd.store import Compacted, Range, RangeResult, Store, Watch, prefix_end
from tideover.policies import RetryPolicy
from tideover.records import HealthState

_log = logging.getLogger("tideover")

# Keys per page of a full read, and seconds for one page.
_PAGE = 1000
_PAGE_TIMEOUT = 5.0
_PATIENT = RetryPolicy(timeout=10.0)
# Seconds between two looks at whether a watch still answers, and at a view that is known to lag.
_TICK = 1.0
_LAGGING_TICK = 0.2
# Seconds that a new watch is left alone: before 3.4.25 and 3.5.8 etcd answers a progress request at once with the
# newest revision, while it looks for the missed events in rounds of 0.1 s. Believed, that made ages too low.
_CATCH_UP = 0.3
# Seconds before the next try: after trouble, after a refusal, after a prefix that is too large.
_AFTER_TROUBLE = 0.05
_AFTER_REFUSAL = 5.0
_AFTER_EXCESS = 60.0


class Follower:
    """Keeps one view up to date.

    Args:
        view: The view.
        store: The cluster, for watches.
        gateway: The way to etcd, for reads.
        lanes: The health, the member in use, and the proofs.
        clock: The clocks.
    """

    def __init__(self, view: View, *, store: Store, gateway: Gateway, lanes: Lanes, clock: Clock) -> None:
        self._view = view
        self._end = prefix_end(view.prefix)
        self._start = view.prefix or b"\0"
        self._store = store
        self._gateway = gateway
        self._lanes = lanes
        self._clock = clock
        self._read_at = -math.inf
        self._blackouts = -1
        self._requested_at = -math.inf
        self._unanswered_since: float | None = None

    def __repr__(self) -> str:
        """Show the view."""
        return f"<Follower of {self._view!r}>"

    async def run(self) -> None:
        """Follow until cancelled."""
        while not self._lanes.health.decided:
            await self._lanes.changed.wait()
        while True:
            if self._lanes.health.quorum.closed:
                await anyio.sleep(await self._follow())
            else:
                await self._endure()

    async def _follow(self) -> float:
        """Read in full if need be, then watch until the watch ends; return seconds to wait before the next try."""
        view = self._view
        try:
            if self._must_read():
                await self._read_all()
            # Begin at a member that the monitor has judged to be well since the last trouble.
            await self._lanes.settled(_PAGE_TIMEOUT)
            await self._watch(self._lanes.active)
        except Compacted:
            telemetry.watch_restarted("compacted")
            self._read_at = -math.inf
        except StoreFault as exc:
            telemetry.watch_restarted(exc.fault.kind)
            error = public_error(exc.fault, doing=f"watch {view.name}", writes=False)
            if isinstance(error, PermissionDenied):
                return self._deny(error)
            self._trouble(error)
            self._lanes.failed(exc.fault)
        except PermissionDenied as exc:
            return self._deny(exc)
        except Unavailable as exc:
            self._trouble(exc)
        except ViewTooLarge as exc:
            _log.error("tideover: not following: %s", exc)
            self._trouble(exc)
            return _AFTER_EXCESS
        return _AFTER_TROUBLE

    def _must_read(self) -> bool:
        """Whether the content may be of another history, or is due for its regular full read."""
        view = self._view
        overdue = self._clock.monotonic() - self._read_at >= view.rules.full_read_every
        return overdue or self._blackouts != self._lanes.blackouts or view.origin is not Origin.QUORUM

    def _trouble(self, error: TideoverError) -> None:
        self._view.error = str(error)
        self._view.changed.fire()

    def _deny(self, error: PermissionDenied) -> float:
        if self._view.denied is None:
            _log.error("tideover: %s", error)
        self._view.denied = error
        self._read_at = -math.inf
        self._trouble(error)
        return _AFTER_REFUSAL

    # Full reads ------------------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        blackouts = self._lanes.blackouts
        found, sent_at = await self._read_pages(serializable=False)
        self._read_at, self._blackouts = self._clock.monotonic(), blackouts
        if self._view.take_quorum(found, sent_at):
            telemetry.backend_reset(self._view.name, found.header.revision)

    async def _read_pages(self, *, serializable: bool) -> tuple[RangeResult, float]:
        """Read the prefix as of one revision, page by page; return it and when that was asked for."""
        entries = {}
        size, key, revision = 0, self._start, 0
        first = None
        while True:
            op = Range(key, self._end, serializable=serializable, limit=_PAGE, revision=revision)
            answered = await self._gateway.call(op, _PATIENT, attempt_timeout=_PAGE_TIMEOUT if first else None)
            page = answered.result
            first = first or answered
            revision = first.result.header.revision
            entries.update(page.entries)
            size += sum(len(k) + len(e.value) for k, e in page.entries.items())
            self._view.check_size(len(entries), size)
            if not page.more or not page.entries:
                return RangeResult(first.result.header, entries, count=len(entries)), first.sent_at
            key = next(reversed(page.entries)) + b"\0"

    # Without a quorum ------------------------------------------------------------------------------------------

    async def _endure(self) -> None:
        """Ask a surviving member now and then, until the state changes."""
        self._view.changed.fire()
        state = self._lanes.health.state
        if state is HealthState.DEGRADED:
            await self._read_member()
        with anyio.move_on_after(MEMBER_READ_EVERY):
            while self._lanes.health.state is state:
                await self._lanes.changed.wait()

    async def _read_member(self) -> None:
        try:
            found, _ = await self._read_pages(serializable=True)
        except (Unavailable, ViewTooLarge) as exc:
            self._trouble(exc)
        except PermissionDenied as exc:
            self._deny(exc)
        else:
            if not self._view.take_member(found):
                self._trouble(TideoverError("the surviving member knows less than this process"))

    # Watching --------------------------------------------------------------------------------------------------

    async def _watch(self, member: str) -> None:
        opening = self._store.watch(
            self._start,
            self._end,
            start_revision=self._view.freshness.reached + 1,
            member=member,
            timeout=READ_ATTEMPT,
        )
        self._unanswered_since = None
        ended: TideoverError | None = None
        async with opening as watch:
            self._view.error = None
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._doubt, watch, member, tasks.cancel_scope)
                try:
                    await self._receive(watch)
                except (StoreFault, ViewTooLarge) as exc:
                    ended = exc
                tasks.cancel_scope.cancel()
        if ended is not None:
            raise ended

    async def _receive(self, watch: Watch) -> None:
        while True:
            batch = await watch.receive()
            self._unanswered_since = None
            if batch.events:
                self._view.take_events(batch.events)
            else:
                self._view.take_progress(self._requested_at, batch.header.revision)

    async def _doubt(self, watch: Watch, member: str, scope: anyio.CancelScope) -> None:
        """Prove the view by what the quorum says, and end a watch that must not be believed any more."""
        await anyio.sleep(_CATCH_UP)
        seen = None
        while True:
            changed = self._lanes.changed.next()
            proof = self._lanes.proof
            if proof is not None and proof is not seen:
                if self._view.is_of_another_history(proof.header, proof.sent_at):
                    self._read_at = -math.inf
                    break
                seen = proof
                self._view.take_proof(proof)
            if self._is_over(member):
                break
            if self._view.freshness.lags and not await self._ask_progress(watch):
                break
            with anyio.move_on_after(_LAGGING_TICK if self._view.freshness.lags else _TICK):
                await changed.wait()
        scope.cancel()

    async def _ask_progress(self, watch: Watch) -> bool:
        """Ask how far the watch has come, not more often than it makes sense; say whether it still answers."""
        now = self._clock.monotonic()
        if now - self._requested_at < _LAGGING_TICK and self._requested_at >= self._view.freshness.asked_at:
            return True
        self._requested_at = now
        if self._unanswered_since is None:
            self._unanswered_since = now
        elif now - self._unanswered_since > self._view.rules.silence_limit:
            telemetry.watch_restarted("silent")
            return False
        try:
            await watch.request_progress()
        except StoreFault:
            return False
        return True

    def _is_over(self, member: str) -> bool:
        """Whether the watch is at a member that does not answer any more, or a full read is due."""
        lanes = self._lanes
        deserted = lanes.active != member and member not in lanes.well
        return deserted or not lanes.health.quorum.closed or self._must_read()
