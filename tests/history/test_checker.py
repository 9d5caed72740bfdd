"""The checker finds every planted violation, and nothing in histories that are right."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.history.beliefs import beliefs
from tests.history.checker import check
from tests.history.events import Event

HOLDS = [("lock", "distributed", "two_holders"), ("leader", "held", "two_leaders")]


def event(at: float, pid: int, kind: str, **fields: Any) -> Event:
    """Make an event."""
    return Event(at, pid, f"p{pid}", kind, fields)


def enter(at: float, pid: int, token: int, *, deadline: float | None = None, **fields: Any) -> Event:
    """Make the beginning of a hold."""
    role, mode = fields.pop("role", "lock"), fields.pop("mode", "distributed")
    return event(at, pid, "enter", name="n", role=role, token=token, mode=mode, deadline=deadline, **fields)


def held(at: float, pid: int, kind: str, **fields: Any) -> Event:
    """Make a later event of a hold."""
    return event(at, pid, kind, name="n", role=fields.pop("role", "lock"), **fields)


def read(at: float, revision: int, age: float, *, pid: int = 1, **fields: Any) -> Event:
    """Make a reading; revision 0 means absent."""
    began = fields.pop("began", at)
    return event(
        at, pid, "reading", key="k", present=revision > 0, revision=revision, age=age, began=began, **fields
    )


def written(at: float, revision: int, *, present: bool = True) -> Event:
    """Make an acknowledged write."""
    return event(at, 9, "written", key="k", present=present, revision=revision, began=at - 0.01)


def registered(at: float, pid: int, kind: str = "registered") -> Event:
    """Make a registration, or its end."""
    return event(at, pid, kind, name="shop", instance=f"i{pid}")


def discovered(at: float, *instances: str, pid: int = 8) -> Event:
    """Make a look."""
    return event(at, pid, "discovered", name="shop", instances=list(instances), began=at)


def settled(at: float, kind: str = "settled") -> Event:
    """Make the beginning of settled times, or their end."""
    return event(at, 99, kind)


def kinds(*events: Event) -> list[str]:
    """Return the kinds of the violations found."""
    return [violation.kind for violation in check(events)]


# Two at once --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "mode", "kind"), HOLDS)
def test_two_at_once(role: str, mode: str, kind: str) -> None:
    """A second one that enters before the first one's exit is found, with both as evidence."""
    first, second = enter(1, 1, 1, role=role, mode=mode), enter(2, 2, 2, role=role, mode=mode)
    history = [first, second, held(2.5, 1, "exit", role=role), held(3, 2, "exit", role=role)]
    (violation,) = check(history)
    assert violation.kind == kind
    assert violation.events == (first, second)
    assert "0.500 s" in str(violation)


@pytest.mark.parametrize(("role", "mode", "kind"), HOLDS)
@pytest.mark.parametrize("end", ["exit", "lost", "died", "deadline"])
@pytest.mark.parametrize(("at", "found"), [(1.9, False), (2.1, True)])
def test_belief_ends_with_the_first_of_its_ends(
    role: str, mode: str, kind: str, end: str, at: float, found: bool
) -> None:
    """Exit, loss, death and deadline each end a belief: no overlap if before the second one enters, else one."""
    first = enter(1, 1, 1, role=role, mode=mode, deadline=at if end == "deadline" else 50.0)
    history = [first, enter(2, 2, 2, role=role, mode=mode)]
    if end == "died":
        history.append(event(at, 99, "died", victim=1))
    elif end != "deadline":
        history.append(held(at, 1, end, role=role))
    assert kinds(*history) == ([kind] if found else [])


def test_a_renewal_moves_the_deadline() -> None:
    """A holder that renewed in time still believes after its first deadline."""
    history = [enter(1, 1, 1, deadline=2.0), held(1.5, 1, "renewed", deadline=4.0)]
    assert kinds(*history, enter(3, 2, 2)) == ["two_holders"]
    assert kinds(*history, enter(4.1, 2, 2)) == []


