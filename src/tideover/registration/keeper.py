"""Keeps the registrations of one coordinator in etcd: each as it is due, many in one transaction.

Registrations of one ttl share one session. A registration ends when its key is deleted, and the session is closed
with its last one.

A lease serves all its keys or none: once this user may not write one of them, etcd neither renews the lease nor
accepts writes under it (3.5.28 and later); and a lease does not count as renewed while a key of an ended
registration cannot be deleted. So while a session is in trouble although etcd answers, the keeper asks etcd which
keys it refuses. The refused registrations stay behind, and each gets a session of its own, for good; all others
move: their keys are deleted, and written under a new session. If all are refused, moving would protect none, and
all stay.

At rest a registration has no task, no timer and no lease of its own.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Collection, Iterable, Sequence

import anyio

from tideover.client.client import Client
from tideover.errors import TideoverError
from tideover.registration.bulk import not_as_written, portions, unwritable
from tideover.registration.publisher import Publisher, Stage
from tideover.registration.rules import SPREAD, Failure
from tideover.registration.sessions import RegistrationSessions
from tideover.registration.shared import SharedSession
from tideover.registration.writing import write, write_new
from tideover.sessions.key import LeasedKey
from tideover.sessions.pool import SessionPool
from tideover.ticker import GRAIN

# Seconds between two checks of all keys, without news of them; full jitter above a half.
_LOOK_EVERY = 60.0
# Seconds between two looks at the sessions' deadlines.
_DOUBT_EVERY = 1.0


class Keeper:
    """Keeps registrations in etcd."""

    def __init__(self, client: Client, pool: SessionPool) -> None:
        self._gateway = client.calls
        self._cluster = client.state
        self._clock = client.clock
        self._chance = client.random
        self._home = client.home
        self._tick = client.ticker.every(math.inf, self._run_due)
        self._sessions = RegistrationSessions(client, pool, opened=self._opened, lost=self._lose)
        self._away: dict[Publisher, None] = {}
        self._gone: list[tuple[Publisher, LeasedKey]] = []
        self._agenda: list[tuple[float, int, Publisher]] = []
        self._order = itertools.count()
        self._doubts_due = self._keys_due = -math.inf

    @property
    def usable(self) -> bool:
        """Whether etcd answers."""
        return self._cluster.health.quorum.closed

    def plan(self, publisher: Publisher) -> None:
        """Try a registration when it is due, or when the outage is over."""
        if publisher.stage is not Stage.RESTING or publisher.ended:
            return
        if not self.usable:
            publisher.stage = Stage.AWAY
            self._away[publisher] = None
            publisher.record_failure(Failure.OUTAGE, self._cluster.health.brief)
        else:
            delay = publisher.delay
            if delay <= 0:
                self._attempt(publisher)
                return
            self._plan_in(delay, publisher)
        self._pace()

    def _plan_in(self, seconds: float, publisher: Publisher) -> None:
        publisher.stage, publisher.due = Stage.PLANNED, self._clock.monotonic() + seconds
        heapq.heappush(self._agenda, (publisher.due, next(self._order), publisher))
        self._pace()

    def _replan(self, publisher: Publisher) -> None:
        """Plan a registration again, whatever was planned before."""
        if publisher.stage in (Stage.PLANNED, Stage.AWAY):
            self._away.pop(publisher, None)
            publisher.stage = Stage.RESTING
        self.plan(publisher)

    def _attempt(self, publisher: Publisher) -> None:
        shared = self._sessions.current(publisher)
        if shared is not None and not shared.lost:
            self._write(publisher, shared)
            return
        publisher.stage = Stage.OPENING
        self._sessions.open(publisher)

    def _write(self, publisher: Publisher, shared: SharedSession[Publisher]) -> None:
        """Write one key, together with all others that become due at the same moment."""
        publisher.stage = Stage.WRITING
        shared.tenants[publisher] = None
        shared.due.append(publisher)
        if len(shared.due) == 1 and not self._home.start("register what is due", self._write_due, shared):
            shared.due.clear()
            publisher.stage = Stage.RESTING

    def change(self, publisher: Publisher) -> None:
        """Write a changed endpoint as soon as possible."""
        if publisher.is_there:
            self.plan(publisher)

    def _run_due(self) -> None:
        now = self._clock.monotonic()
        self._restore_deleted()
        if self.usable:
            for publisher in list(self._away):
                self._replan(publisher)
        while self._agenda and self._agenda[0][0] <= now:
            due, _, publisher = heapq.heappop(self._agenda)
            if publisher.stage is Stage.PLANNED and publisher.due == due:
                publisher.stage = Stage.RESTING
                if self.usable:
                    self._attempt(publisher)
                else:
                    self.plan(publisher)
        if now >= self._doubts_due:
            self._doubts_due = now + _DOUBT_EVERY - GRAIN / 2
            self._check_sessions(now)
        self._pace()

    def _pace(self) -> None:
        """Tick often only while something is due soon."""
        busy = self._agenda or self._away or self._gone
        self._tick.period = GRAIN if busy else _DOUBT_EVERY if self._sessions.all else math.inf

    def _restore_deleted(self) -> None:
        """Write deleted keys again, except those that went with their lease."""
        gone, self._gone = self._gone, []
        for publisher, own in gone:
            if publisher.own is own and publisher.shared is not None and not publisher.shared.lost:
                publisher.lose_key(own.gone.reason or "")
                self._replan(publisher)

    def _lose(self, shared: SharedSession[Publisher]) -> None:
        """Start again with all registrations of a lost session."""
        if shared.closing:
            return
        tenants, shared.tenants = list(shared.tenants), {}
        # Revoked although lost: an etcd restored from a backup may have the lease again, with its keys.
        self._sessions.retire(shared)
        for publisher in tenants:
            if publisher.shared is shared and not publisher.ended:
                publisher.lose_session(shared.session.lost.reason or "")
                self._replan(publisher)

    def _check_sessions(self, now: float) -> None:
        for shared in list(self._sessions.all):
            if shared.doubt_changed():
                for publisher in list(shared.tenants):
                    publisher.report_change()
            others = len(shared.tenants) + len(shared.left) > 1
            if others and self.usable and shared.in_trouble and now >= shared.sorted_at + shared.session.ttl / 3:
                shared.sorted_at = now
                self._home.start("find out which registrations are refused", self._sort_out, shared)
        if now >= self._keys_due and self.usable:
            self._keys_due = now + _LOOK_EVERY * (0.5 + 0.5 * self._chance())
            self._home.start("look at the keys of registrations", self._check_keys)

    def _opened(self, shared: SharedSession[Publisher] | None, waiting: Sequence[Publisher]) -> None:
        """Use a session that was opened for registrations; None where that has failed."""
        for publisher in waiting:
            if shared is None:
                self.plan(publisher)
            else:
                self._write(publisher, shared)
        if shared is not None and self._keys_due == -math.inf:
            self._keys_due = self._clock.monotonic() + _LOOK_EVERY * (0.5 + 0.5 * self._chance())
        self._pace()

    async def _sort_out(self, shared: SharedSession[Publisher]) -> None:
        """Move all registrations but the refused ones to another session."""
        debris = shared.session.report().debris
        tenants = {each.full: each for each in shared.tenants if each.is_there or debris}
        try:
            refused = await unwritable(self._gateway, [*tenants, *shared.left])
        except TideoverError:
            return  # the next look asks again
        shared.suspected = False
        if not refused or refused.keys() >= tenants.keys():
            return
        self._sessions.withdraw(shared)
        for full, publisher in tenants.items():
            if publisher not in shared.tenants or publisher.ended:
                continue
            if full in refused:
                shared.left.add(full)
                self._isolate(publisher, shared, refused[full])
            elif publisher.stage is Stage.RESTING:
                self._plan_in(SPREAD * publisher.share, publisher)

    def _isolate(self, publisher: Publisher, shared: SharedSession[Publisher], why: str) -> None:
        """Give a refused registration its own session; its key stays under the one that all others leave."""
        publisher.alone = True
        publisher.own = publisher.shared = None
        shared.tenants.pop(publisher, None)
        publisher.record_failure(Failure.REFUSED, why)
        self._replan(publisher)

    async def _write_due(self, shared: SharedSession[Publisher]) -> None:
        due, shared.due = shared.due, []
        new = dict.fromkeys(each for each in due if each.own is None and each.shared in (None, shared))
        if len(new) > 1:
            due = [each for each in due if each not in new]
            for some in portions([*new], lambda each: len(each.full) + len(each.endpoint.encode())):
                self._home.start("register many", self._write_new, some, shared)
        for publisher in due:
            self._write_alone(publisher, shared)

    def _write_alone(self, publisher: Publisher, shared: SharedSession[Publisher]) -> None:
        self._home.start(f"register {publisher.endpoint.service}", self._write_out, publisher, shared)

    async def _write_new(self, publishers: Sequence[Publisher], shared: SharedSession[Publisher]) -> None:
        """Write many keys in one transaction, and then one by one if etcd refuses it."""
        left: Sequence[Publisher] = ()
        try:
            with anyio.CancelScope() as scope:
                for publisher in publishers:
                    publisher.writing = scope
                left = await write_new(publishers, shared, gone=self._record_gone)
        finally:
            for publisher in publishers:
                publisher.writing = None
        for publisher in left:
            self._write_alone(publisher, shared)
        if not left:
            for publisher in publishers:
                self._end_try(publisher)

    async def _write_out(self, publisher: Publisher, shared: SharedSession[Publisher]) -> None:
        """Write one key until etcd has the endpoint, or there is a reason to wait."""
        try:
            with anyio.CancelScope() as publisher.writing:
                await write(publisher, shared, gateway=self._gateway, leave=self._leave, gone=self._record_gone)
        finally:
            publisher.writing = None
        self._end_try(publisher)

    def _end_try(self, publisher: Publisher) -> None:
        """End a try: plan the next one unless etcd has the endpoint."""
        publisher.stage = Stage.RESTING
        publisher.changed.fire()
        if not publisher.is_current or self._sessions.current(publisher) is not publisher.shared:
            self.plan(publisher)

    def _leave(self, publisher: Publisher, shared: SharedSession[Publisher], left: bytes | None) -> None:
        """Remove a registration from a session, with its key if that could not be deleted."""
        shared.tenants.pop(publisher, None)
        if left is not None:
            shared.left.add(left)
        if not shared.tenants and not shared.closing:
            self._sessions.retire(shared)

    def _record_gone(self, publisher: Publisher, own: LeasedKey) -> None:
        # Looked at by the next tick: whether the key went with its lease is known in a moment.
        self._gone.append((publisher, own))
        self._pace()

    async def _check_keys(self) -> None:
        """Write the keys again that have changed without news from the watch."""
        for shared in list(self._sessions.all):
            asked = {each.own: each for each in shared.tenants if each.own is not None and each.is_there}
            revisions = {own: own.mod_revision for own in asked}
            if not asked:
                continue
            try:
                found = await not_as_written(self._gateway, list(asked), shared.session.lease_id)
            except TideoverError:
                continue
            for own in found:
                publisher = asked[own]
                if publisher.own is own and own.mod_revision == revisions[own]:
                    publisher.written = None
                    self.plan(publisher)

    async def stop(self, publishers: Collection[Publisher], patience: float) -> None:
        """Stop all work on ended registrations; writes under way have `patience` seconds to finish."""
        for publisher in publishers:
            self._away.pop(publisher, None)
            if publisher.stage is not Stage.WRITING:
                publisher.stage = Stage.RESTING
        stopped = self._sessions.stop_waiting(publishers)
        with anyio.move_on_after(patience):
            await _written(publishers)
        for publisher in publishers:
            if publisher.writing is not None:
                publisher.writing.cancel()
        await _written(publishers)
        for event in stopped:
            await event.wait()

    def places(self, publisher: Publisher) -> list[SharedSession[Publisher]]:
        """Return the sessions that a registration belongs to."""
        return [shared for shared in self._sessions.all if publisher in shared.tenants]

    async def close(self, shared: SharedSession[Publisher]) -> str | None:
        """Close a session; return why its keys may still be in etcd, None if they are gone."""
        return await self._sessions.close(shared)


async def _written(publishers: Iterable[Publisher]) -> None:
    for publisher in publishers:
        while publisher.stage is Stage.WRITING:
            await publisher.changed.wait()
