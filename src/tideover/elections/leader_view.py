"""What `tide.follow_leader(name)` returns: an election's leader, known without asking etcd."""

from __future__ import annotations

import math
import time

import anyio

from tideover import telemetry
from tideover.broadcast import Broadcast
from tideover.client.client import Client
from tideover.cluster.rules.health import reason_of
from tideover.elections.observer import Observation, Observer
from tideover.errors import Closed, EndpointsUnknown, NoEndpoints, TideoverError, Unavailable
from tideover.request_record import Mark, present_record
from tideover.shown import shown
from tideover.status import duration
from tideover.types import HealthState, Leader, Source

# Seconds before the next look: while etcd is away, and where it refuses or the record cannot be read.
_AFTER_TROUBLE = 0.5
_AFTER_REFUSAL = 2.0
# Seconds before a term ends without news at which the record is read: the watch may have died unnoticed.
_IN_TIME = 0.5
# Seconds between two looks of a waiter at the clock, and of a thread.
_TICK = 0.25
_LOOK = 0.005


class LeaderView:
    """The leader of one election; made by `Coordinator.follow_leader`, which documents it.

    Attributes:
        name: The election.
        version: How often the record has changed, renewals included.
        waiting: How many callers wait for news.
    """

    def __init__(self, name: str, observer: Observer, client: Client) -> None:
        self.name = name
        self.version = 0
        self.waiting = 0
        self._observer = observer
        self._client = client
        # The boot-time clock, as for the leader's own deadline.
        self._boot = client.clock.boot
        self._changed = Broadcast()
        self._seen: Observation | None = None
        self._seen_at = -math.inf
        # When the last look that succeeded was sent.
        self._read_at = -math.inf
        self._refusal: TideoverError | None = None
        self._closed = ""

    def __repr__(self) -> str:
        """Show the leader."""
        return f"<LeaderView {self.name!r} {self._holder if self._leads else 'no leader known'}>"

    def pick(self) -> Leader:
        """Return the leader, as far as it can be known now. No I/O; callable from any thread.

        A leader that does not renew its record is returned until its own term must have ended, and no longer.

        Returns:
            The leader; its `address` is empty if it advertises none.

        Raises:
            NoEndpoints: There is no leader; the message says since when that is known.
            EndpointsUnknown: The leader cannot be known: the record was never read, or not since the last leader's
                term has ended, or etcd is away and there was no leader before. It is an `Unavailable` as well.
            RecordCorrupt: The record cannot be read.
            PermissionDenied: A quorum refuses to let this client read the record.
            AuthenticationFailed: A quorum refuses the credentials.
            Closed: The coordinator is closed, or the election is not followed any more.

        When degraded:
            The last known leader, as long as it may lead on: under `"step_down"` until its term ends, under
            `"peers"` as long as its peers may confirm it, under `"stay"` without an end. The request is marked.
        """
        if self._closed:
            raise Closed(self._closed)
        if self._refusal is not None:
            raise self._refusal.with_traceback(None)
        seen = self._seen
        leader = None if seen is None else seen.leader
        if leader is None or not self._leads:
            raise self._nobody(seen)
        if self._degraded:
            self._mark()
        return leader

    async def wait(self, *, timeout: float, beyond: int = -1) -> None:
        """Wait until `pick` returns a leader, or raises another error than `NoEndpoints`.

        Args:
            timeout: Seconds to wait at the most.
            beyond: Ignore answers up to this `version`.

        Raises:
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            Waits: there are no elections until etcd is back.
        """
        self._client.home.check(self)
        until = anyio.current_time() + timeout
        self.waiting += 1
        try:
            while True:
                changed, left = self._changed.next(), until - anyio.current_time()
                if self._ready(beyond) or left <= 0:
                    return
                with anyio.move_on_after(min(left, _TICK)):
                    await changed.wait()
        finally:
            self.waiting -= 1

    def wait_in_thread(self, *, timeout: float, beyond: int = -1) -> None:
        """Wait as `wait`, in a thread. In the event loop's own thread the call returns at once.

        Args:
            timeout: Seconds to wait at the most.
            beyond: Ignore answers up to this `version`.

        When degraded:
            As `wait`.
        """
        until = time.monotonic() + timeout
        while not (self._ready(beyond) or self._client.home.loop.is_here) and time.monotonic() < until:
            time.sleep(_LOOK)

    def close(self, why: str) -> None:
        """Stop following the election."""
        self._closed = self._closed or why
        self._changed.fire()

    def reset(self) -> None:
        """Forget the leader: etcd shows another history."""
        self._seen = None
        self._changed.fire()

    async def run(self) -> None:
        """Follow the record, until cancelled."""
        while not self._closed:
            sent = self._boot()
            try:
                seen = await self._observer.look()
            except Unavailable:
                await anyio.sleep(_AFTER_TROUBLE)
            except Closed:
                return
            except TideoverError as exc:
                self._apply(None, refusal=exc)
                await anyio.sleep(_AFTER_REFUSAL)
            else:
                self._read_at = sent
                self._apply(seen)
                left = self._led_until - self._boot()
                within = max(_IN_TIME, left - _IN_TIME) if left > 0 else math.inf
                await self._observer.changed_after(seen.revision, within=within)

    def _apply(self, seen: Observation | None, *, refusal: TideoverError | None = None) -> None:
        before, self._refusal = self._seen, refusal
        # Another history may have smaller revisions, so any difference is a change.
        if before is None or seen is None or seen.written_at != before.written_at:
            self._seen, self._seen_at = seen, self._boot()
            self.version += 1
        self._changed.fire()

    @property
    def _holder(self) -> str:
        document = None if self._seen is None else self._seen.document
        return "" if document is None else document.holder_shown

    @property
    def _led_until(self) -> float:
        document = None if self._seen is None else self._seen.document
        return -math.inf if document is None else document.led_until(self._seen_at)

    @property
    def _leads(self) -> bool:
        return self._boot() < self._led_until

    def _ready(self, beyond: int) -> bool:
        return bool(self._closed) or self._refusal is not None or (self.version > beyond and self._leads)

    @property
    def _degraded(self) -> bool:
        health = self._client.state.health
        return health.decided and health.state is not HealthState.AVAILABLE

    def _nobody(self, seen: Observation | None) -> NoEndpoints:
        name, age = shown(self.name), self._boot() - self._seen_at
        unknown = f"who leads {name!r} is not known"
        if seen is None:
            why = self._client.health.sentence if self._degraded else "its record has not been read yet"
            return EndpointsUnknown(f"{unknown}: {why}", service=self.name, age=math.inf)
        if seen.document is None or seen.document.vacant or not seen.document.holder:
            last, now = "nobody was last seen to lead it", f"nobody leads {name!r}"
        elif not seen.document.entered:
            last = f"{self._holder} was last seen not to lead it yet"
            now = f"{self._holder} does not lead {name!r} yet"
        else:
            last = f"{self._holder} was last seen to lead it {duration(age)} ago"
            now = f"nobody is known to lead {name!r}: {last}, and has not renewed"
        if self._degraded:
            return EndpointsUnknown(
                f"{unknown}: {last}; {self._client.health.sentence}", service=self.name, age=age
            )
        if self._read_at < self._led_until:  # the leader may have renewed, unseen by a silent watch
            text = f"{unknown}: {last}, and its record has not been read since"
            return EndpointsUnknown(text, service=self.name, age=age)
        return NoEndpoints(now, service=self.name, age=age)

    def _mark(self) -> None:
        """Mark the request as degraded, once."""
        record = present_record()
        if record is None or "election" in record.marks:
            return
        health, age = self._client.state.health, self._boot() - self._seen_at
        reason = reason_of(health.state, health.diagnosis)
        record.marks["election"] = mark = Mark(Source.MEMORY, age, reason, self._client.outage_id())
        telemetry.mark_span(mark, "election", record)
