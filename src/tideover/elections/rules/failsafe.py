"""How a leader without etcd is confirmed by the other candidates: both sides' decisions, pure.

The idea is Patroni's failsafe mode: a leader that cannot renew its record may go on as long as *everybody* who
could take over says that they will not. What follows makes that hold without trusting any clock but one's own:

1.  A candidate is an incarnation, a random name of one candidacy of one process. It forgets nothing as long as it
    lives, and nobody else ever answers for it.
2.  Whom to ask is in the record, which only its holder changes. Who is added is asked from before the write is
    *sent* (`Candidate.offering`), who is removed until after it is known to be applied (`Candidate.electorate`).
3.  A promise runs for the record's ttl from when the question was *received*; the deadline for ttl minus margin
    from when it was *sent*. So the deadline comes first.
4.  All must confirm. The deadline follows the oldest of the newest confirmations: a complete round. Who has
    retired, which is final, need not be asked any more.
5.  Promise and entry into office are one decision: who promises while its own takeover is under way does not enter
    before the promise has ended (`Candidate.believes`), and does not declare vacant what it has not entered.
6.  A question is answered with a veto by whom it tells something that it knows to be untrue.
7.  Without a renewal a leader goes on for its `limit` at the most; who is not listed waits for longer than that.

Who has promised also begins to count anew when the promise has ended. Safety does not need that; it gives the
leader a whole ttl to renew after its last confirmation.

Source: Patroni's "DCS Failsafe Mode" (its documentation, since 3.0), where the candidates' list is a key in etcd
and the promise is implied by the running cluster.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tideover.elections.rules.candidate import Candidate, Timing

# Candidates of one election that a leader lists at the most; each costs it a request every ttl / 3.
MAX_PEERS = 64
# A candidate that does not answer is listed for so many ttls longer: only one whose process is gone for certain is
# struck off sooner, for who is not listed cannot take over for a long time.
_PATIENCE = 4.0
_PATIENCE_GONE = 1.0
# Seconds by which a deadline is moved at the least: where nobody is left to ask, it could be moved all the time.
_STEP = 0.1
# Seconds before a candidate that did not answer is asked again.
_RETRY = 0.3


class Verdict(StrEnum):
    """What a candidate answers to a leader's question, or to be told.

    Attributes:
        PROMISED: It will not take over for the ttl.
        LEADS: A veto: it holds the record itself.
        NEWER: A veto: it has seen a later term.
        CHANGED: A veto: the record is not the asker's any more.
        UNKNOWN: It knows nothing of such a term: no promise, and no contradiction.
        REPLAYED: The question is an old one.
        HERE: It lives; nothing was asked of it.
        LISTED: The leader has it on its list.
        PENDING: The leader has taken note of it.
        NOT_LEADER: The one who was told does not hold the record.
    """

    PROMISED = "promised"
    LEADS = "leads"
    NEWER = "newer"
    CHANGED = "changed"
    UNKNOWN = "unknown"
    REPLAYED = "replayed"
    HERE = "here"
    LISTED = "listed"
    PENDING = "pending"
    NOT_LEADER = "not_leader"

    @property
    def is_veto(self) -> bool:
        """Whether it says that the asker leads no more."""
        return self in (Verdict.LEADS, Verdict.NEWER, Verdict.CHANGED)


@dataclass(frozen=True, slots=True)
class Question:
    """A leader's question: may I go on?

    Attributes:
        leader: Who asks.
        term: The term for which it holds the record.
        number: Grows with each question of this leader.
        promise: Seconds for which it asks not to be replaced.
    """

    leader: str
    term: int
    number: int
    promise: float


def answer(state: Candidate, question: Question, now: float) -> tuple[Candidate, Verdict]:
    """Decide as one who is asked. What comes out must be taken in before anything else happens.

    Args:
        state: What we know of the record.
        question: The question.
        now: When it was received.

    Returns:
        What we know and have promised afterwards, and the answer.
    """
    seen = state.seen
    if state.held or (seen is not None and state.owns(seen)):
        return state, Verdict.LEADS
    if state.retired or seen is None or not seen.mod_revision:
        return state, Verdict.UNKNOWN if seen is None else Verdict.CHANGED
    if seen.term != question.term:
        return state, Verdict.NEWER if seen.term > question.term else Verdict.UNKNOWN
    if seen.holder != question.leader or seen.vacant:
        return state, Verdict.CHANGED
    if seen.ttl != question.promise:
        return state, Verdict.UNKNOWN
    if state.heard[0] == question.leader and question.number <= state.heard[1]:
        return state, Verdict.REPLAYED
    heard = (question.leader, question.number)
    return replace(state, promised=max(state.promised, now + question.promise), heard=heard), Verdict.PROMISED


@dataclass(frozen=True, slots=True)
class Peer:
    """What a leader knows of another candidate. Times are seconds on the leader's boot-time clock.

    Attributes:
        address: Where it can be asked.
        reached: When it last answered, or was found on the list.
        confirmed: When the newest question was sent that it has answered with a promise.
        tried: When it was last asked anything.
        gone: Whether at the last try nobody was there: not silence, but no such process.
        retired: Whether it has given up for good.
    """

    address: str
    reached: float = -math.inf
    confirmed: float = -math.inf
    tried: float = -math.inf
    gone: bool = False
    retired: bool = False


@dataclass(frozen=True, slots=True)
class PeerSet:
    """A leader and those it asks.

    Attributes:
        alone: Whether a leader whose record lists nobody may go on without etcd.
        peers: The candidates it knows, by name.
    """

    alone: bool = False
    peers: Mapping[str, Peer] = field(default_factory=dict)

    # Who belongs to it -----------------------------------------------------------------------------------------

    def found(self, listed: Mapping[str, str], now: float) -> PeerSet:
        """Take in whom the record lists, with their addresses."""
        new = {name: Peer(address, reached=now) for name, address in listed.items() if name not in self.peers}
        return replace(self, peers={**self.peers, **new}) if new else self

    def applied(self, name: str, address: str) -> PeerSet:
        """Take in that a candidate has made itself known, or has moved. It is listed once it has answered.

        Args:
            name: The candidate.
            address: Where it can be asked.
        """
        peer = self.peers.get(name)
        if peer is None and len(self.peers) >= MAX_PEERS:
            return self
        if peer is not None and peer.retired:
            return self
        return self._with(name, replace(peer or Peer(address), address=address, tried=-math.inf))

    def wanted(self, timing: Timing, now: float) -> dict[str, str]:
        """Return whom the record should list, with their addresses.

        Args:
            timing: The record's numbers.
            now: The time.
        """
        return {
            name: peer.address
            for name, peer in sorted(self.peers.items())
            if not peer.retired and now - peer.reached <= timing.ttl * (_PATIENCE_GONE if peer.gone else _PATIENCE)
        }

    def pruned(self, state: Candidate, now: float) -> PeerSet:
        """Forget who is not listed and has not answered for long."""
        wanted, electorate = self.wanted(state.timing, now), state.electorate
        kept = {
            name: peer
            for name, peer in self.peers.items()
            if name in electorate or name in wanted or (peer.reached == -math.inf and not peer.retired)
        }
        return replace(self, peers=kept) if len(kept) < len(self.peers) else self

    # What they say ---------------------------------------------------------------------------------------------

    def asked(self, name: str, now: float) -> PeerSet:
        """Take in that one is being asked."""
        return self._with(name, replace(self.peers[name], tried=now))

    def answered(self, name: str, verdict: Verdict | None, sent_at: float, now: float) -> PeerSet:
        """Take in an answer; None if nobody of that name is there.

        Args:
            name: Who was asked.
            verdict: The answer.
            sent_at: When the question was sent.
            now: When the answer came.
        """
        peer = self.peers.get(name)
        if peer is None:
            return self
        if verdict is None:
            # Who had never answered has made itself known in vain.
            return self._with(name, replace(peer, gone=True)) if peer.reached > -math.inf else self._without(name)
        confirmed = max(peer.confirmed, sent_at) if verdict is Verdict.PROMISED else peer.confirmed
        return self._with(name, replace(peer, reached=now, gone=False, confirmed=confirmed))

    def unanswered(self, name: str) -> PeerSet:
        """Take in that one was silent. Who had never answered has made itself known in vain, and may try again."""
        peer = self.peers.get(name)
        return self._without(name) if peer is not None and peer.reached == -math.inf else self

    def retired(self, name: str) -> PeerSet:
        """Take in that one has given up for good."""
        return self._with(name, replace(self.peers[name], retired=True)) if name in self.peers else self

    # What follows ----------------------------------------------------------------------------------------------

    def silent(self, state: Candidate, now: float) -> tuple[str, ...]:
        """Return the addresses of those without whom a round would not be complete now."""
        late = now - state.timing.ttl
        return tuple(
            sorted(
                peer.address
                for name, peer in self.peers.items()
                if name in state.electorate and not peer.retired and max(peer.reached, peer.confirmed) < late
            )
        )

    def due(self, state: Candidate, now: float) -> tuple[str, ...]:
        """Return whom to ask now: whether they promise while renewals fail, else only whether they are there."""
        return tuple(name for name, at in self._due_at(state, now) if at <= now)

    def _due_at(self, state: Candidate, now: float) -> Iterator[tuple[str, float]]:
        binding = failing(state, now)
        for name, peer in self.peers.items():
            if not peer.retired:
                heard = peer.confirmed if binding and name in state.electorate else peer.reached
                yield name, max(heard + state.timing.interval, peer.tried + _RETRY)

    def idle_until(self, state: Candidate, now: float, asking: Collection[str]) -> float:
        """Return until when there is nothing to do, if nothing is heard meanwhile.

        It says nothing of whether one may lead: only when to look again at whom to ask, and at the deadline.

        Args:
            state: The leader's state.
            now: The time.
            asking: Who is being asked: nothing is due to them before they have answered.
        """
        ends = [at for name, at in self._due_at(state, now) if name not in asking]
        if state.promised > now:
            ends.append(state.promised)
        if not failing(state, now):
            # Then they are asked for more than whether they are there.
            ends.append(_fails_at(state) if _fails_at(state) > now else math.inf)
        elif self._follows_the_clock(state, now):
            # Not every moment, but well before it is over.
            timing = state.timing
            ends.append(max(state.deadline - timing.ttl + timing.margin + timing.interval, now + _STEP))
        return min(ends, default=math.inf)

    def extended(self, state: Candidate, now: float) -> Candidate:
        """Return the leader's state after the answers so far: its deadline follows the oldest of them.

        A deadline once reached is not moved any more, and a deadline once given is not taken back: who joins later
        counts from later.

        Args:
            state: The leader's state.
            now: The time.
        """
        if not state.believes(now):
            return state
        timing, electorate = state.timing, state.electorate
        if electorate or self.alone:
            oldest = min((self._basis(name, now) for name in electorate), default=now)
            deadline = min(oldest + timing.ttl - timing.margin, state.renewed_at + state.limit)
            if deadline >= state.deadline + _STEP:
                return replace(state, deadline=deadline)
        return state

    def _follows_the_clock(self, state: Candidate, now: float) -> bool:
        """Whether the deadline can be moved without any answer, because nobody is left to ask."""
        everybody = state.electorate
        nobody_left = all(self._basis(name, now) == now for name in everybody) and bool(everybody or self.alone)
        return nobody_left and state.renewed_at + state.limit >= state.deadline + _STEP

    def _basis(self, name: str, now: float) -> float:
        peer = self.peers.get(name)
        if peer is None:
            return -math.inf
        return now if peer.retired else peer.confirmed

    def _with(self, name: str, peer: Peer) -> PeerSet:
        return replace(self, peers={**self.peers, name: peer})

    def _without(self, name: str) -> PeerSet:
        return replace(self, peers={other: peer for other, peer in self.peers.items() if other != name})


def failing(state: Candidate, now: float) -> bool:
    """Whether a leader needs to be confirmed: its renewal was due a whole attempt ago. Till then nobody is bound.

    At least one more attempt's time is then left until the deadline (`Timing` sees to it).
    """
    return state.believes(now) and now >= _fails_at(state)


def _fails_at(state: Candidate) -> float:
    return state.renewed_at + state.timing.interval + state.timing.rpc_timeout
