"""Who the members are: where from, which ids answer where, and how many have a vote.

Changes at run time, as the cluster's own member list is learned. What is known about one cluster is forgotten when
another one answers in its place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tideover.broadcast import Broadcast
from tideover.cluster.rules.membership import counted
from tideover.types import ClusterMember, Header


class Members:
    """The members, by endpoint.

    Attributes:
        given: The members that the user named, by name or by address.
        learned: Members that come from the cluster's own list; they have answered there once at least.
        listed: The list, as it was last read; empty if it never was.
        seen: For endpoints that have answered, the ids of the members that have answered there.
        unusable: For listed members that are not used, why not, by id.
        cluster_id: The cluster of these members; 0 as long as none has answered.
    """

    def __init__(self, members: Sequence[str]) -> None:
        self.given = tuple(members)
        self.learned: tuple[str, ...] = ()
        self.listed: tuple[ClusterMember, ...] = ()
        self.seen: dict[str, frozenset[int]] = {}
        self.unusable: dict[int, str] = {}
        self.cluster_id = 0
        self.changed = Broadcast()

    @property
    def members(self) -> tuple[str, ...]:
        """The members that may be asked."""
        return self.given + self.learned

    @property
    def voters(self) -> frozenset[int]:
        """The ids of the members with a vote; empty if they are not known."""
        return frozenset(member.id for member in self.listed if not member.learner)

    @property
    def size(self) -> int:
        """How many members the cluster has, as far as is known."""
        return len(self.voters) or len(self.members)

    def add(self, member: str, *, learned: bool) -> None:
        """Add a member that is not there."""
        if learned:
            self.learned += (member,)
        else:
            self.given += (member,)
        self.changed.fire()

    def remove(self, member: str) -> None:
        """Remove a member."""
        self.given = tuple(m for m in self.given if m != member)
        self.learned = tuple(m for m in self.learned if m != member)
        self.seen.pop(member, None)
        self.changed.fire()

    def belong(self, cluster_id: int) -> bool:
        """Set the cluster, and forget what is known of another one; return whether it is another one."""
        differs = cluster_id != self.cluster_id
        if differs:
            self.cluster_id = cluster_id
            self.listed = ()
            self.seen.clear()
            self.unusable.clear()
            self.changed.fire()
        return differs

    def identify(self, member: str, header: Header) -> None:
        """Record which member has answered at an endpoint; members of another cluster are passed over."""
        if header.cluster_id == self.cluster_id and member in self.members:
            self.seen[member] = self.seen.get(member, frozenset()) | {header.member_id}

    def counted(self, answering: Collection[str]) -> int:
        """Return how many different members with a vote have answered at these endpoints."""
        return counted(answering, seen=self.seen, voters=self.voters)

    def who(self, endpoint: str) -> ClusterMember | None:
        """Return which listed member answers at an endpoint; None if that is not known, or varies."""
        ids: Mapping[int, ClusterMember] = {member.id: member for member in self.listed}
        found = ids.keys() & self.seen.get(endpoint, frozenset())
        return ids[found.pop()] if len(found) == 1 else None