def test_a_renewal_after_the_deadline_does_not_fill_the_gap() -> None:
    """Who was not a holder for a while is not accused for that while, but for what follows."""
    first = [enter(1, 1, 1, deadline=2.0), held(3.0, 1, "renewed", deadline=5.0)]
    assert kinds(*first, enter(2.2, 2, 2), held(2.8, 2, "exit")) == ["token_not_growing"]
    assert "two_holders" in kinds(*first, enter(2.2, 2, 2))


@pytest.mark.parametrize("mode", ["local", "unconfirmed"])
def test_modes_that_claim_nothing(mode: str) -> None:
    """LOCAL holders and UNCONFIRMED leaders say that others may be there too; turning into one ends the claim."""
    assert kinds(enter(1, 1, 1, mode=mode), enter(2, 2, 2)) == []
    assert kinds(enter(1, 1, 1), held(1.5, 1, "turned", mode=mode), enter(2, 2, 2)) == []
    back = held(3, 1, "turned", mode="distributed", deadline=9.0)
    assert "two_holders" in kinds(enter(1, 1, 1), held(1.5, 1, "turned", mode=mode), enter(2, 2, 2), back)


def test_holders_within_one_process() -> None:
    """Two tasks of one process are two holders."""
    assert kinds(enter(1, 1, 1, holder="a"), enter(2, 1, 2, holder="b")) == ["two_holders"]


def test_other_names_do_not_concern() -> None:
    """Holders of different locks, and a lock and an election of one name, never overlap."""
    other = replace(enter(2, 2, 1), fields={**enter(2, 2, 1).fields, "name": "other"})
    assert kinds(enter(1, 1, 1), other, enter(2, 3, 1, role="leader", mode="held")) == []


@pytest.mark.parametrize("history", [[enter(1, 1, 1), enter(2, 1, 2)], [held(1, 1, "renewed", deadline=2.0)]])
def test_a_history_that_contradicts_itself(history: list[Event]) -> None:
    """Entering twice, or renewing what is not held, is a fault of the recording and refused as such."""
    with pytest.raises(ValueError):
        check(history)


# Tokens -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "mode", "_kind"), HOLDS)
@pytest.mark.parametrize("token", [1, 5])
def test_token_not_growing(role: str, mode: str, _kind: str, token: int) -> None:
    """An equal or a smaller token is found; it is compared with the largest before, not with the last."""
    first = [enter(1, 1, 5, role=role, mode=mode), held(2, 1, "exit", role=role)]
    assert kinds(*first, enter(3, 2, token, role=role, mode=mode)) == ["token_not_growing"]
    assert kinds(*first, enter(3, 2, token, role=role, mode=mode, epoch=1)) == []


# Configuration ------------------------------------------------------------------------------------------------


def test_revision_back() -> None:
    """A process that reads an older value than before is found, through a deletion too."""
    assert kinds(read(1, 7, 0), read(2, 6, 2)) == ["revision_back"]
    assert kinds(read(1, 7, 0), read(2, 0, 0), read(3, 7, 0), read(4, 6, 9)) == ["revision_back"]


def test_revision_back_elsewhere_is_none() -> None:
    """Other processes, other readers of one process and other epochs have their own order."""
    assert kinds(read(1, 7, 0), read(2, 6, 2, pid=2)) == []
    assert kinds(read(1, 7, 0, reader="fetch"), read(2, 6, 2, reader="read")) == []
    assert kinds(read(1, 7, 0), read(2, 6, 2, epoch=1)) == []


def test_age_too_low() -> None:
    """A reading that misses a write acknowledged before what it claims to be as of is found, else not."""
    writes = [written(1, 5), written(2, 6)]
    assert kinds(*writes, read(3, 5, 0.9)) == ["age_too_low"]
    assert kinds(*writes, read(3, 5, 1.1)) == []
    assert kinds(*writes, read(3, 6, 0.0)) == []
    assert kinds(*writes, read(3, 5, math.inf)) == []
    assert kinds(*writes, read(3, 5, 0.9, began=1.5)) == []


