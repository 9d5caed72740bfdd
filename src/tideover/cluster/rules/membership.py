"""Whom to talk to: from what was given, what the cluster lists, and who has answered where.

The list says where members believe that clients reach them. Behind a forwarded port or in a container that is
often wrong, so an address from the list is a candidate only, until who answers there is who it should be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tideover.types import ClusterMember


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes: listed voters at no member in use, which are looked for; and learned ones that leave."""

    missing: tuple[ClusterMember, ...]
    leaving: frozenset[str]


def plan(
    listed: Collection[ClusterMember],
    *,
    given: Collection[str],
    learned: Collection[str],
    seen: Mapping[str, Collection[int]],
) -> Plan:
    """Compare a member list with the members in use; `seen` are the ids that have answered at each endpoint.

    A given endpoint is never given up, and stands for its member; one behind which several listed members have
    answered, such as a load balancer, stands for none of them.
    """
    voters = {member.id: member for member in listed if not member.learner}

    def only(endpoint: str) -> set[int]:
        ids = voters.keys() & set(seen.get(endpoint, ()))
        return ids if len(ids) == 1 else set()

    covered = set[int]().union(*map(only, given))
    leaving = set()
    for endpoint in learned:
        if only(endpoint) - covered:
            covered |= only(endpoint)
        else:
            leaving.add(endpoint)
    missing = tuple(member for member in voters.values() if member.id not in covered)
    return Plan(missing, frozenset(leaving))


def counted(answering: Collection[str], *, seen: Mapping[str, Collection[int]], voters: Collection[int]) -> int:
    """Return how many voting members have answered; without `voters` any member counts.

    Two endpoints of one member count once, and one of no voting member not at all.
    """
    who: set[int | str] = set()
    for endpoint in answering:
        ids = set(seen.get(endpoint, ()))
        known = ids & set(voters) if voters else ids
        if len(known) == 1:
            who |= known
        elif len(known) > 1 or not ids:
            who.add(endpoint)
    return len(who)
