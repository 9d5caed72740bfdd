"""The leases of one coordinator, renewed together and proven together, each every third of its TTL.

Leases that are due at the same moment are renewed over the one stream of their member. Once acknowledgements
have arrived, one read in common is the witness for them: a proof counts only for a lease whose acknowledgement had
arrived before the read was sent, and from the time at which its own renewal was sent. What the answers mean is
decided in `rules`, for each lease by itself.

What is late, refused or not proven moves nothing and holds no other lease up. It goes on at the next member, in a
batch of its own: together with those that failed alike, or alone if the trouble may be its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from contextlib import AbstractAsyncContextManager

import anyio

from tideover.client.direct import DirectCalls
from tideover.clock import Clock
from tideover.home import Home
from tideover.sessions.keys import SessionKeys
from tideover.sessions.lease import LeaseState
from tideover.sessions.round import Answer, Round, Turn
from tideover.sessions.rules import Verdict, judge
from tideover.sessions.schedule import Schedule
from tideover.store.faults import UNANSWERED, Fault, FaultKind, StoreFault
from tideover.store.leases import Attachments
from tideover.store.operations import MOST_READS, LeaseResult
from tideover.store.protocol import KeepAlive
from tideover.ticker import Ticker
from tideover.types import Header

# The longest stretch slept at once, in seconds: the clock to go by counts through a suspend, that of sleeping
# does not.
_NAP = 1.0
# Seconds between two renewals, however many reasons there are to hurry.
_LEAST_INTERVAL = 0.2
# Anchors are read as one range while at least every second key in between is one of them.
_NEIGHBOURS = 2
# How much longer all members are left alone in between, once the deadline has passed.
_PATIENT = 2.0


class LeaseRenewer:
    """Renews the leases of one coordinator until they have ended, in a task for each batch under way."""

    def __init__(self, *, direct: DirectCalls, clock: Clock, home: Home, ticker: Ticker) -> None:
        self._direct = direct
        self._clock = clock
        self._home = home
        self._turns: dict[LeaseState, Turn] = {}
        self._schedule: Schedule[Turn] = Schedule()
        self._streams: dict[str, tuple[AbstractAsyncContextManager[KeepAlive], KeepAlive]] = {}
        self._tick = ticker.every(math.inf, self._look)

    def add(self, tenure: LeaseState, holdings: SessionKeys) -> None:
        """Renew a lease from now on, for the first time one interval after its grant was sent.

        What was left behind among its keys is cleared away before a renewal counts.
        """
        turn = self._turns[tenure] = Turn(tenure, holdings)
        tenure.on_hurry = lambda: self._hurry(turn)
        self._expect(turn)
        self._aim()

    def remove(self, tenure: LeaseState) -> None:
        """Renew a lease no more; after the last one no stream is left."""
        turn = self._turns.pop(tenure, None)
        if turn is not None:
            self._schedule.drop(turn)
        if not self._turns and self._streams:
            self._home.start("close streams", self.aclose)

    async def aclose(self) -> None:
        """Close the streams; a later renewal opens others."""
        streams, self._streams = self._streams, {}
        for context, _ in streams.values():
            await context.__aexit__(None, None, None)

    # When ------------------------------------------------------------------------------------------------------

    def _expect(self, turn: Turn) -> None:
        """Let a lease be due one interval after its last proven renewal, or soon if there is reason to hurry."""
        tenure = turn.tenure
        if tenure not in self._turns or tenure.lost:
            return
        if turn.hurried:
            turn.hurried = False
            self._schedule.put_alone(turn, tenure.sent_at + _LEAST_INTERVAL)
        else:
            self._schedule.put(turn, tenure.sent_at + tenure.rules.renew_interval)

    def _hurry(self, turn: Turn) -> None:
        turn.hurried = True
        if self._schedule.drop(turn):
            self._expect(turn)
            self._aim()

    def _aim(self) -> None:
        left = self._schedule.next - self._clock.boot()
        if left <= 0:
            self._tick.soon()
        else:
            self._tick.period = min(left, _NAP) if self._turns else math.inf

    def _look(self) -> None:
        """Begin with what is due: batches of one member and one TTL, and each alone that goes alone."""
        batches: dict[tuple[object, ...], list[Turn]] = {}
        for turn in self._schedule.take(self._clock.boot()):
            tenure = turn.tenure
            apart = turn if turn.goes_alone else None
            batches.setdefault((tenure.member, tenure.rules.ttl, apart), []).append(turn)
        for batch in batches.values():
            for begin in range(0, len(batch), MOST_READS):
                self._begin(batch[begin : begin + MOST_READS])
        self._aim()

    def _begin(self, turns: list[Turn], tried: Iterable[str] = ()) -> None:
        self._home.start(f"renewal of {len(turns)} leases", self._see_through, turns, set(tried))

    # Whom ------------------------------------------------------------------------------------------------------

    async def _see_through(self, turns: list[Turn], tried: set[str]) -> None:
        """Renew some leases at one member after the other, until each is proven, gone, or goes on by itself."""
        rounds = 0
        while turns:
            member = self._choose(turns[0], tried)
            try:
                batch = await self._renew(member, turns)
            except Exception as exc:
                self._doubt(turns, f"the task that renews it has failed: {exc!r}")
                raise
            turns[:] = [turn for turn in batch.unproven if turn.tenure in self._turns and not turn.tenure.lost]
            if turns:
                tried.add(member)
                past = all(turn.tenure.left < 0 for turn in turns)
                with anyio.move_on_after(min(turn.holdings.patience for turn in turns)):
                    await self._direct.back_off(
                        tried, factor=_PATIENT if past else 1.0, rounds=rounds, everybody=batch.denied
                    )
                rounds += not tried
        if not self._turns:
            # The last session was closed while this was under way, and it may have opened a stream since.
            await self.aclose()

    def _choose(self, turn: Turn, tried: Collection[str]) -> str:
        """Return the member at which a lease was proven last, unless it is known not to answer, or another."""
        member = turn.tenure.member
        stays = not tried and turn.tenure.lease.failing is None and self._direct.may_ask(member)
        return member if stays else self._direct.pick(set(tried))

    # Once ------------------------------------------------------------------------------------------------------

    async def _renew(self, member: str, turns: list[Turn]) -> Round:
        """Renew leases at one member, and prove it; what is left unproven is in doubt by then."""
        for turn in turns:
            turn.hurried = False
            turn.tenure.move(member)
        batch = Round(turns)
        limit = self._limit(member, turns[0].tenure)
        latest = anyio.current_time() + turns[0].tenure.rules.longest_rpc
        with anyio.move_on_after(limit) as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._ask, member, batch)
                while answers := await batch.answers():
                    await self._prove(member, batch, answers, limit)
                    self._hand_on(member, batch)
                    # A member that goes on answering is not silent; or it is this process that is slow.
                    scope.deadline = min(latest, anyio.current_time() + limit)
        self._hand_on(member, batch)
        for turn, answer, header in batch.to_sweep:
            await self._sweep(member, batch, turn, answer, header)
        if scope.cancelled_caught:
            self._direct.report(UNANSWERED)
            self._doubt(batch.silent, f"{member} has not answered within {limit:.2g} s")
        return batch

    async def _ask(self, member: str, batch: Round) -> None:
        """Renew over the member's stream, until all is answered or the stream has ended."""
        try:
            stream = await self._stream(member)
            batch.sent_at = self._clock.boot()
            await stream.renew_all(batch.leases, batch.take)
        except StoreFault as exc:
            self._direct.report(exc.fault)
            batch.denied = exc.fault.kind is FaultKind.PERMISSION
            self._doubt(batch.fail(), f"{member}: {exc.fault.brief}")
        batch.end()

    async def _stream(self, member: str) -> KeepAlive:
        held = self._streams.get(member)
        if held is None:
            context = self._direct.store.keep_alive(member=member)
            opened = context, await context.__aenter__()
            held = self._streams.setdefault(member, opened)
            if held is not opened:  # another batch was faster
                await context.__aexit__(None, None, None)
        return held[1]

    async def _prove(self, member: str, batch: Round, answers: list[Answer], limit: float) -> None:
        """Look whether the anchors of what was acknowledged are there, under their leases: one read for all."""
        known = [turn.tenure.known for turn, _ in answers]
        ids = [turn.tenure.lease_id for turn, _ in answers]
        # Ids are drawn one after the other, and anchors bear them.
        neighbours = max(ids) - min(ids) < _NEIGHBOURS * len(ids)
        question = Attachments(tuple(turn.tenure.anchor.full for turn, _ in answers), neighbours)
        read = await self._direct.attempt(question, member, limit)
        if isinstance(read, Fault):
            self._take_refusal(member, batch, [turn for turn, _ in answers], read)
            return
        for (turn, answer), before in zip(answers, known, strict=True):
            tenure = turn.tenure
            judgement = judge(
                ttl=answer.ttl,
                acknowledged=answer.header,
                read=read.header,
                shown=read.found.get(tenure.anchor.full) == (tenure.anchor.create_revision, tenure.lease_id),
                known=before,
            )
            if judgement.verdict is Verdict.GONE:
                batch.done(turn)
                tenure.end(judgement.why)
            elif judgement.verdict is Verdict.UNPROVEN:
                batch.failed(turn)
                tenure.doubt(f"{member}: {judgement.why}")
            elif not turn.holdings.debris:
                batch.done(turn)
                self._proven(turn, batch.sent_at, answer.ttl, read.header)
            elif len(batch.leases) == 1:
                batch.to_sweep.append((turn, answer, read.header))
            else:
                # While that is cleared away, others do not wait.
                batch.done(turn)
                self._begin([turn])
        self._aim()

    def _proven(self, turn: Turn, sent_at: float, ttl: float, header: Header) -> None:
        turn.alone = False
        turn.tenure.prove(sent_at, ttl, header)
        self._expect(turn)

    async def _sweep(self, member: str, batch: Round, turn: Turn, answer: LeaseResult, header: Header) -> None:
        """Clear away what was left behind under a lease; only then its proof counts."""
        fault = await turn.holdings.sweep()
        if fault is None:
            batch.done(turn)
            self._proven(turn, batch.sent_at, answer.ttl, header)
            self._aim()
            return
        batch.failed(turn)
        if turn.holdings.stuck:
            turn.tenure.end(f"what was left behind under it could not be deleted for a whole TTL ({fault.brief})")
        turn.tenure.doubt(f"{member}: a key that was given back could not be deleted ({fault.brief})")

    # What goes wrong -------------------------------------------------------------------------------------------

    def _take_refusal(self, member: str, batch: Round, turns: list[Turn], fault: Fault) -> None:
        """Record that a read in common was refused: if for one of its keys, only each alone can tell which."""
        if len(turns) > 1 and not fault.outage:
            for turn in turns:
                self._go_alone(batch, turn)
            return
        batch.denied = fault.kind is FaultKind.PERMISSION
        for turn in turns:
            batch.failed(turn)
        self._doubt(turns, f"{member}: {fault.brief}")

    def _hand_on(self, member: str, batch: Round) -> None:
        """Let each lease that was refused by itself go on alone, without waiting for what is still unanswered."""
        refused, batch.refused = batch.refused, []
        for turn, fault in refused:
            self._go_alone(batch, turn, f"{member}: {fault.brief}", tried=(member,))

    def _go_alone(self, batch: Round, turn: Turn, why: str = "", *, tried: Iterable[str] = ()) -> None:
        """Let a lease that may be the trouble itself go on alone, so that no other meets it."""
        if why:
            turn.tenure.doubt(why)
        if len(batch.leases) == 1:
            batch.denied = True
            batch.failed(turn)
            return
        turn.alone = True
        batch.done(turn)
        self._begin([turn], tried)

    def _doubt(self, turns: Iterable[Turn], why: str) -> None:
        for turn in turns:
            turn.tenure.doubt(why)

    def _limit(self, member: str, tenure: LeaseState) -> float:
        """Return seconds for a renewal and its proof: two questions, one after the other."""
        rules = tenure.rules
        return min(2 * self._direct.limit(member, rules.rpc_timeout / 2), rules.longest_rpc)