def test_age_too_low_with_deletions() -> None:
    """Absence is explained by a deletion only: one that is newer than all writes that are due."""
    assert kinds(written(1, 5), read(3, 0, 0.5)) == ["age_too_low"]
    assert kinds(written(1, 5), written(2, 6, present=False), read(3, 0, 0.5)) == []
    assert kinds(written(1, 5, present=False), written(2, 6), read(3, 0, 0.5)) == ["age_too_low"]
    assert kinds(written(1, 5), written(2, 6, present=False), read(3, 5, 0.5)) == ["age_too_low"]


@pytest.mark.parametrize("age", [-0.1, math.nan])
def test_an_age_that_is_none(age: float) -> None:
    """A negative age and no number at all are found."""
    assert kinds(read(1, 7, age)) == ["age_too_low"]


# Registrations ------------------------------------------------------------------------------------------------


def test_registration_lost() -> None:
    """A living registration that a look in settled times does not show is found."""
    assert kinds(registered(1, 1), registered(1, 2), settled(2), discovered(3, "i1")) == ["registration_lost"]
    assert kinds(registered(1, 1), settled(2), discovered(3, "i1"), discovered(4)) == ["registration_lost"]


def test_nobody_looked() -> None:
    """Settled times in which nobody looks prove nothing, which is found too."""
    assert kinds(registered(1, 1), settled(2)) == ["registration_lost"]
    assert kinds(registered(1, 1), settled(2), settled(3, "disturbed"), discovered(4, "i1")) == [
        "registration_lost"
    ]


def test_registrations_that_need_not_be_seen() -> None:
    """Not in an outage, not after its end or its process's death, not when it is newer than the settled times."""
    assert kinds(registered(1, 1), discovered(2), settled(3), discovered(4, "i1")) == []
    assert kinds(registered(1, 1), settled(2), discovered(3, "i1"), settled(4, "disturbed"), discovered(5)) == []
    assert kinds(registered(1, 1), registered(2, 1, "deregistered"), settled(3), discovered(4)) == []
    assert kinds(registered(1, 1), event(2, 99, "died", victim=1), settled(3), discovered(4)) == []
    assert kinds(settled(1), registered(2, 1), discovered(3), discovered(4, "i1")) == []


# Histories that are right, and one change that makes them wrong --------------------------------------------------


@st.composite
def valid_histories(draw: st.DrawFn) -> list[Event]:
    """Draw holds one after the other, writes, and truthful readings of them, of several processes."""
    history: list[Event] = []
    role, mode, _ = draw(st.sampled_from(HOLDS))
    now, token = 0.0, 0
    for _number in range(draw(st.integers(2, 6))):
        now += draw(st.floats(0.1, 2))
        token += draw(st.integers(1, 3))
        pid = draw(st.integers(1, 3))
        length = draw(st.floats(0.2, 3))
        end = draw(st.sampled_from(["exit", "lost"]))
        deadline = draw(st.sampled_from([now + length + 5, None]))
        history.append(enter(now, pid, token, role=role, mode=mode, deadline=deadline))
        if deadline is not None and draw(st.booleans()):
            renewed = held(now + length / 2, pid, "renewed", role=role, deadline=now + length + 9)
            history.append(renewed)
        now += length
        history.append(held(now, pid, end, role=role))

    writes = [written(0.5 + number + draw(st.floats(0, 0.4)), 10 + number) for number in range(8)]
    readings = []
    for pid in (1, 2):
        synced = 0.0
        for number in range(draw(st.integers(1, 6))):
            at = 1.5 + number * 1.5
            synced = max(synced, at - draw(st.floats(0, 3)))
            known = [w["revision"] for w in writes if w.at <= synced]
            readings.append(read(at, max(known, default=0), at - synced, pid=pid))
    return sorted([*history, *writes, *readings], key=lambda e: e.at)


