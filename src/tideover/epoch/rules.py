"""Whether etcd still is the one that was seen before, and which epoch it is in.

Revisions and raft terms only grow within one *history*. A cluster that was restored from an older backup, rebuilt,
or replaced by another one begins another history: that is a *reset*, and the *epoch* counts them, so that
`(epoch, revision)` only grows, whatever is done to etcd.

What proves a reset: another cluster id, a lower term or revision in a linearizable answer, known content that is
not there any more, or another *marker* in etcd than the one remembered. A lower term alone proves it only once
that member has applied one more entry of its log: caught up from a snapshot it has all content, and says the term
of before, as long as nothing is written. The marker is one small key that holds the
epoch, a random id, and the cluster and term it was written in. It is written when it is missing and at each reset,
by compare-and-swap, and at no other time: watching over the history costs etcd reads only. What another program
has written over it proves nothing and is left alone, because it may be a mistake that its author has to see;
meanwhile
each process counts on its own, and the marker is written again, as it was, when that is gone.

The marker is rewound with everything else. So the new epoch is one more than the highest that anybody remembers:
the first process to see the reset writes its own plus one, one that remembers more raises it again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tideover.cluster.rules.diagnosis import quorum_of
from tideover.foreign_bytes import UINT64, Malformed, hexadecimal, integer, load_object, text
from tideover.types import Header

# Seconds for which the known cluster must have been silent before members of another one may be believed: longer
# than a leader change takes, in which a healthy cluster is silent, too.
CLUSTER_SILENCE = 3.0

# What a fencing header can hold. At this one the count stands still.
MAX_EPOCH = 10**15 - 1

# Bytes of a marker; ours have about a hundred.
_SIZE = 4096
_LONGEST_HISTORY = 64


@dataclass(frozen=True, slots=True)
class EpochMarker:
    """The epoch key's content: the number of histories, a random id minted with each, and where it was written."""

    epoch: int
    history: str
    cluster_id: int
    raft_term: int

    def encode(self) -> bytes:
        """Return the key's value. The cluster's id is in hexadecimal, as etcdctl shows it."""
        return json.dumps(
            {
                "epoch": self.epoch,
                "history": self.history,
                "cluster_id": f"{self.cluster_id:x}",
                "raft_term": self.raft_term,
            }
        ).encode()

    def predates(self, header: Header) -> bool:
        """Whether etcd has begun another history since this was written, going by an answer's header."""
        return self.cluster_id != header.cluster_id or self.is_ahead_of(header)

    def is_ahead_of(self, header: Header) -> bool:
        """Whether it was written in a later term of the same cluster than an answer's header says."""
        return self.cluster_id == header.cluster_id and self.raft_term > header.raft_term


def decode_marker(value: bytes) -> EpochMarker:
    """Return the marker in the key's value. Raises `Malformed`: it is no marker."""
    found = load_object(value, size=_SIZE)
    try:
        return EpochMarker(
            integer(found["epoch"], "'epoch'", least=1, most=MAX_EPOCH),
            text(found["history"], "'history'", longest=_LONGEST_HISTORY),
            hexadecimal(text(found["cluster_id"], "'cluster_id'"), "'cluster_id'"),
            integer(found["raft_term"], "'raft_term'", most=UINT64),
        )
    except KeyError as exc:
        problem = f"it has no {exc}"
    raise Malformed(problem)


def after(epoch: int) -> int:
    """Return the epoch after another."""
    return min(epoch + 1, MAX_EPOCH)


