"""Members of another cluster among the endpoints, told from a cluster that has taken the known one's place."""

from __future__ import annotations

import math

from tideover import telemetry
from tideover.cluster.state import ClusterState
from tideover.epoch.rules import may_replace
from tideover.store.faults import Fault, FaultKind
from tideover.types import Header


class ForeignMembers:
    """Knows which members belong to another cluster: they are not used.

    Attributes:
        clusters: Those members, and to which they belong.
        said: For members, the cluster that their last linearizable answer came from.
        answered_at: When the known cluster last gave one, in monotonic seconds.
    """

    def __init__(self, cluster: ClusterState) -> None:
        self.clusters: dict[str, int] = {}
        self._cluster = cluster
        self.said: dict[str, int] = {}
        self.answered_at = -math.inf

    def judge(self, member: str, header: Header, ours: int, now: float, *, linearizable: bool) -> bool:
        """Decide whether a member is of another cluster that has not taken the place of the known one (`ours`)."""
        if linearizable:
            self.said[member] = header.cluster_id
        if not ours or header.cluster_id == ours:
            if linearizable:
                self.answered_at = now
            self.clusters.pop(member, None)
            return False
        silent_for = now - self.answered_at
        if may_replace(header.cluster_id, self.said, members=self._cluster.members, silent_for=silent_for):
            return False
        if self.clusters.get(member) != header.cluster_id:
            self.clusters[member] = header.cluster_id
            telemetry.member_foreign(member, f"{header.cluster_id:x}", f"{ours:x}")
        return True

    def proven(self, at: float) -> None:
        """Record that the known cluster has answered a linearizable read."""
        self.answered_at = max(self.answered_at, at)

    def forget_who_left(self) -> None:
        """Drop what is remembered of those who are no members any more."""
        for member in (self.said.keys() | self.clusters.keys()) - set(self._cluster.members):
            self.said.pop(member, None)
            self.clusters.pop(member, None)


def refusal(member: str, theirs: int, ours: int, *, applied: bool) -> Fault:
    """Return the fault of having asked a member of another cluster, where a write may have been `applied`."""
    text = f"{member} belongs to cluster {theirs:x}, not to {ours:x}: it is not used"
    return Fault(FaultKind.FOREIGN, "UNAVAILABLE", text, retry_read=True, applied=applied)
