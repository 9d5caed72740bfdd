"""One candidacy's messages to and from the other candidates of its election.

A leader pings the other candidates and lists those that answer; once renewals fail, it asks all of them for
promises. A follower joins the leader, answers its questions, and retires when its candidacy ends.

The cost while etcd is well: one small request per candidate every ttl / 3, which binds no candidate. A candidate
that does not answer for long leaves the list while the record can still be written, and is not first missed in an
outage.
"""

from __future__ import annotations

import logging
import math

import anyio
from anyio.abc import TaskGroup

from tideover import telemetry
from tideover.client.client import Client
from tideover.elections.peers.listener import PeerListener, nonce
from tideover.elections.peers.messages import Kind, Message
from tideover.elections.peers.network import Silent
from tideover.elections.record import ElectionRecord
from tideover.elections.rules.candidate import Candidate
from tideover.elections.rules.failsafe import PeerSet, Question, Verdict, answer, failing
from tideover.shown import shown

# Seconds between two tries to send a message.
_AGAIN = 0.1
# The shortest sleep: with less, a clock's rounding would make a busy loop.
_MOMENT = 0.001
# Seconds for telling the leader that a candidate retires, at the most.
_RETIRE_TIMEOUT = 1.0
# Seconds before a candidate that is not listed is told so, in the log.
_PATIENCE = 3.0


