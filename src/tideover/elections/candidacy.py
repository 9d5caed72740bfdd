"""One candidacy: the record of one election, renewed in the background until the candidacy ends."""

from __future__ import annotations

import logging
from functools import partial

import anyio
from anyio.abc import TaskGroup

from tideover import telemetry
from tideover.client.client import Client
from tideover.elections.peers.peering import Peering
from tideover.elections.record import ElectionRecord
from tideover.elections.rules.candidate import margin_of
from tideover.elections.stall_watchdog import Watchdog
from tideover.errors import Closed, LeadershipLost, TideoverError
from tideover.status import ElectionStatus
from tideover.types import Standing

# Seconds between two looks at the clock, where nothing else happens.
_TICK = 0.25
# Each request to a leader reads this member, and looking up a member of an enumeration takes a tenth of the
# answer.
_HELD = Standing.HELD

# The message and the level for a leader whose standing has changed.
_AGAIN = {
    Standing.HELD: ("confirmed", logging.INFO),
    Standing.CONFIRMED: ("confirmed by the other candidates", logging.INFO),
    Standing.UNCONFIRMED: (
        "unconfirmed: it leads on without etcd",
        logging.WARNING,
    ),
}


class Candidacy:
    """Runs one candidate for an election, and reports what becomes of it.

    Many attributes: the record and its surroundings, and what was reported last.
    """

    def __init__(
        self,
        name: str,
        record: ElectionRecord,
        client: Client,
        *,
        peering: Peering | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.name = name
        self.peering = peering
        self.record = record
        self.refusal: TideoverError | None = None  # why this candidate can never be elected
        self.ended = ""  # why the candidacy was ended from outside; empty if it was not
        self.body_until: float | None = None  # boot-time seconds until which a body may run on after a loss
        self.epoch = client.epoch
        self._closing = client.state.closing
        self._home = client.home
        self._watchdog = watchdog
        self._scope = anyio.CancelScope()
        self._stopped: anyio.Event | None = None
        # The tenure of the one term; None before it. A later tenure belongs to the next candidacy.
        self._tenure: int | None = None
        # The standing reported last, and its tenure; None before the first report and after that of the loss.
        self._reported: Standing | None = None
        self._reported_tenure = 0
        self._left: anyio.Event | None = None
        self._resigned = False

    async def run(self) -> None:
        """Renew the record until `stop`; once."""
        if self._stopped is not None:
            return
        stopped = self._stopped = anyio.Event()
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._home.run, f"reports of {self.name}", self._watch)
                    if self.peering is not None:
                        tasks.start_soon(self._home.run, f"peering of {self.name}", self.peering.run)
                    await self._home.run(f"candidacy for {self.name}", partial(self._keep, tasks))
        finally:
            try:
                # A definite no cancels `_watch` at the moment of the loss.
                self._report_changes()
                self._be_watched(False)
                if self.peering is not None:
                    await self.peering.leave()
            finally:
                stopped.set()
                self.record.changed.fire()

    async def _keep(self, tasks: TaskGroup) -> None:
        try:
            await self.record.run()
        except TideoverError as exc:
            # A definite no ends the whole candidacy.
            self.refusal = exc
            tasks.cancel_scope.cancel()
            await anyio.sleep_forever()

    async def _watch(self) -> None:
        """Report the election, each change of the standing, and the loss."""
        while True:
            changed = self.record.changed.next()
            self._report_changes()
            # Time alone changes nothing for a candidate that does not hold the record.
            with anyio.move_on_after(_TICK if self._reported or self.record.state.held else None):
                await changed.wait()

    def _report_changes(self) -> None:
        """Report what has changed since the last report; `disown` reports an end from outside."""
        record, standing = self.record, self.standing
        if self._reported and not (record.stands and record.tenure == self._reported_tenure):
            self._report_end(f"leads no more: {record.loss_of(self._reported_tenure)}", level=logging.WARNING)
        if standing is None or standing is self._reported:
            return
        if self._reported:
            what, level = _AGAIN[standing]
        else:
            what, level = "led again" if record.regained else "elected", logging.INFO
            self._be_watched(True)
        self._report(what, standing, level)
        self._reported, self._reported_tenure = standing, record.tenure

    def _report_end(self, what: str, *, level: int) -> None:
        """Report the end of the leadership, if its begin was reported."""
        if self._reported:
            self._report(what, None, level)
            self._reported = None
        self._be_watched(False)

    def _be_watched(self, watched: bool) -> None:
        if self._watchdog is not None:
            (self._watchdog.watch if watched else self._watchdog.forget)(self.name, self.record)

    def _report(self, what: str, standing: Standing | None, level: int) -> None:
        value, token = standing.value if standing else "", self.record.state.token
        telemetry.leadership_changed(self.name, what, token=token, standing=value, level=level)

    def withdraw(self) -> None:
        """End the wait in `elected` with `LeadershipLost`."""
        if self.refusal is None:
            self.refusal = LeadershipLost(f"the candidacy for {self.name!r} was withdrawn before it was elected")
        self.record.changed.fire()

    def disown(self, why: str) -> None:
        """End the leadership from outside; the record is renewed until `stop`."""
        if not self.ended:
            self.ended = why
            self._report_end(f"leads no more: {why}", level=logging.WARNING)
        self.record.changed.fire()

    async def stop(self) -> None:
        """Stop renewing; return when the task has ended."""
        # A task that has not begun yet is cancelled when it begins.
        self._scope.cancel()
        if self._stopped is not None:
            await self._stopped.wait()

    @property
    def leads(self) -> bool:
        """Whether this candidate leads, as far as is known: once, and never again after a loss."""
        return self.record.stands and not self.ended and self._tenure in (None, self.record.tenure)

    @property
    def standing(self) -> Standing | None:
        """What the leadership rests on; None if this candidate does not lead."""
        record = self.record
        if self.ended or self._tenure not in (None, record.tenure):
            return None
        state, now = record.state, record.now
        if state.believes(now):
            return Standing.CONFIRMED if state.confirmed_only(now) else _HELD
        return Standing.UNCONFIRMED if record.stands else None

    @property
    def overdue(self) -> float | None:
        """Seconds since the body should have ended; None if it has ended, or may still run."""
        late = 0.0 if self.body_until is None else self.record.now - self.body_until
        return late if late > 0 else None

    def status(self) -> ElectionStatus:
        """Return the status of this candidacy. No I/O."""
        record, leads, peering = self.record, self.leads, self.peering
        led = record.content.in_force
        trouble = record.error.brief if record.error else record.state.loss
        return ElectionStatus(
            name=self.name,
            standing=self.standing,
            on_outage=record.content.claim.policy,
            token=record.state.token if leads else None,
            remaining=record.left if leads else None,
            holder=led.holder if led else None,
            error=str(self.refusal or trouble or "") or None,
            listed=None if peering is None else peering.listed,
            peers=None if peering is None or not record.state.held else len(record.state.electorate),
            silent=() if peering is None else peering.silent,
            held_by=led.holder_shown or None if led else None,
            ttl=record.timing.ttl,
            renewed_ago=record.renewed_ago if leads else None,
            seen_ago=record.seen_ago,
            address=led.address or None if led else None,
            overdue=self.overdue,
        )

    async def elected(self, namespace: str) -> None:
        """Wait until this candidate leads, and its one term begins; raise if that can never be."""
        with telemetry.campaigning(namespace, self.name):
            await self.record.wait(lambda: self.leads or self.refusal is not None or bool(self.ended))
            if not self.leads:
                raise self.refusal or Closed(self.ended)
        # Before the body has its first chance to block.
        self._be_watched(True)
        self._tenure = self.record.tenure

    async def leave(self, *, loss: str = "", raised: BaseException | None = None, resigning: bool = True) -> bool:
        """End the candidacy, resign, and report; bounded in time. A second call waits for the first.

        After a loss that the next candidacy may still regain nothing is resigned: the record is free after ttl and
        margin. Returns whether this candidate certainly does not hold the record; False without resigning.
        """
        if self._left is not None:
            await self._left.wait()
            return self._resigned
        self._left = anyio.Event()
        if loss and loss == self.ended:
            # The body has noticed the end from outside before its own cancellation: nothing can be regained.
            loss, resigning = "", True
        try:
            # A body may end before its election was reported.
            self._report_changes()
            await self.stop()
            self._resigned = resigning and await self.record.resign(self._closing.seconds())
        finally:
            self._report_leaving(loss, raised)
            self._left.set()
        return self._resigned

    def _report_leaving(self, loss: str, raised: BaseException | None) -> None:
        why = f": {self.ended}" if self.ended else ""
        if raised:
            why = f" because its body raised {type(raised).__name__}"
        if loss:
            self._report_end(f"leads no more: {loss}", level=logging.WARNING)
        elif self._resigned:
            self._report_end(f"resigned{why}", level=logging.WARNING if raised else logging.INFO)
        else:
            ttl, error = self.record.timing.ttl, self.record.error
            silence = f"etcd could not be told{f' ({error.brief})' if error else ''}"
            vacancy = f"nobody else is elected before etcd has been there for {ttl + margin_of(ttl):g} s"
            self._report_end(f"not led here any more{why}; {silence}, and {vacancy}", level=logging.WARNING)
