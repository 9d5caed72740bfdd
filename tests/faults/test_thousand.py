"""A thousand sessions, three with trouble of their own, on members that are killed and stopped.

nox -s faults -- -k thousand        the long form: 1,000 sessions, a member struck every ten seconds
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

import tideover
from tests.etcd.users import LOGIN
from tests.faults.thousand import EXPIRED, NEAREST, TTL, Nearest, Sessions, guarded_cluster
from tests.soak.strikes import strike_on
from tideover import SessionState

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.faults, pytest.mark.takes(15)]


@pytest.fixture
def anyio_backend() -> str:
    """The store belongs to asyncio."""
    return "asyncio"


async def test_others_are_not_held_up(pytestconfig: pytest.Config) -> None:
    """With one lease expired, one key refused, one piece of debris, and members killed and stopped, all others are
    never nearer than ttl/3 + 2 s to their deadline; in the short form ttl/3."""
    long = pytestconfig.getoption("faults_count") >= 200
    # In the short form one member is struck, everybody is renewed twice after that, and a busy machine is allowed
    # for: each session has room for another renewal.
    count, seconds, seed = (1000, 120.0, pytestconfig.getoption("faults_seed")) if long else (50, 9.5, 1)
    allowed = NEAREST if long else TTL / 3
    strikes: Counter[str] = Counter()
    with guarded_cluster() as cluster:
        async with tideover.connect(
            *cluster.endpoints, cache_dir=False, follow=(), start_timeout=5, **LOGIN
        ) as tide:
            sessions = Sessions(tide, count)
            await sessions.open()
            await sessions.make_trouble(cluster)
            striking = asyncio.create_task(strike_on(cluster, random.Random(seed), strikes))
            try:
                await sessions.look(seconds, strikes)
            finally:
                striking.cancel()
                await asyncio.wait({striking})
            states = Counter(session.state for session in tide.status().sessions)
            await sessions.close()
    nearest = min(sessions.nearest.values(), key=lambda seen: seen.left, default=None)
    print(f"\n{count} sessions, {dict(strikes)}: nearest to its deadline {nearest}; {dict(states)}")
    assert sessions.complaints(allowed) == []
    assert EXPIRED in sessions.losses
    assert states[SessionState.ALIVE] >= count - 3


def test_who_came_near_is_named_with_the_reason() -> None:
    """A complaint says which session, how near, when and why; those with trouble of their own are not counted."""
    sessions = Sessions.__new__(Sessions)
    sessions._count = 50
    sessions.losses = {EXPIRED: "SessionLost: by hand"}
    sessions.nearest = {
        EXPIRED: Nearest(0.0, 1.0, "by hand"),
        17: Nearest(NEAREST - 1, 4.2, "a has not answered"),
        18: Nearest(NEAREST, 4.0, ""),
    }
    assert sessions.complaints() == [
        "17 had 6.00 s left after 4.2 s: a has not answered",
        "1 of 50 were nearer than 7 s, most at [(4, 1)]",
    ]
