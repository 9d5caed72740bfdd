"""The histories of etcd as the tracker knows them: the present one, how another began, and why one is in doubt."""

from __future__ import annotations

from dataclasses import dataclass

from tideover.types import Header


@dataclass(frozen=True, slots=True)
class Reset:
    """etcd was found to be in another history: a definite no for all that was held in the one before.

    Attributes:
        epoch: The epoch from now on.
        before: The epoch until now; 0 if it was unknown.
        reason: What proves it, in words.
        seen_at: When, in monotonic seconds.
    """

    epoch: int
    before: int
    reason: str
    seen_at: float
    cluster_id: int
    revision: int


class Epoch:
    """One history of etcd's, as content refers to it, with the random id of its marker; empty if none was seen.

    Content of another history than the current one is out of date.
    """

    __slots__ = ("cluster_id", "epoch", "marker")

    def __init__(self, cluster_id: int = 0, epoch: int = 0, marker: str = "") -> None:
        self.cluster_id = cluster_id
        self.epoch = epoch
        self.marker = marker


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why etcd may be in another history, until that is settled."""

    reason: str
    header: Header | None = None
    member: str | None = None
    # Whether it proves a reset that the marker may not know of yet.
    evidence: bool = True
    # Whether a lower term is all there is: a member may say one that has passed.
    term_only: bool = False
