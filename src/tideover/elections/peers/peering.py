"""One candidacy's dealings with the other candidates of its election.

While it leads it keeps an eye on who else is there, and, once renewals fail, asks all of them for promises. While
another leads it makes itself known to it, gives promises, and takes its leave when it ends.

What it costs while etcd is well: one small request per candidate every ttl / 3, which binds nobody. Who does not
answer for long is struck off the list while that can still be done, and not first found missing in an outage.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from tideover import telemetry
from tideover.clock import Clock
from tideover.elections.peers.listener import PeerListener, nonce
from tideover.elections.peers.messages import Kind, Message
from tideover.elections.peers.network import Silent
from tideover.elections.record import ElectionRecord
from tideover.elections.rules.candidate import Candidate
from tideover.elections.rules.failsafe import PeerSet, Question, Verdict, answer, failing
from tideover.shown import shown

# Seconds between two tries to say something.
_AGAIN = 0.1
# Less than this cannot be slept for: a clock's rounding would make a loop of it.
_MOMENT = 0.001
# Seconds for a candidate's farewell, at the most.
_FAREWELL = 1.0
# Seconds before a candidate that is not listed is told so, in the log.
_PATIENCE = 3.0


class Peering:
    """What one candidacy says to the others, and what they say to it.

    Args:
        record: Its record.
        desk: Where it is asked.
        clock: The clocks; its deadlines are on the boot-time clock.
        chance: Draws a number uniformly from [0, 1).
        epoch: Returns the epoch that the election belongs to.

    Attributes:
        assembly: Who else is there, as long as it leads.
    """

    def __init__(
        self,
        record: ElectionRecord,
        *,
        desk: PeerListener,
        clock: Clock,
        chance: Callable[[], float],
        epoch: Callable[[], int],
    ) -> None:
        self.assembly = PeerSet(alone=desk.options.alone == "stay")
        self._record = record
        self._desk = desk
        self._clock = clock
        self._chance = chance
        self._epoch = epoch
        self._election = shown(record.key)
        # Begins where no earlier one of the same candidate can have been: it may have lost its office and be back.
        self._number = int(clock.boot() * 1_000_000)
        self._asking: set[str] = set()
        # The newest number of each other candidate's messages, so that recorded ones are worth nothing.
        self._numbers: dict[str, int] = {}
        self._join_at = -math.inf
        self._unlisted_since = math.inf
        self._warned = ""
        record.wanted = lambda: self.assembly.wanted(record.timing, clock.boot())

    def __repr__(self) -> str:
        """Count the others."""
        return f"<Peering {self.me} with {len(self.assembly.peers)} others>"

    @property
    def me(self) -> str:
        """Our incarnation."""
        return self._record.state.me

    @property
    def listed(self) -> bool:
        """Whether the record lists us, or is ours."""
        state = self._record.state
        return state.held or (state.seen is not None and self.me in state.seen.candidates)

    @property
    def silent(self) -> tuple[str, ...]:
        """The addresses of those who have not answered for a ttl; in an outage they cost us the leadership."""
        state = self._record.state
        return self.assembly.silent(state, self._clock.boot()) if state.held else ()

    async def run(self) -> None:
        """Deal with the others, until cancelled."""
        self._desk.seat(self)
        async with anyio.create_task_group() as tasks:
            while True:
                changed = self._record.changed.next()
                idle_until = self._lead(tasks) if self._record.state.held else self._follow(tasks)
                with anyio.move_on_after(max(_MOMENT, idle_until - self._clock.boot())):
                    await changed.wait()

    async def leave(self) -> None:
        """Take our leave, for good: whoever leads need not ask us any more. To be called when `run` has ended."""
        record, state = self._record, self._record.state
        self._desk.unseat(self)
        seen = state.seen
        if state.held or (seen is not None and state.owns(seen)):
            # Ours to give up, or to be taken up again by the same candidate.
            return
        record.learn(state.retire())
        leader = self._leader()
        if leader is None:
            return
        with anyio.move_on_after(_FAREWELL, shield=True):
            while True:
                try:
                    await self._say(Kind.RETIRE, leader, timeout=_FAREWELL / 2)
                    return
                except Silent as exc:
                    if exc.gone:
                        return
                    await anyio.sleep(_AGAIN)

    # While we lead ---------------------------------------------------------------------------------------------

    def _lead(self, tasks: TaskGroup) -> float:
        """Begin to ask whoever is due; return until when nothing more is, if nothing is heard."""
        state, now = self._record.state, self._clock.boot()
        document = self._record.document
        if document is not None and document.holder == self.me:
            listed = {name: at for name, at in document.listed.items() if name in state.electorate}
            self.assembly = self.assembly.found(listed, now).pruned(state, now)
        for name in self.assembly.due(state, now):
            if name not in self._asking:
                self._asking.add(name)
                tasks.start_soon(self._ask, name)
        self._extend()
        return self.assembly.idle_until(self._record.state, now, self._asking)

    async def _ask(self, name: str) -> None:
        """Ask one of them once."""
        state, sent_at = self._record.state, self._clock.boot()
        binding = failing(state, sent_at) and not self._record.refused and name in state.electorate
        self.assembly = self.assembly.asked(name, sent_at)
        address = self.assembly.peers[name].address
        promise = state.timing.ttl if binding else 0.0
        try:
            message = self._message(Kind.ASK if binding else Kind.PING, self.me, name, promise)
            verdict = await self._desk.say(address, message, timeout=state.timing.rpc_timeout)
        except Silent as exc:
            if exc.gone:
                self.assembly = self.assembly.answered(name, None, sent_at, self._clock.boot())
            else:
                self.assembly = self.assembly.unanswered(name)
        else:
            self._answered(name, verdict, sent_at, binding=binding, term=message.term)
        finally:
            self._asking.discard(name)
        self._record.review()

    def _answered(self, name: str, verdict: Verdict, sent_at: float, *, binding: bool, term: int) -> None:
        state = self._record.state
        if binding and (not state.held or state.seen is None or state.seen.term != term):
            return
        self.assembly = self.assembly.answered(name, verdict, sent_at, self._clock.boot())
        if verdict.is_veto and binding and self._record.held:
            self._record.learn(state.refuted(f"another candidate says that it has lost it ({verdict})"))
        self._extend()

    def _extend(self) -> None:
        """Let the deadline follow the others' promises, while there is need of that."""
        state, now = self._record.state, self._clock.boot()
        if failing(state, now) and not self._record.refused:
            self._record.learn(self.assembly.extended(state, now))

    # While another leads ---------------------------------------------------------------------------------------

    def _follow(self, tasks: TaskGroup) -> float:
        """Make ourselves known, if the leader does not list us where we are; return until when that will do."""
        leader, now, document = self._leader(), self._clock.boot(), self._record.document
        if self.assembly.peers:
            self.assembly = PeerSet(alone=self.assembly.alone)
        if leader is None or document is None or document.listed.get(self.me) == self._desk.address:
            self._unlisted_since, self._warned = math.inf, ""
            self._join_at = -math.inf
            return math.inf
        self._unlisted_since = min(self._unlisted_since, now)
        warn_at = self._unlisted_since + self._record.timing.ttl + _PATIENCE
        if now >= warn_at and self._warned != leader[0]:
            self._warned = leader[0]
            telemetry.peers_noted(
                f"{self._election!r}: its leader at {shown(leader[1])} does not list this candidate, "
                f"{self._desk.address}: can they reach each other? Until then this candidate takes over only what "
                "is given up, or after confirm_limit",
                level=logging.WARNING,
            )
        if now >= self._join_at:
            self._join_at = now + self._record.timing.interval * (0.5 + 0.5 * self._chance())
            tasks.start_soon(self._join, leader)
        return min(self._join_at, warn_at if self._warned != leader[0] else math.inf)

    async def _join(self, leader: tuple[str, str]) -> None:
        try:
            verdict = await self._say(Kind.JOIN, leader, timeout=self._record.timing.rpc_timeout)
        except Silent:
            return
        if verdict is Verdict.NOT_LEADER:
            # It has only just been elected, or has only just lost: again soon.
            self._join_at = min(self._join_at, self._clock.boot() + 2 * _AGAIN)
            self._record.changed.fire()

    def _leader(self) -> tuple[str, str] | None:
        """Return who holds the record, and where it is; None if that is nobody, or we."""
        document = self._record.document
        if document is None or document.vacant or not document.peer or document.holder in ("", self.me):
            return None
        return document.holder, document.peer

    # Messages --------------------------------------------------------------------------------------------------

    def take(self, message: Message) -> Verdict:
        """Decide on another's message. Nothing may come between the decision and what is learnt by it."""
        record, now = self._record, self._clock.boot()
        if message.election != self._election or message.epoch != self._epoch():
            return Verdict.UNKNOWN
        if message.kind is Kind.PING:
            return Verdict.HERE
        if message.kind is Kind.ASK:
            question = Question(message.leader, message.term, message.number, message.promise)
            state, verdict = answer(record.state, question, now)
            record.learn(state)
            return verdict
        if not record.state.held:
            return Verdict.NOT_LEADER
        if message.number <= self._numbers.get(message.peer, 0):
            return Verdict.REPLAYED
        return self._take_note(message, record.state)

    def _take_note(self, message: Message, state: Candidate) -> Verdict:
        """Take in that a candidate comes or goes."""
        if len(self._numbers) >= 1024:
            self._numbers.pop(next(iter(self._numbers)))
        self._numbers[message.peer] = message.number
        if message.kind is Kind.RETIRE:
            self.assembly = self.assembly.retired(message.peer)
        else:
            self.assembly = self.assembly.applied(message.peer, message.address)
        self._record.review()
        return Verdict.LISTED if message.peer in state.electorate else Verdict.PENDING

    def _message(self, kind: Kind, leader: str, peer: str, promise: float = 0.0) -> Message:
        self._number += 1
        seen = self._record.state.seen
        return Message(
            kind,
            election=self._election,
            epoch=self._epoch(),
            leader=leader,
            term=seen.term if seen else 0,
            number=self._number,
            nonce=nonce(),
            peer=peer,
            promise=float(promise),
            address=self._desk.address if kind is Kind.JOIN else "",
        )

    async def _say(self, kind: Kind, leader: tuple[str, str], *, timeout: float) -> Verdict:
        message = self._message(kind, leader[0], self.me)
        return await self._desk.say(leader[1], message, timeout=timeout)
