"""The checker of sessions: silent on true histories, and finds each violation that is planted."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.history.events import Event
from tests.history.sessions import SessionFindings, check_sessions

PID, OTHER = 1, 2


def event(at: float, kind: str, process: str = "c1-a", pid: int = PID, **fields: Any) -> Event:
    """Return an event."""
    return Event(at, pid, process, kind, fields)


def session(*ends: Event, deadline: float = 15.0, believed: tuple[float, ...] = (2.0, 8.0)) -> list[Event]:
    """Return a session of c1-a at member m1, opened at 1 and renewed at 5, with more events."""
    return [
        event(1.0, "session_opened", session="s", key="/k", deadline=deadline - 5, member="m1"),
        *(event(at, "session_believed", session="s") for at in believed),
        event(5.0, "session_renewed", session="s", deadline=deadline, member="m1"),
        *ends,
    ]


def gone(at: float, member: str = "m2") -> Event:
    """Return the observer's sight of the deletion."""
    return event(at, "key_deleted", "observer", 9, key="/k", member=member)


def lost(at: float) -> Event:
    """Return the holder's word that it was told."""
    return event(at, "session_lost", session="s", why="etcd has ended the lease")


def hindered(who: str, since: float, until: float) -> list[Event]:
    """Return a hindrance."""
    return [event(since, "hindered", "nemesis", 8, who=who), event(until, "unhindered", "nemesis", 8, who=who)]


def woken(at: float) -> Event:
    """Return a member's waking up."""
    return event(at, "woken", "nemesis", 8, member="m3")


def kinds(found: SessionFindings) -> list[str]:
    """Return what was found."""
    return [violation.kind for violation in found.violations]


def test_all_is_well() -> None:
    """A key that goes after the deadline is no finding; the time between is reported."""
    found = check_sessions(reversed(session(gone(15.2), gone(15.4, "m1"), lost(15.25))))
    assert kinds(found) == []
    assert (found.sessions, found.ended, found.early) == (1, 1, [])
    assert found.smallest == pytest.approx(0.2)


def test_a_key_given_up_by_its_holder() -> None:
    """A key that goes after its holder closed the session, or was told of the loss, is not etcd's doing."""
    for end in (event(7.0, "session_closed", session="s"), lost(7.0)):
        found = check_sessions(session(end, gone(7.1), believed=(2.0,)))
        assert (kinds(found), found.ended) == ([], 0)


def test_a_key_that_goes_before_the_deadline() -> None:
    """Gone early, with nobody just woken up: a violation; the newest deadline before that counts."""
    found = check_sessions(session(gone(14.9), lost(14.95)))
    assert kinds(found) == ["key_gone_early"]
    assert found.early[0].early == pytest.approx(0.1)
    assert kinds(check_sessions(session(gone(4.9), lost(4.95), deadline=9.0, believed=(2.0,)))) == []


@pytest.mark.parametrize(("woke", "excused"), [(14.0, True), (14.89, True), (12.5, False), (15.0, False)])
def test_an_early_revoke_is_counted(woke: float, excused: bool) -> None:
    """Gone early right after a member has woken up: no violation, but counted, with how soon it was noticed."""
    found = check_sessions(session(woken(woke), gone(14.9), lost(14.95)))
    assert (kinds(found) == []) is excused
    assert len(found.early) == 1
    assert found.early[0].notice == pytest.approx(0.05)


def test_a_late_notice() -> None:
    """An early revoke that its holder hears of after more than 1 s, or never, is a violation."""
    for told in ([lost(14.2)], [lost(16.0)], []):
        found = check_sessions(session(woken(12.5), gone(13.0), *told))
        assert kinds(found) == ["notice_late"]


@pytest.mark.parametrize("who", ["c1-a", "m1"])
def test_a_notice_that_could_not_be_delivered(who: str) -> None:
    """While the holder, or the member it uses, is hindered, the second does not run."""
    events = [woken(12.5), gone(13.0), lost(20.5)]
    assert kinds(check_sessions(session(*events, *hindered(who, 12.0, 20.0)))) == []
    assert kinds(check_sessions(session(*events, *hindered(who, 12.0, 19.0)))) == ["notice_late"]
    assert kinds(check_sessions(session(*events, *hindered("m2", 12.0, 20.0)))) == ["notice_late"]
    assert kinds(check_sessions(session(*events, *hindered("c2-a", 12.0, 20.0)))) == ["notice_late"]


def test_a_hindrance_that_begins_later_is_no_excuse() -> None:
    """A pause that begins after the second is over does not explain a late notice."""
    events = [woken(12.5), gone(13.0), lost(20.5), *hindered("c1-a", 14.5, 20.0)]
    assert kinds(check_sessions(session(*events))) == ["notice_late"]


def test_the_dead_hear_nothing() -> None:
    """A holder that died is not expected to have been told; that its key went early is still found."""
    died = event(9.0, "died", "nemesis", 8, victim=PID)
    found = check_sessions(session(died, gone(13.0)))
    assert kinds(found) == ["key_gone_early"]
    assert math.isnan(found.early[0].notice)


def test_belief_beyond_the_end() -> None:
    """A session that is believed in although its key was gone, deliverably, for over a second."""
    found = check_sessions(session(gone(15.2), lost(15.3), believed=(2.0, 16.3)))
    assert kinds(found) == ["believed_too_long"]
    assert kinds(check_sessions(session(gone(15.2), lost(15.3), believed=(2.0, 15.25)))) == []