@dataclass(frozen=True, slots=True)
class Known:
    """What a process, or the snapshot it has left, knows of a history; zeros are unknown.

    Attributes:
        raft_term: The highest term in a linearizable answer. A member that is cut off counts terms of its own, so
            that other answers say nothing.
        revision: The highest revision seen in any answer: what a member has applied, a quorum has agreed upon.
        known_at: When the last of these was learned, in monotonic seconds.
        history: The marker's random id; empty if the epoch is this process's own count, because it may not read or
            not write the marker.
    """

    cluster_id: int = 0
    raft_term: int = 0
    revision: int = 0
    known_at: float = float("-inf")
    epoch: int = 0
    history: str = ""

    def updated(self, header: Header, at: float, *, linearizable: bool) -> Known:
        """Apply an answer of this history that arrived then."""
        term = max(self.raft_term, header.raft_term) if linearizable else self.raft_term
        revision = max(self.revision, header.revision)
        if (term, revision, header.cluster_id) == (self.raft_term, self.revision, self.cluster_id):
            return self
        return Known(header.cluster_id, term, revision, at, self.epoch, self.history)

    def contradiction(self, header: Header, sent_at: float) -> str | None:
        """Return why a linearizable answer of this cluster is of another history; None if it is not.

        What was learned after it was sent proves nothing.
        """
        if sent_at <= self.known_at:
            return None
        if header.raft_term < self.raft_term:
            return f"its raft term went back from {self.raft_term} to {header.raft_term}"
        if header.revision < self.revision:
            return f"its revision went back from {self.revision} to {header.revision}"
        return None

    def caught_up(self, header: Header) -> bool:
        """Whether a linearizable answer says no lower term than is known."""
        return header.raft_term >= self.raft_term

    def agrees_with(self, other: Known) -> bool:
        """Whether two memories, perhaps of two processes, are of one history."""
        if self.cluster_id != other.cluster_id:
            return False
        unmarked = not other.epoch or not self.epoch
        return unmarked or (self.epoch, self.history) == (other.epoch, other.history)

    def joined(self, other: Known) -> Known:
        """Return what two memories of one history know together."""
        marked = self if self.epoch >= other.epoch else other
        return Known(
            self.cluster_id or other.cluster_id,
            max(self.raft_term, other.raft_term),
            max(self.revision, other.revision),
            max(self.known_at, other.known_at),
            marked.epoch,
            marked.history,
        )


@dataclass(frozen=True, slots=True)
class Settlement:
    """What follows from a look at the marker.

    Attributes:
        reset: Why etcd is in another history than the one known; None if it is not.
        epoch: The epoch from now on.
        write: Whether a new marker must be written for it.
    """

    reset: str | None
    epoch: int
    write: bool


def settle(known: Known, seen: EpochMarker | None, header: Header, evidence: str | None) -> Settlement:
    """Decide what a look at the marker means. If the marker is due and another process was faster, decide again.

    Args:
        seen: The marker in etcd; None if there is none.
        evidence: Why etcd is known to be in another history; None if nothing else says so.
    """
    if seen is None:
        gone = f"the marker of epoch {known.epoch} is gone" if known.history else None
        reset = evidence or gone
        return Settlement(reset, after(known.epoch) if reset else max(known.epoch, 1), write=True)
    highest = max(known.epoch, seen.epoch)
    same = seen.history == known.history
    old = seen.predates(header)
    begun = seen.epoch > known.epoch or seen.epoch == MAX_EPOCH
    if known.epoch and not same and not old and begun:
        return Settlement(evidence or f"another process has begun epoch {seen.epoch}", highest, write=False)
    if evidence is None and not known.history and known.epoch >= seen.epoch:
        # What the marker has not told yet is counted already.
        return Settlement(None, highest, write=seen.epoch < highest)
    if old or evidence is not None:
        return Settlement(evidence or "it was restored after its marker was written", after(highest), write=True)
    if known.history and not same:
        back = f"its epoch went back from {known.epoch} to {seen.epoch}"
        other = f"its marker of epoch {seen.epoch} is another one"
        return Settlement(back if seen.epoch < known.epoch else other, after(highest), write=True)
    return Settlement(None, highest, write=seen.epoch < highest)


def settle_unseen(known: Known, evidence: str | None) -> Settlement:
    """Decide where there is no marker to be read: the epoch is then this process's own count."""
    return Settlement(evidence, known.epoch if evidence is None else after(known.epoch), write=False)


def may_replace(cluster_id: int, said: Mapping[str, int], *, members: Collection[str], silent_for: float) -> bool:
    """Decide whether another cluster has taken the place of the known one, or is listed with it by mistake.

    Two clusters cannot both be behind most of the endpoints. That alone would let a majority of wrong endpoints
    win over a cluster that answers; so the known one must also have been silent.

    Args:
        said: For members, the cluster their last linearizable answer came from.
        silent_for: Seconds since the known cluster last gave a linearizable answer.
    """
    there = sum(said.get(member) == cluster_id for member in members)
    return silent_for >= CLUSTER_SILENCE and there >= quorum_of(len(members))
