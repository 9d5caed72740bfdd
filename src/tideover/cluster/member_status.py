"""The members as people are shown them: each one, and whether enough of them answer."""

from __future__ import annotations

from collections.abc import Callable

from tideover.cluster.rules.diagnosis import quorum_of
from tideover.cluster.state import ClusterState
from tideover.status import MemberStatus, QuorumStatus
from tideover.types import HealthState


def count_members(cluster: ClusterState) -> QuorumStatus:
    """Return how many members answer, and how many must."""
    roll = cluster.roll
    answering = roll.counted(cluster.well)
    if cluster.health.state is HealthState.AVAILABLE:
        # One good answer ends the asking: nothing is known against the others.
        answering = max(answering, roll.size - roll.counted(cluster.unwell))
    return QuorumStatus(roll.size, min(answering, roll.size), quorum_of(roll.size))


def describe_members(cluster: ClusterState, is_proxy: Callable[[str], bool | None]) -> tuple[MemberStatus, ...]:
    """Return the members for people: those that may be asked, then those on the list that are not used."""
    roll = cluster.roll
    found = []
    for endpoint in roll.members:
        known = roll.who(endpoint)
        found.append(
            MemberStatus(
                endpoint,
                endpoint == cluster.active,
                cluster.answers(endpoint),
                cluster.errors.get(endpoint),
                is_proxy(endpoint),
                name="" if known is None else known.name,
                id="" if known is None else f"{known.id:x}",
                origin="learned" if endpoint in roll.learned else "given",
            )
        )
    for member in roll.listed:
        if member.id in roll.unusable:
            where = member.client_urls[0].partition("://")[2] if member.client_urls else ""
            reason = roll.unusable[member.id]
            found.append(
                MemberStatus(where, False, None, reason, name=member.name, id=f"{member.id:x}", origin="learned")
            )
    return tuple(found)