class Peering:
    """Exchanges one candidacy's messages, and applies them to its record."""

    def __init__(self, record: ElectionRecord, client: Client, listener: PeerListener) -> None:
        self.peers = PeerSet(alone=listener.options.alone == "stay")
        self._record = record
        self._listener = listener
        self._clock = client.clock
        self._chance = client.random
        self._epoch = client.epoch
        self._election = shown(record.key)
        # Above all earlier numbers of the same candidate, which may have lost its election and be back.
        self._number = int(client.clock.boot() * 1_000_000)
        self._asking: set[str] = set()
        # The newest number of each other candidate's messages, so that recorded ones are refused.
        self._numbers: dict[str, int] = {}
        self._join_at = -math.inf
        self._unlisted_since = math.inf
        self._warned = ""
        record.content.wanted = lambda: self.peers.wanted(record.timing, client.clock.boot())

    @property
    def me(self) -> str:
        """This candidate's incarnation."""
        return self._record.state.me

    @property
    def listed(self) -> bool:
        """Whether this candidate holds the record, or the record lists it."""
        state = self._record.state
        return state.held or (state.seen is not None and self.me in state.seen.candidates)

    @property
    def silent(self) -> tuple[str, ...]:
        """The addresses of peers that have not answered for a ttl; in an outage each costs the leadership."""
        state = self._record.state
        return self.peers.silent(state, self._clock.boot()) if state.held else ()

    async def run(self) -> None:
        """Exchange messages until cancelled."""
        self._listener.register(self.me, self.answer)
        async with anyio.create_task_group() as tasks:
            while True:
                changed = self._record.changed.next()
                idle_until = self._lead(tasks) if self._record.state.held else self._follow(tasks)
                with anyio.move_on_after(max(_MOMENT, idle_until - self._clock.boot())):
                    await changed.wait()

    async def leave(self) -> None:
        """Retire, for good, after `run` has ended: the leader need not ask this candidate any more."""
        record, state = self._record, self._record.state
        self._listener.unregister(self.me, self.answer)
        seen = state.seen
        if state.held or (seen is not None and state.owns(seen)):
            # This candidate vacates the record, or takes it again in its next candidacy.
            return
        record.set_state(state.retire())
        leader = self._leader()
        if leader is None:
            return
        with anyio.move_on_after(_RETIRE_TIMEOUT, shield=True):
            while True:
                try:
                    await self._send(Kind.RETIRE, leader, timeout=_RETIRE_TIMEOUT / 2)
                    return
                except Silent as exc:
                    if exc.gone:
                        return
                    await anyio.sleep(_AGAIN)

    def _lead(self, tasks: TaskGroup) -> float:
        """Ask the peers that are due; return when to look again, if no answer comes."""
        state, now = self._record.state, self._clock.boot()
        document = self._record.content.document
        if document is not None and document.holder == self.me:
            listed = {name: at for name, at in document.listed.items() if name in state.electorate}
            self.peers = self.peers.found(listed, now).pruned(state, now)
        for name in self.peers.due(state, now):
            if name not in self._asking:
                self._asking.add(name)
                tasks.start_soon(self._ask, name)
        self._extend()
        return self.peers.idle_until(self._record.state, now, self._asking)

    async def _ask(self, name: str) -> None:
        state, sent_at = self._record.state, self._clock.boot()
        binding = failing(state, sent_at) and not self._record.refused and name in state.electorate
        self.peers = self.peers.asked(name, sent_at)
        address = self.peers.peers[name].address
        promise = state.timing.ttl if binding else 0.0
        try:
            message = self._message(Kind.ASK if binding else Kind.PING, self.me, name, promise)
            verdict = await self._listener.send(address, message, timeout=state.timing.rpc_timeout)
        except Silent as exc:
            if exc.gone:
                self.peers = self.peers.answered(name, None, sent_at, self._clock.boot())
            else:
                self.peers = self.peers.unanswered(name)
        else:
            self._answered(name, verdict, sent_at, binding=binding, term=message.term)
        finally:
            self._asking.discard(name)
        self._record.review()

    def _answered(self, name: str, verdict: Verdict, sent_at: float, *, binding: bool, term: int) -> None:
        state = self._record.state
        if binding and (not state.held or state.seen is None or state.seen.term != term):
            return
        self.peers = self.peers.answered(name, verdict, sent_at, self._clock.boot())
        if verdict.is_veto and binding and self._record.held:
            self._record.set_state(state.refuted(f"another candidate says that it has lost it ({verdict})"))
        self._extend()

    def _extend(self) -> None:
        """Move the deadline with the peers' promises while renewals fail."""
        state, now = self._record.state, self._clock.boot()
        if failing(state, now) and not self._record.refused:
            self._record.set_state(self.peers.extended(state, now))

    def _follow(self, tasks: TaskGroup) -> float:
        """Join the leader if the record does not list this candidate's address; return when to look again."""
        leader, now, document = self._leader(), self._clock.boot(), self._record.content.document
        if self.peers.peers:
            self.peers = PeerSet(alone=self.peers.alone)
        if leader is None or document is None or document.listed.get(self.me) == self._listener.address:
            self._unlisted_since, self._warned = math.inf, ""
            self._join_at = -math.inf
            return math.inf
        self._unlisted_since = min(self._unlisted_since, now)
        warn_at = self._unlisted_since + self._record.timing.ttl + _PATIENCE
        if now >= warn_at and self._warned != leader[0]:
            self._warned = leader[0]
            telemetry.peers_noted(
                f"{self._election!r}: its leader at {shown(leader[1])} does not list this candidate, "
                f"{self._listener.address}: can they reach each other? Until then this candidate takes over only "
                "what is given up, or after confirm_limit",
                level=logging.WARNING,
            )
        if now >= self._join_at:
            self._join_at = now + self._record.timing.interval * (0.5 + 0.5 * self._chance())
            tasks.start_soon(self._join, leader)
        return min(self._join_at, warn_at if self._warned != leader[0] else math.inf)

    async def _join(self, leader: tuple[str, str]) -> None:
        try:
            verdict = await self._send(Kind.JOIN, leader, timeout=self._record.timing.rpc_timeout)
        except Silent:
            return
        if verdict is Verdict.NOT_LEADER:
            # The leader was elected a moment ago, or has lost a moment ago: again soon.
            self._join_at = min(self._join_at, self._clock.boot() + 2 * _AGAIN)
            self._record.changed.fire()

    def _leader(self) -> tuple[str, str] | None:
        """Return the incarnation and the address of another candidate that holds the record."""
        document = self._record.content.document
        if document is None or document.vacant or not document.peer or document.holder in ("", self.me):
            return None
        return document.holder, document.peer

    def answer(self, message: Message) -> Verdict:
        """Answer another candidate's message, and apply it in the same step of the event loop."""
        record, now = self._record, self._clock.boot()
        if message.election != self._election or message.epoch != self._epoch():
            return Verdict.UNKNOWN
        if message.kind is Kind.PING:
            return Verdict.HERE
        if message.kind is Kind.ASK:
            question = Question(message.leader, message.term, message.number, message.promise)
            state, verdict = answer(record.state, question, now)
            record.set_state(state)
            return verdict
        if not record.state.held:
            return Verdict.NOT_LEADER
        if message.number <= self._numbers.get(message.peer, 0):
            return Verdict.REPLAYED
        return self._apply(message, record.state)

    def _apply(self, message: Message, state: Candidate) -> Verdict:
        """Apply a candidate's message that it joins or retires."""
        if len(self._numbers) >= 1024:
            self._numbers.pop(next(iter(self._numbers)))
        self._numbers[message.peer] = message.number
        if message.kind is Kind.RETIRE:
            self.peers = self.peers.retired(message.peer)
        else:
            self.peers = self.peers.applied(message.peer, message.address)
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
            address=self._listener.address if kind is Kind.JOIN else "",
        )

    async def _send(self, kind: Kind, leader: tuple[str, str], *, timeout: float) -> Verdict:
        message = self._message(kind, leader[0], self.me)
        return await self._listener.send(leader[1], message, timeout=timeout)
