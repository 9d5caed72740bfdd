"""How peers confirm a leader while etcd is away: both sides' decisions, pure.

Guarantee: a leader that cannot renew its record leads on only as long as *every* candidate that could take over
has promised not to. No clock is compared with another one. The rules:

1.  A candidate is an incarnation: the random name of one candidacy of one process. A candidate forgets nothing as
    long as it lives, and no other process ever answers for it.
2.  The record lists the candidates to ask, and only its holder changes the record. A candidate that is added is
    asked from before the write is *sent* (`Candidate.offering`), one that is removed until after the write is
    known to be applied (`Candidate.electorate`).
3.  A promise runs for the record's ttl from when the question was *received*; the deadline for ttl minus margin
    from when the question was *sent*. So the deadline comes first.
4.  All must confirm. The deadline follows the oldest of the newest confirmations: a complete round. A candidate
    that has retired, which is final, need not be asked any more.
5.  Promise and start of a term are one decision: a candidate that promises while its own takeover is under way
    does not lead before the promise has ended (`Candidate.believes`), and does not vacate a record by which it has
    not led.
6.  A candidate answers with a veto if it knows the question to be wrong.
7.  Without a renewal a leader leads on for its `limit` at the most; candidates not listed wait for longer.

A promise also restarts the candidate's wait when it ends. Safety does not need that; the leader gets a whole ttl
to renew after its last confirmation.

Not guaranteed: that a leader survives. One silent candidate is enough to end its term.

Prior art: Patroni's "DCS Failsafe Mode" (its documentation, since 3.0), where the list of candidates is a key in
etcd and the running cluster implies the promise.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tideover.elections.rules.candidate import Candidate, Timing

# Candidates of one election that a leader lists at the most; each costs it a request every ttl / 3.
MAX_PEERS = 64
# A candidate that does not answer is listed for so many ttls longer; for less only if its process is certainly
# gone, since a candidate that is not listed cannot take over for a long time.
_PATIENCE = 4.0
_PATIENCE_GONE = 1.0
# Seconds by which a deadline moves at the least: with no candidate left to ask, it could move all the time.
_STEP = 0.1
# Seconds before a candidate that did not answer is asked again.
_RETRY = 0.3


class Verdict(StrEnum):
    """The answer to a message."""

    PROMISED = "promised"  # the candidate will not take over for the ttl
    LEADS = "leads"  # a veto: the candidate holds the record
    NEWER = "newer"  # a veto: the candidate has seen a later term
    CHANGED = "changed"  # a veto: the asker does not hold the record any more
    UNKNOWN = "unknown"  # the candidate knows of no such term: no promise, and no contradiction
    REPLAYED = "replayed"  # the message is an old one
    HERE = "here"  # the candidate is alive
    LISTED = "listed"  # the record lists the candidate
    PENDING = "pending"  # the leader knows the candidate, and has yet to list it
    NOT_LEADER = "not_leader"  # the receiver does not hold the record

    @property
    def is_veto(self) -> bool:
        """Whether the answer says that the asker does not lead any more."""
        return self in (Verdict.LEADS, Verdict.NEWER, Verdict.CHANGED)


@dataclass(frozen=True, slots=True)
class Question:
    """A leader's question: may I lead on? Its number grows; it asks for `promise` seconds without takeover."""

    leader: str
    term: int
    number: int
    promise: float


def answer(state: Candidate, question: Question, now: float) -> tuple[Candidate, Verdict]:
    """Return a candidate's answer, and its state afterwards, to be applied before anything else happens."""
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
    """What a leader knows of another candidate. Times are seconds on the leader's boot-time clock."""

    address: str  # where the peer can be asked
    reached: float = -math.inf  # when the peer last answered, or was found on the list
    confirmed: float = -math.inf  # when the newest question was sent that the peer has answered with a promise
    tried: float = -math.inf  # when the peer was last asked anything
    gone: bool = False  # whether the last try found no such process, which is not silence
    retired: bool = False  # whether the peer has withdrawn for good