@given(valid_histories())
def test_nothing_is_found_where_all_is_well(history: list[Event]) -> None:
    """A valid history has no violation, in whatever order its events are handed over."""
    assert check(history) == []
    assert check(reversed(history)) == []


@given(valid_histories(), st.data())
def test_an_exit_too_late(history: list[Event], data: st.DataObject) -> None:
    """Moving one end beyond the next one's beginning is found as an overlap."""
    enters = [e for e in history if e.kind == "enter"]
    place = data.draw(st.integers(0, len(enters) - 2))
    first, second = enters[place], enters[place + 1]
    assume(first.pid != second.pid)
    end = next(e for e in history if e.kind in ("exit", "lost") and e.pid == first.pid and e.at > first.at)
    wrong = [e for e in history if e is not end and not (e.kind == "renewed" and first.at < e.at < end.at)]
    # The next one's own hold is the next of that process, or the history would contradict itself.
    later = [e for e in wrong if e.kind == "enter" and e.pid == first.pid and e.at > first.at]
    moved = second.at + 0.05
    assume(not later or later[0].at > moved)
    overlaps = {"two_holders", "two_leaders"} & set(kinds(*wrong, replace(end, at=moved)))
    deadline = first["deadline"]
    assert bool(overlaps) == (deadline is None or deadline > second.at)


@given(valid_histories(), st.data())
def test_a_token_too_small(history: list[Event], data: st.DataObject) -> None:
    """Giving one grant the token of an earlier one, or less, is found."""
    enters = [e for e in history if e.kind == "enter"]
    place = data.draw(st.integers(1, len(enters) - 1))
    victim = enters[place]
    before = enters[place - 1]
    # Only a leader may come back with its own.
    back = victim["role"] == "leader" and victim.pid == before.pid
    token = data.draw(st.integers(0, before["token"] - back))
    wrong = [replace(e, fields={**e.fields, "token": token}) if e is victim else e for e in history]
    assert set(kinds(*wrong)) == {"token_not_growing"}


@given(valid_histories(), st.data())
def test_an_age_that_flatters(history: list[Event], data: st.DataObject) -> None:
    """Making one reading claim that it is fresh is found exactly if a write was acknowledged since."""
    reading = data.draw(st.sampled_from([e for e in history if e.kind == "reading"]))
    missed = [
        e for e in history if e.kind == "written" and e.at < reading.at and e["revision"] > reading["revision"]
    ]
    wrong = [replace(e, fields={**e.fields, "age": 0.0}) if e is reading else e for e in history]
    assert kinds(*wrong) == (["age_too_low"] if missed else [])


@given(valid_histories(), st.data())
def test_a_value_from_the_past(history: list[Event], data: st.DataObject) -> None:
    """Giving one reading a revision below one that its process has read before is found."""
    reading = data.draw(st.sampled_from([e for e in history if e.kind == "reading"]))
    before = [e for e in history if e.kind == "reading" and e.pid == reading.pid and e.at < reading.at]
    newest = max((e["revision"] for e in before), default=0)
    assume(newest > 1)
    older = data.draw(st.integers(1, newest - 1))
    changed = {**reading.fields, "revision": older, "present": True, "age": math.inf}
    wrong = [replace(e, fields=changed) if e is reading else e for e in history]
    assert kinds(*wrong) == ["revision_back"]


@given(valid_histories())
def test_beliefs_end_where_the_body_does(history: list[Event]) -> None:
    """Each grant of a valid history makes one belief, which ends with its exit or its loss."""
    for role in ("lock", "leader"):
        ends = sorted(e.at for e in history if e.kind in ("exit", "lost") and e["role"] == role)
        assert [belief.until for belief in beliefs(history, role)] == ends
