"""What else an operator has to know, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from tideover.coordinator.rules.situation import is_away, local, refused_config, refusing
from tideover.coordinator.rules.words import aged, counted, listed, named, plain
from tideover.shown import shown
from tideover.status import LockConflictStatus, NoteStatus, RejectedValue, Statement, StatusReport, duration
from tideover.types import Standing

# How many notes of one kind there are, at the most.
_MOST = 20


def notes(report: StatusReport) -> tuple[NoteStatus, ...]:
    """Return the notes, in the order of the parts."""
    rules = (_elections, _locks, _members, _process, _config, _discovery)
    return tuple(note for rule in rules for note in islice(rule(report), _MOST))


def _elections(report: StatusReport) -> Iterator[NoteStatus]:
    for election in report.elections:
        if election.standing is Standing.UNCONFIRMED:
            text = (
                f'{named(election.name)} stays because its policy is "stay". When etcd is back it goes on with '
                "the same token, or stops if its record has changed."
            )
            yield NoteStatus("election", "warn", Statement(text), election.name)
        elif election.silent:
            who = listed(plain(address) for address in election.silent)
            text = f"Silent: {who}. In an outage that costs {named(election.name)} its leader."
            yield NoteStatus("election", "warn", Statement(text), election.name)
    if is_away(report) and report.elections and not any(election.standing for election in report.elections):
        text = (
            "Nobody is newly elected while etcd is away. The process that led before may still lead: ask that one."
        )
        yield NoteStatus("election", "bad", Statement(text))


def _locks(report: StatusReport) -> Iterator[NoteStatus]:
    held = local(report.locks)
    if held:
        names = listed(plain(lock.name) for lock in held)
        one = len(held) == 1
        text = (
            f"Another host may hold {names} too. {'The hold is' if one else 'Each hold is'} recorded and compared "
            "with the others when etcd is back."
        )
        yield NoteStatus("lock", "warn", Statement(text))
    if report.lock_error:
        yield NoteStatus("lock", "bad", Statement(shown(report.lock_error)))
    for conflict in report.lock_conflicts:
        yield NoteStatus("lock", "warn", _conflict(conflict), conflict.name)
    if is_away(report):
        text = "Conflicts with other processes are not known while etcd is away."
        yield NoteStatus("lock", "plain", Statement(text))


def _conflict(conflict: LockConflictStatus) -> Statement:
    one, other = map(plain, conflict.holders)
    seconds = conflict.seconds
    lasted = f"{seconds:.1f} s" if seconds < 60 else duration(seconds)
    how = f"certain, {lasted}" if conflict.certain else "possible"
    text = f"Conflict of {plain(conflict.name)}: {how}, by {one} and {other}, ended "
    return aged(text, conflict.ended_ago, " ago.", unknown="at an unknown time.")


def _members(report: StatusReport) -> Iterator[NoteStatus]:
    for endpoint in report.identity.foreign:
        text = f"{plain(endpoint)} belongs to another cluster and is not used."
        yield NoteStatus("members", "bad", Statement(text), endpoint)
    if report.identity.last_reset is not None and report.identity.last_reset_ago is not None:
        text = f"etcd was restored, rebuilt or replaced: {shown(report.identity.last_reset)}; seen "
        yield NoteStatus("members", "warn", Statement(text, report.identity.last_reset_ago, " ago."))
    if report.identity.error:
        yield NoteStatus("members", "plain", Statement(shown(report.identity.error)))
    for untold in report.untold:
        yield NoteStatus("members", "plain", Statement(f"etcd does not tell this user: {shown(untold)}."))


def _process(report: StatusReport) -> Iterator[NoteStatus]:
    stall = report.last_stall
    if stall is not None:
        times = counted(report.stalls, "time")
        text = f"The event loop was blocked past a deadline {times}; last {named(stall.election)}, "
        late = f"{stall.late:.1f} s late, "
        yield NoteStatus("process", "warn", Statement(f"{text}{late}", stall.ago, " ago."), stall.election)
    for snapshot in report.snapshots:
        if snapshot.error:
            text = f"The snapshot of {named(snapshot.prefix)} cannot be written: {shown(snapshot.error)}"
            yield NoteStatus("process", "warn", Statement(text), snapshot.prefix)


def _config(report: StatusReport) -> Iterator[NoteStatus]:
    passed = tuple(limit.prefix for limit in refusing(report.limits))
    for value in refused_config(report):
        yield NoteStatus("config", "warn", _refusal(value, over=value.key.startswith(passed)), value.key)


def _refusal(value: RejectedValue, *, over: bool) -> Statement:
    text = f"The value at revision {value.revision:,} is refused and not served: {shown(value.reason)}."
    if value.instead:
        ground = "its class's defaults" if value.instead == "default" else "what its class has accepted before"
        at = f", revision {value.served:,}" if value.served else ""
        return Statement(f"{text} Since the start {ground} is served instead{at}.")
    if not value.served:
        return Statement(f"{text} None is served instead.")
    if over:
        return Statement(f"{text} Revision {value.served:,} is known, and is over its limit too.")
    return Statement(f"{text} Revision {value.served:,} is served instead.")


def _discovery(report: StatusReport) -> Iterator[NoteStatus]:
    for service in report.services:
        if service.held:
            gone = counted(service.held, "endpoint is", "endpoints are")
            text = f"{gone} not in etcd any more, and still listed: the removal is held back for a while."
            yield NoteStatus("discovery", "warn", Statement(text), service.name)
        for reason in service.refused:
            yield NoteStatus("discovery", "warn", Statement(f"Refused: {shown(reason)}"), service.name)