@dataclass(frozen=True, slots=True)
class PeerSet:
    """The peers of a leader."""

    alone: bool = False  # whether a leader whose record lists no candidate may lead on without etcd
    peers: Mapping[str, Peer] = field(default_factory=dict)

    def found(self, listed: Mapping[str, str], now: float) -> PeerSet:
        """Add the candidates that the record lists, with their addresses."""
        new = {name: Peer(address, reached=now) for name, address in listed.items() if name not in self.peers}
        return replace(self, peers={**self.peers, **new}) if new else self

    def applied(self, name: str, address: str) -> PeerSet:
        """Record that a candidate has joined, or has moved; the record lists it once it has answered."""
        peer = self.peers.get(name)
        if peer is None and len(self.peers) >= MAX_PEERS:
            return self
        if peer is not None and peer.retired:
            return self
        return self._with(name, replace(peer or Peer(address), address=address, tried=-math.inf))

    def wanted(self, timing: Timing, now: float) -> dict[str, str]:
        """Return the candidates that the record should list, with their addresses."""
        return {
            name: peer.address
            for name, peer in sorted(self.peers.items())
            if not peer.retired and now - peer.reached <= timing.ttl * (_PATIENCE_GONE if peer.gone else _PATIENCE)
        }

    def pruned(self, state: Candidate, now: float) -> PeerSet:
        """Forget the peers that are not listed and have not answered for long."""
        wanted, electorate = self.wanted(state.timing, now), state.electorate
        kept = {
            name: peer
            for name, peer in self.peers.items()
            if name in electorate or name in wanted or (peer.reached == -math.inf and not peer.retired)
        }
        return replace(self, peers=kept) if len(kept) < len(self.peers) else self

    def asked(self, name: str, now: float) -> PeerSet:
        """Record that a peer is being asked."""
        return self._with(name, replace(self.peers[name], tried=now))

    def answered(self, name: str, verdict: Verdict | None, sent_at: float, now: float) -> PeerSet:
        """Record a peer's answer; None if no such process is there."""
        peer = self.peers.get(name)
        if peer is None:
            return self
        if verdict is None:
            # A peer that never answered has joined without effect.
            return self._with(name, replace(peer, gone=True)) if peer.reached > -math.inf else self._without(name)
        confirmed = max(peer.confirmed, sent_at) if verdict is Verdict.PROMISED else peer.confirmed
        return self._with(name, replace(peer, reached=now, gone=False, confirmed=confirmed))

    def unanswered(self, name: str) -> PeerSet:
        """Record an unanswered question. A peer that never answered is dropped, and may join again."""
        peer = self.peers.get(name)
        return self._without(name) if peer is not None and peer.reached == -math.inf else self

    def retired(self, name: str) -> PeerSet:
        """Record that a peer has withdrawn for good."""
        return self._with(name, replace(self.peers[name], retired=True)) if name in self.peers else self

    def silent(self, state: Candidate, now: float) -> tuple[str, ...]:
        """Return the addresses of the peers that a complete round lacks now."""
        late = now - state.timing.ttl
        return tuple(
            sorted(
                peer.address
                for name, peer in self.peers.items()
                if name in state.electorate and not peer.retired and max(peer.reached, peer.confirmed) < late
            )
        )

    def due(self, state: Candidate, now: float) -> tuple[str, ...]:
        """Return the peers to ask now: for a promise while renewals fail, else whether they are there."""
        return tuple(name for name, at in self._due_at(state, now) if at <= now)

    def _due_at(self, state: Candidate, now: float) -> Iterator[tuple[str, float]]:
        binding = failing(state, now)
        for name, peer in self.peers.items():
            if not peer.retired:
                heard = peer.confirmed if binding and name in state.electorate else peer.reached
                yield name, max(heard + state.timing.interval, peer.tried + _RETRY)

    def idle_until(self, state: Candidate, now: float, asking: Collection[str]) -> float:
        """Return when to look again at which peers to ask, and at the deadline, if no answer comes meanwhile.

        A peer in `asking` has a question under way: the next one waits for the answer.
        """
        ends = [at for name, at in self._due_at(state, now) if name not in asking]
        if state.promised > now:
            ends.append(state.promised)
        if not failing(state, now):
            # From then on peers are asked for promises.
            ends.append(_fails_at(state) if _fails_at(state) > now else math.inf)
        elif self._follows_the_clock(state, now):
            # Not every moment, but well before the deadline.
            timing = state.timing
            ends.append(max(state.deadline - timing.ttl + timing.margin + timing.interval, now + _STEP))
        return min(ends, default=math.inf)

    def extended(self, state: Candidate, now: float) -> Candidate:
        """Return the leader's state after the answers so far: its deadline follows the oldest of them.

        A deadline that has passed stays, and a deadline never moves back, whichever peers join later.
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
        """Whether the deadline moves without any answer, because no peer is left to ask."""
        peers = state.electorate
        none_left = all(self._basis(name, now) == now for name in peers) and bool(peers or self.alone)
        return none_left and state.renewed_at + state.limit >= state.deadline + _STEP

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
    """Whether a leader needs its peers' promises: its renewal was due a whole attempt ago.

    Before that no peer is bound. At least one more attempt fits before the deadline (`Timing` ensures that).
    """
    return state.believes(now) and now >= _fails_at(state)


def _fails_at(state: Candidate) -> float:
    return state.renewed_at + state.timing.interval + state.timing.rpc_timeout
