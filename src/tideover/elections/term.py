"""One candidate's way to office, and one time in it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import anyio
from anyio.abc import TaskGroup

from tideover import telemetry
from tideover.cluster.closing_budget import ClosingBudget
from tideover.elections.peers.peering import Peering
from tideover.elections.record import ElectionRecord
from tideover.elections.rules.candidate import margin_of
from tideover.elections.stall_watchdog import Watchdog
from tideover.errors import Closed, LeadershipLost, TideoverError
from tideover.fencing.guard import Guard, Pending
from tideover.home import Home
from tideover.store.transactions import Compare
from tideover.types import Standing

# Seconds between two looks at the clock, where nothing else happens.
_TICK = 0.25
# Each request to a leader asks for it, and looking a member of an enumeration up takes a tenth of the answer.
_HELD = Standing.HELD

# What is reported of a leader that stands on other ground than before, and at which level.
_AGAIN = {
    Standing.HELD: ("confirmed", logging.INFO),
    Standing.CONFIRMED: ("confirmed by the other candidates", logging.INFO),
    Standing.UNCONFIRMED: (
        "unconfirmed: it leads on without etcd",
        logging.WARNING,
    ),
}


class Candidacy:
    """A candidate for an election: its record, and whether anything tends it.

    Args:
        name: The election.
        record: The record.
        home: Runs its tasks, again if they fail.
        epoch: Returns the epoch that tokens are to be compared with.
        closing: How long it may try to let etcd know that it has left office.
        peering: Its dealings with the other candidates; None if nobody is asked in an outage.
        watchdog: Notices a blocked event loop while it is in office; None if nothing does.

    Attributes:
        name: The election.
        peering: Its dealings with the other candidates.
        record: The record.
        refusal: Why it can never be elected; None if it can.
        ended: Why it ended from outside; empty if it did not.
        body_until: Until when a body that has lost its leadership may still run, in boot-time seconds; None if
            there is none.
        term: Its one term; None before it.
    """

    def __init__(
        self,
        name: str,
        record: ElectionRecord,
        *,
        home: Home,
        epoch: Callable[[], int],
        closing: ClosingBudget,
        peering: Peering | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.name = name
        self.peering = peering
        self.record = record
        self.refusal: TideoverError | None = None
        self.ended = ""
        self.body_until: float | None = None
        self.term: Term | None = None
        self.epoch = epoch
        self._closing = closing
        self._home = home
        self._watchdog = watchdog
        self._scope = anyio.CancelScope()
        self._stopped: anyio.Event | None = None
        # The tenure of its one term; None before it. A later one is for its successor: this one's body is ending.
        self._tenure: int | None = None
        # What has been reported last, and of which tenure; None while nobody has heard of one, or of its end.
        self._told: Standing | None = None
        self._told_tenure = 0
        self._left: anyio.Event | None = None
        self._resigned = False

    def __repr__(self) -> str:
        """Show the record."""
        return f"<Candidacy {self.name!r} {self.record!r}>"

    async def run(self) -> None:
        """Tend the record until `stop`; once."""
        if self._stopped is not None:
            return
        stopped = self._stopped = anyio.Event()
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._home.run, f"reports of {self.name}", self._tell)
                    if self.peering is not None:
                        tasks.start_soon(self._home.run, f"peering of {self.name}", self.peering.run)
                    await self._home.run(f"candidacy for {self.name}", partial(self._keep, tasks))
        finally:
            try:
                # A definite no ends the reports in the moment of the loss.
                self._report_changes()
                self._be_watched(False)
                if self.peering is not None:
                    await self.peering.leave()
            finally:
                stopped.set()
                self.record.changed.fire()

    async def _keep(self, tasks: TaskGroup) -> None:
        """Keep the record; a definite no ends all."""
        try:
            await self.record.run()
        except TideoverError as exc:
            self.refusal = exc
            tasks.cancel_scope.cancel()
            await anyio.sleep_forever()

    async def _tell(self) -> None:
        """Report when it comes into office, stands on other ground, and loses it."""
        while True:
            changed = self.record.changed.next()
            self._report_changes()
            # Time alone changes nothing for who does not hold the record.
            with anyio.move_on_after(_TICK if self._told or self.record.state.held else None):
                await changed.wait()

    def _report_changes(self) -> None:
        """Report what has changed since the last report; an end from outside is reported where it is ended."""
        record, standing = self.record, self.standing
        if self._told and not (record.stands and record.tenure == self._told_tenure):
            self._report_end(f"leads no more: {record.loss_of(self._told_tenure)}", level=logging.WARNING)
        if standing is None or standing is self._told:
            return
        if self._told:
            what, level = _AGAIN[standing]
        else:
            what, level = "led again" if record.regained else "elected", logging.INFO
            self._be_watched(True)
        self._report(what, standing, level)
        self._told, self._told_tenure = standing, record.tenure

    def _report_end(self, what: str, *, level: int) -> None:
        """Report that it is not in office any more, if anybody has heard that it was."""
        if self._told:
            self._report(what, None, level)
            self._told = None
        self._be_watched(False)

    def _be_watched(self, watched: bool) -> None:
        if self._watchdog is not None:
            (self._watchdog.watch if watched else self._watchdog.forget)(self.name, self.record)

    def _report(self, what: str, standing: Standing | None, level: int) -> None:
        ground = standing.value if standing else ""
        telemetry.leadership_changed(self.name, what, token=self.record.state.token, standing=ground, level=level)

    def withdraw(self) -> None:
        """Let whoever waits to be elected know that nothing will come of it."""
        if self.refusal is None:
            self.refusal = LeadershipLost(f"the candidacy for {self.name!r} was withdrawn before it was elected")
        self.record.changed.fire()

    def disown(self, why: str) -> None:
        """Count as lost from outside, while the record is tended until `stop`."""
        if not self.ended:
            self.ended = why
            self._report_end(f"leads no more: {why}", level=logging.WARNING)
        self.record.changed.fire()

    async def stop(self) -> None:
        """Tend it no more, and return when that is so."""
        # One that has not begun yet is cancelled when it does.
        self._scope.cancel()
        if self._stopped is not None:
            await self._stopped.wait()

    @property
    def leads(self) -> bool:
        """Whether it is in office, as far as is known: once, and never again after a loss."""
        return self.record.stands and not self.ended and self._tenure in (None, self.record.tenure)

    @property
    def standing(self) -> Standing | None:
        """On what ground it is in office; None if it is not."""
        record = self.record
        if self.ended or self._tenure not in (None, record.tenure):
            return None
        state, now = record.state, record.now
        if state.believes(now):
            return Standing.CONFIRMED if state.confirmed_only(now) else _HELD
        return Standing.UNCONFIRMED if record.stands else None

    @property
    def overdue(self) -> float | None:
        """Seconds for which its body has run for longer than it may; None if it has not."""
        late = 0.0 if self.body_until is None else self.record.now - self.body_until
        return late if late > 0 else None

    async def elected(self, namespace: str) -> Term:
        """Wait until it is in office.

        Raises:
            TideoverError: That can never be.
        """
        with telemetry.campaigning(namespace, self.name):
            await self.record.wait(lambda: self.leads or self.refusal is not None or bool(self.ended))
            if not self.leads:
                raise self.refusal or Closed(self.ended)
        # Before the body has its first chance to block.
        self._be_watched(True)
        self._tenure = self.record.tenure
        self.term = Term(self)
        return self.term

    async def leave(self, *, loss: str = "", raised: BaseException | None = None, resigning: bool = True) -> bool:
        """Leave office, let etcd know so that another is elected at once, and report what has become of it.

        Bounded in time; otherwise the office is free after ttl and margin. Who calls second waits for the first.

        Args:
            loss: Why it is lost; empty if it is given up.
            raised: What the body has raised.
            resigning: Whether etcd is to know; not where the office may yet be regained.

        Returns:
            Whether the record is certain not to be ours; False if etcd was not to know.
        """
        if self._left is not None:
            await self._left.wait()
            return self._resigned
        self._left = anyio.Event()
        if loss and loss == self.ended:
            # The body has found the end that came from here before it was told of it: nothing is regained.
            loss, resigning = "", True
        try:
            # A body may end before anybody has had the time to report that it leads.
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


class Term:
    """One time in office: given by `leader` and by `Election.campaign`.

    All it says is computed from the clock when it is asked, so that a process that was stopped for a while does
    not believe what was true before.
    """

    def __init__(self, candidacy: Candidacy) -> None:
        self._candidacy = candidacy
        self._record = candidacy.record
        self._tenure = self._record.tenure
        self._token = self._record.state.token
        self._epoch = candidacy.epoch()
        self._left = ""

    def __repr__(self) -> str:
        """Show election, token, and on what ground it leads."""
        return f"<Term of {self._candidacy.name!r}, token {self._token}: {self.loss or self.standing}>"

    @property
    def name(self) -> str:
        """The election."""
        return self._candidacy.name

    @property
    def token(self) -> int:
        """The fencing token: grows with each change of leader, and stays the same for the whole term.

        A resource that remembers the largest `(epoch, token)` it was given, and refuses smaller ones, is safe even
        from a leader that was stopped between its last `check` and its write.
        """
        return self._token

    @property
    def epoch(self) -> int:
        """Which history of etcd the token belongs to: compare `(epoch, token)`."""
        return self._epoch

    @property
    def loss(self) -> str:
        """Why it is over; empty as long as it is not."""
        record = self._record
        if self._left or self._candidacy.ended:
            return self._left or self._candidacy.ended
        if record.stands and record.tenure == self._tenure:
            return ""
        return record.loss_of(self._tenure)

    @property
    def leads(self) -> bool:
        """Whether it still leads, on whatever ground."""
        return not self.loss

    @property
    def standing(self) -> Standing:
        """On what ground it leads: `HELD` as long as a renewal in etcd holds; then, in an outage, `CONFIRMED`.

        Or, if it stays whatever happens, `UNCONFIRMED`.

        Raises:
            LeadershipLost: It leads no more.
        """
        self.check()
        # None only if the clock struck between the two.
        return self._candidacy.standing or Standing.UNCONFIRMED

    @property
    def ground(self) -> Standing | None:
        """On what ground it leads; None if it leads no more."""
        return None if self._left else self._candidacy.standing

    @property
    def deadline(self) -> float:
        """Until when it leads for certain, in seconds on the boot-time clock (CLOCK_BOOTTIME)."""
        return self._record.state.deadline

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; negative beyond it."""
        return self._record.left

    def check(self) -> None:
        """Do nothing if it still leads. To be called right before anything that only a leader may do. No I/O.

        Raises:
            LeadershipLost: It leads no more; the message says why.

        When degraded:
            Under `"step_down"` it raises from the deadline on; under `"peers"` too, but the other candidates may
            move it. Under `"stay"` it does not: look at `standing`.
        """
        if self.loss:
            raise self._error()

    def guard(self) -> Guard:
        """Return what fences a write to etcd: `await tide.config.put(key, value, guard=term.guard())`.

        The write is applied only if nobody else has been elected, at the very moment of the write. The term ends
        if it is not.

        Raises:
            LeadershipLost: It leads no more.

        When degraded:
            As `check`; the write itself needs a quorum.
        """
        self.check()
        compare = Compare(self._record.token_key, mod_revision=self._token)
        return Guard(compare, check=self.check, pending=Pending(), lose=self._lose)

    def _lose(self, why: str) -> LeadershipLost:
        """Take in that a guarded write was refused; return the error to raise."""
        if self.leads:
            self._record.doubt(why)
        return self._error()

    def _error(self) -> LeadershipLost:
        return LeadershipLost(f"{self.name!r} is not led here any more: {self.loss}")

    def end(self, why: str) -> None:
        """Let it be over: the body has been left."""
        self._left = self._left or self.loss or why
