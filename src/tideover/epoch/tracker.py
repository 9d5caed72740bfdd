"""Which history etcd is in: the one place that knows, for one coordinator.

Guarantees. Every answer passes through here (`checked_store`) before anybody uses it. One that shows another
history is held back until the epoch has been raised and the subscribers have been told; so is the first
linearizable answer after a time in which no member was reachable, until the marker was looked at. Thus within
one epoch nothing is served that is older than what was served before.

Not guaranteed: that a restore is noticed that no process saw, once all that could prove it was overwritten;
then an operator raises the epoch. What can be proven is in docs/explanation/identity-and-resets.md, the rules are
in `rules`.

Prior art: etcd's peers refuse each other by cluster id (`X-Etcd-Cluster-ID`), its clients compare nothing, and a
restore may keep the id. `etcdutl snapshot restore --bump-revision` lets watchers notice, not readers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace

import anyio

from tideover import telemetry
from tideover.broadcast import Broadcast, first_of
from tideover.cluster.state import ClusterState
from tideover.epoch.foreign_members import ForeignMembers, refusal
from tideover.epoch.history import Doubt, Epoch, Reset
from tideover.epoch.marker import Look, write_marker
from tideover.epoch.marker_search import MarkerSearch
from tideover.epoch.rules import EpochMarker, Known, Settlement, settle, settle_unseen
from tideover.errors import DeadlineExceeded
from tideover.status import RejectedValue
from tideover.store.faults import Fault, FaultKind, StoreFault
from tideover.store.operations import Lane
from tideover.store.protocol import Store
from tideover.types import Header

# Seconds between two looks at the marker while all is well: this is how a bumped epoch is learned of.
_LOOK_EVERY = 30.0
# The same while something else is in its place, until that is gone.
_LOOK_AGAIN = 5.0
# Seconds over which many processes spread their writing of one marker: most then find that it is done.
_SPREAD = 0.05
# Seconds before the next try when a look has failed, doubled each time; and for which raising the epoch in etcd is
# tried at all.
_AFTER_TROUBLE = 0.1
_MOST_TROUBLE = 2.0
_WRITE_PATIENCE = 5.0


class EpochTracker:
    """Knows which history etcd is in; with `writes=False` it only looks.

    Many attributes: the history and what was found of it, for the report, and the numbers that tell looks apart.

    Attributes:
        history: The current history.
        known: What is known of it.
        resets: How many resets were seen.
        last_reset: The newest one; None if there was none.
        error: Why the epoch is only this process's own count; None if it is the one in etcd.
        overwritten: What another program has written in the marker's place; None if that is not so.
        changed: Fires when any of these changed.
    """

    def __init__(self, key: bytes, *, cluster: ClusterState, writes: bool = True) -> None:
        self.history = Epoch()
        self.known = Known()
        self.resets = 0
        self.last_reset: Reset | None = None
        self._strangers = ForeignMembers(cluster)
        self.error: str | None = None
        self.overwritten: RejectedValue | None = None
        self.changed = Broadcast()
        self._key = key
        self._cluster = cluster
        self._clock = cluster.clock
        self._writes = writes
        self._subscribers: list[Callable[[Reset], None]] = []
        self._began_at = -math.inf
        self._search = MarkerSearch(key, cluster, known=lambda: self.known, foreign=self.foreign.keys())
        # Looks are counted: a caller that needs one that begins after now waits for a number.
        self._begun = 0
        self._needed = 0
        self._settled = 0
        self._waiting = 0
        self._denied = False
        self._looked_at = -math.inf
        self._blackouts = -1
        self._wake = Broadcast()
        # What another look may be due for: a caller that needs one, or a change of the cluster's state.
        self._news = Broadcast()
        self._wake.join(self._news)
        cluster.changed.join(self._news)

    @property
    def epoch(self) -> int:
        """The epoch, for fencing: `(epoch, token)` only grows. 0 if it is not known yet."""
        return self.known.epoch

    @property
    def foreign(self) -> dict[str, int]:
        """Members that belong to another cluster, and to which."""
        return self._strangers.clusters

    def subscribe(self, callback: Callable[[Reset], None]) -> None:
        """Call `callback`, which must not wait, at each reset before any answer of the new history is used."""
        self._subscribers.append(callback)

    def recall(self, memory: Known) -> Epoch:
        """Apply what a snapshot on disk says, read at `memory.known_at`; return its history.

        That is the current one, unless more is known already.
        """
        known = self.known
        nothing = not known.cluster_id and not known.epoch
        if nothing or known.agrees_with(memory):
            self.known = known.joined(memory)
            self._describe()
            return self.history
        recalled = Epoch(memory.cluster_id, memory.epoch, memory.history)
        if memory.epoch < known.epoch:
            return recalled
        if not self._settled:
            self.known, self.history = memory, recalled
            return recalled
        # etcd showed less than an earlier process has seen: it, or our look at it, is behind.
        self._search.doubt = Doubt(f"an earlier process here knew epoch {memory.epoch}", evidence=False)
        self.known = replace(known, epoch=memory.epoch, history=memory.history)
        return recalled

    def passes(self, member: str, sent_at: float, header: Header, *, linearizable: bool) -> bool:
        """Whether all is clear and an answer passes without a wait; if not, `admit` decides."""
        known, strangers = self.known, self._strangers
        if header.cluster_id == known.cluster_id == strangers.said.get(member) and not strangers.clusters:
            # The usual answer: of a member that has said so before.
            if linearizable:
                strangers.answered_at = self._clock.monotonic()
        elif self._is_stranger(member, header, linearizable=linearizable):
            return False
        if known.cluster_id not in (0, header.cluster_id):
            return False
        if linearizable and self._is_unsettled:
            return False
        went_back = header.raft_term < known.raft_term or header.revision < known.revision
        if linearizable and went_back and known.contradiction(header, sent_at) is not None:
            return False
        if sent_at >= self._began_at:
            self.record(header, linearizable=linearizable)
        return True

    def _is_stranger(self, member: str, header: Header, *, linearizable: bool) -> bool:
        """Whether a member is of another cluster that has not taken the place of the known one."""
        before, ours, now = self.foreign.get(member), self.known.cluster_id, self._clock.monotonic()
        stranger = self._strangers.judge(member, header, ours, now, linearizable=linearizable)
        if self.foreign.get(member) != before:
            self.changed.fire()
        return stranger

    @property
    def _is_unsettled(self) -> bool:
        """Whether etcd has to say first which history it is in."""
        return self._search.doubt is not None or self._blackouts != self._cluster.blackouts

    async def admit(self, member: str, sent_at: float, header: Header, *, linearizable: bool) -> None:
        """Let an answer pass, once it is clear which history it is of; of another cluster it is a `StoreFault`."""
        if self._is_stranger(member, header, linearizable=linearizable):
            raise StoreFault(self.refusal(member, header.cluster_id))
        if self.known.cluster_id and header.cluster_id != self.known.cluster_id:
            reason = f"it is cluster {header.cluster_id:x}, and was {self.known.cluster_id:x}"
            await self._settle_doubt(Doubt(reason, header, member))
            if header.cluster_id != self.known.cluster_id:
                raise StoreFault(self.refusal(member, header.cluster_id))
        elif linearizable:
            contradiction = self.known.contradiction(header, sent_at)
            if contradiction is not None:
                term_only = header.revision >= self.known.revision
                await self._settle_doubt(Doubt(contradiction, header, member, term_only=term_only))
            elif self._is_unsettled:
                await self.confirm()
        if sent_at >= self._began_at:
            self.record(header, linearizable=linearizable)

    def record(self, header: Header, *, linearizable: bool = False) -> None:
        """Record a header of the current history; a watch's, too, tells how far etcd has come."""
        known = self.known
        if header.cluster_id == known.cluster_id and header.raft_term == known.raft_term:
            # The usual answer teaches no more than a revision.
            if header.revision > known.revision:
                self.known = replace(known, revision=header.revision, known_at=self._clock.monotonic())
        elif known.cluster_id in (0, header.cluster_id):
            self.known = known.updated(header, self._clock.monotonic(), linearizable=linearizable)
            self.history.cluster_id = self.known.cluster_id

    def refusal(self, member: str, cluster_id: int, *, applied: bool = True) -> Fault:
        """Return the fault of having asked a member of another cluster; see `foreign_members`."""
        return refusal(member, cluster_id, self.known.cluster_id, applied=applied)

    async def refute(self, history: Epoch, reason: str, *, timeout: float) -> None:
        """Report that content of a history contradicts etcd, and wait until that is settled; see `confirm`."""
        if history is self.history:
            await self._settle_doubt(Doubt(reason), timeout)

    async def confirm(self, timeout: float | None = None) -> None:
        """Wait until etcd was asked, after now, whether it still is in the current history.

        A timeout of None waits until the caller is cancelled, also through an outage.

        Raises:
            DeadlineExceeded: It could not be asked within that time.
            CircuitOpen: An outage has been declared.
        """
        ticket = self._needed = self._begun + 1
        self._waiting += 1
        self._wake.fire()
        try:
            with anyio.move_on_after(timeout):
                while self._settled < ticket:
                    events = [self.changed.next(), self._cluster.changed.next()]
                    if timeout is not None:
                        self._cluster.admit(Lane.QUORUM)
                    await first_of(events)
        finally:
            self._waiting -= 1
        if self._settled < ticket:
            raise DeadlineExceeded("which history etcd is in could not be asked in time")

    async def _settle_doubt(self, doubt: Doubt, timeout: float | None = None) -> None:
        # The first one is as good as any: what is settled is settled for all.
        self._search.doubt = self._search.doubt or doubt
        await self.confirm(timeout)

    async def run(self, store: Store) -> None:
        """Look at the marker whenever a caller needs that, and now and then, until cancelled."""
        failures = 0
        while True:
            await self._until_due()
            self._begun += 1
            number, blackouts, resets = self._begun, self._cluster.blackouts, self.resets
            try:
                considered = await self._ask(store)
            except StoreFault:
                # The monitor will see it, too. Each caller that waits has a deadline of its own.
                self._search.drop_doubt()
                await self._pause(failures)
                failures += 1
                continue
            failures = 0
            self._search.tried.clear()
            if self._search.doubt is considered or self.resets != resets:
                self._search.doubt = None
            self._settled, self._blackouts = number, blackouts
            self._looked_at = self._clock.monotonic()
            self.changed.fire()

    async def _pause(self, failures: int) -> None:
        """Wait until another look makes sense: another caller needs one, or the monitor says something."""
        came = self._news.next()
        await anyio.sleep(_AFTER_TROUBLE)
        with anyio.move_on_after(min(_AFTER_TROUBLE * 2.0 ** min(failures, 10), _MOST_TROUBLE) - _AFTER_TROUBLE):
            await came.wait()

    async def _until_due(self) -> None:
        while not self._waiting or self._settled >= self._needed:
            self._strangers.forget_who_left()
            came = self._news.next()
            left = math.inf
            if self._settled and self._cluster.health.quorum.closed and not self._cluster.breakers.suspected:
                pause = _LOOK_AGAIN if self.overwritten else _LOOK_EVERY
                left = self._looked_at + pause - self._clock.monotonic()
            if left <= 0:
                return
            with anyio.move_on_after(left):
                await came.wait()

    async def _ask(self, store: Store) -> Doubt | None:
        """Look at the marker, decide, and write a new one if that is what follows; return what was considered."""
        began = self._clock.monotonic()
        while True:
            doubt, sent_at = self._search.doubt, self._clock.monotonic()
            member, look = await self._search.read_anywhere(store, doubt)
            if isinstance(look, Fault):
                passed = doubt is not None and doubt.term_only and await self._search.has_passed(store, member)
                self._settle_unseen(None if passed else doubt, look)
                return doubt
            expected = doubt.header.cluster_id if doubt and doubt.header else self.known.cluster_id
            if expected and look.header.cluster_id != expected:
                self._search.tried.add(member)
                raise StoreFault(self.refusal(member, look.header.cluster_id))
            held = None if doubt and doubt.term_only and self.known.caught_up(look.header) else doubt
            evidence = held.reason if held and held.evidence else None
            evidence = evidence or self.known.contradiction(look.header, sent_at)
            settlement = self._settle(look, evidence)
            if settlement.reset is None and held is not None:
                settlement = replace(settlement, reset=held.reason)
            if not settlement.write:
                self._conclude(settlement, look, look.marker, sent_at)
                return doubt
            if await self._write(store, member, settlement, look, sent_at, began):
                return doubt

    async def _write(
        self, store: Store, member: str, settlement: Settlement, look: Look, sent_at: float, began: float
    ) -> bool:
        """Write the marker that is due; return whether all is settled now; if not, another look is due."""
        marker, counted = None, self.epoch
        if self._writes and not (self._denied and settlement.reset is None):
            try:
                if settlement.reset is not None:
                    await anyio.sleep(_SPREAD * self._cluster.random())
                    again = await self._search.read(store, member)
                    if again.mod_revision != look.mod_revision:
                        return False
                # What was overwritten is written again as it was, for those who have seen nothing of it.
                same = self.overwritten is not None and look.marker is None and settlement.reset is None
                history = self.known.history if same else ""
                marker = await write_marker(store, self._key, member, look, settlement.epoch, history)
                if marker is None:
                    return False
            except StoreFault as exc:
                patient = self._clock.monotonic() - began < _WRITE_PATIENCE
                if exc.fault.outage and settlement.reset is not None and patient:
                    await anyio.sleep(_AFTER_TROUBLE)
                    return False
                self._denied = exc.fault.kind is FaultKind.PERMISSION
                self._report(f"cannot write {self._key.decode()}: {exc.fault.brief}")
        if self.epoch != counted:
            # What an earlier process has left was read meanwhile: this was decided without it.
            return False
        self._conclude(settlement, look, marker, sent_at)
        return True

    def _settle(self, look: Look, evidence: str | None) -> Settlement:
        """Decide what a look at the marker means, of which `evidence` tells nothing if it is None."""
        known = self.known
        if look.foreign is not None:
            return settle_unseen(known, evidence)
        if self.overwritten is not None and look.marker is None:
            if not known.epoch and evidence is None:
                # A process that knows how it was writes it again; without one it stays missing.
                return Settlement(None, known.epoch, write=False)
            # A marker that was overwritten, and is gone with what stood in its place, proves nothing.
            known = replace(known, history="")
        return settle(known, look.marker, look.header, evidence)

    def _settle_unseen(self, doubt: Doubt | None, fault: Fault) -> None:
        """Decide without the marker, which this client may not read."""
        self._report(f"cannot read {self._key.decode()}: {fault.brief}")
        settlement = settle_unseen(self.known, doubt.reason if doubt else None)
        if settlement.reset is not None:
            self._begin(settlement, doubt.header if doubt else None, "", self._clock.monotonic())

    def _conclude(self, settlement: Settlement, look: Look, marker: EpochMarker | None, sent_at: float) -> None:
        """Take over what was decided; `marker` is None if there is none, or it was to be written and was not."""
        kept = self.known.history if look.foreign is not None and settlement.reset is None else ""
        history = kept if marker is None else marker.history
        if settlement.reset is not None and (self.known.epoch or self.known.cluster_id):
            self._begin(settlement, look.header, history, sent_at)
        self.known = replace(self.known, epoch=settlement.epoch, history=history)
        if marker is not None:
            self.error = None
        self._record_overwritten(look)
        self._strangers.proven(sent_at)
        self.record(look.header, linearizable=True)
        self._describe()
        self._cluster.prove(sent_at, look.header)

    def _begin(self, settlement: Settlement, header: Header | None, marker: str, at: float) -> None:
        """Begin another history and tell everybody."""
        before = self.known.epoch
        term, revision = (header.raft_term, header.revision) if header else (0, 0)
        cluster_id = header.cluster_id if header else self.known.cluster_id
        self.known = Known(cluster_id, term, revision, at, settlement.epoch, marker)
        self.history = Epoch(cluster_id, settlement.epoch, marker)
        self._began_at = at
        self.foreign.clear()
        self.resets += 1
        reset = Reset(settlement.epoch, before, settlement.reset or "", at, cluster_id, revision)
        self.last_reset = reset
        telemetry.backend_reset(reset.reason, epoch=reset.epoch, revision=revision)
        for callback in self._subscribers:
            callback(reset)
        self.changed.fire()

    def _describe(self) -> None:
        """Keep the current history in step with what is known of it."""
        history, known = self.history, self.known
        history.cluster_id, history.epoch, history.marker = known.cluster_id, known.epoch, known.history

    def _record_overwritten(self, look: Look) -> None:
        """Remember what is in the marker's place, and tell it once."""
        key = self._key.decode()
        if look.foreign is None:
            if self.overwritten is not None and not self.known.epoch:
                self._report(f"{key} was overwritten, and is not written again yet")
            self.overwritten = None
            return
        self._report(f"{key} at revision {look.mod_revision} is no marker: {look.foreign}", level=logging.WARNING)
        self.overwritten = RejectedValue(key, look.mod_revision, look.foreign)

    def _report(self, error: str, level: int = logging.INFO) -> None:
        if error != self.error:
            telemetry.epoch_unshared(error, level=level)
        self.error = error
