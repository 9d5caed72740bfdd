"""The answers of a service's instances, and what disagrees: pure, from foreign bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tideover.foreign_bytes import Malformed, load_object
from tideover.records import Record
from tideover.shown import shown
from tideover.status import duration
from tideover.types import HealthState, Source

# Bytes of one answer: `HealthApp` stays below.
MOST = 64 * 1024
# Seconds: a live instance was proven within this time, and may be that far behind other live ones.
_LIVE_WITHIN = 10.0
# The most instances named for one disagreement.
_NAMED = 5
_LADDER = list(Source)


@dataclass(frozen=True, slots=True)
class Led(Record):
    """An election that an instance says it leads."""

    election: str
    standing: str
    token: int


@dataclass(frozen=True, slots=True)
class Row(Record):
    """One instance. It has many attributes, because the table and the comparison read one answer whole.

    Attributes:
        instance: Its name: `host:pid` if it has answered, else as it is registered.
        trouble: Why there is no answer; empty if there is one.
        expected: The registered process, if another one answered; else empty.
        age: Seconds since its oldest configuration was proven; None if unknown.
        source: The worst source of its configuration; None if there is none.
    """

    instance: str
    url: str
    trouble: str = ""
    expected: str = ""
    status: str = ""
    output: str = ""
    state: HealthState | None = None
    diagnosis: str = ""
    since: str = ""
    age: float | None = None
    source: Source | None = None
    leads: tuple[Led, ...] = ()
    locks: int = 0
    registered: str | None = None
    version: str = ""
    cluster_id: str | None = None
    epoch: int = 0
    revision: int = 0
    outage_id: str | None = None


def read(raw: bytes, service: str, url: str, *, registered: str = "") -> Row:
    """Parse an instance's answer; `registered` is the registered process, as `host:pid`, or empty.

    Raises:
        Malformed: It is no answer of `health`.
    """
    found = load_object(raw, size=MOST)
    checks = found.get("checks")
    process, state, status = (_text(found, name) for name in ("process", "state", "status"))
    if not (isinstance(checks, dict) and process):
        raise Malformed("it has no checks, or no process")
    if state not in set(HealthState) or status not in ("pass", "warn", "fail"):
        raise Malformed("it has no state, or no status")
    config = list(_parts(checks, "config"))
    ages = [_number(part, "age") for part in config]
    sources = [Source(part["source"]) for part in config if _text(part, "source") in set(Source)]
    own = [_text(part, "observedValue") for part in _parts(checks, "registration") if _is_of(part, service)]
    return Row(
        instance=process,
        url=url,
        expected=registered if registered != process else "",
        status=status,
        output=_text(found, "output"),
        state=HealthState(state),
        diagnosis=_text(found, "diagnosis"),
        since=_text(found, "since"),
        age=max((age for age in ages if age is not None), default=None) if None not in ages else None,
        source=max(sources, key=_LADDER.index, default=None),
        leads=tuple(
            Led(_text(part, "componentId"), _text(part, "observedValue"), token)
            for part in _parts(checks, "election")
            if (token := _whole(part, "token"))
        ),
        locks=sum(1 for part in _parts(checks, "lock") if _whole(part, "token") or _text(part, "componentId")),
        registered=own[0] if own else None,
        version=_text(found, "version"),
        cluster_id=_text(found, "cluster_id") or None,
        epoch=_whole(found, "epoch"),
        revision=_whole(found, "revision"),
        outage_id=_text(found, "outage_id") or None,
    )


def _parts(checks: Mapping[str, Any], component: str) -> Iterable[Mapping[str, Any]]:
    parts = checks.get(component)
    return (part for part in parts if isinstance(part, dict)) if isinstance(parts, list) else ()


def _is_of(part: Mapping[str, Any], service: str) -> bool:
    return _text(part, "componentId").startswith(f"{shown(service)}/")


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""


def _whole(found: Mapping[str, Any], name: str) -> int:
    value = found.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _number(found: Mapping[str, Any], name: str) -> float | None:
    value = found.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


_TITLES = ("INSTANCE", "STATE", "SINCE", "CONFIG", "SOURCE", "LEADS", "LOCKS", "REGISTERED", "VERSION")


def table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of the table; for an instance without an answer, why."""
    cells = [_TITLES, *(_cells(row) for row in rows if not row.trouble)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(_TITLES))]
    known = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells
    ]
    unknown = [f"{shown(row.instance, 60).ljust(widths[0])}  {shown(row.trouble)}" for row in rows if row.trouble]
    return [*known, *unknown]


def _cells(row: Row) -> tuple[str, ...]:
    leads = ", ".join(f"{led.election} ({led.standing})" for led in row.leads)
    return tuple(
        shown(text, most)
        for text, most in (
            (row.instance, 60),
            (row.state or "-", 20),
            (row.since[:19] or "-", 19),
            ("-" if row.age is None else duration(row.age), 20),
            (row.source or "-", 10),
            (leads or "-", 80),
            (str(row.locks), 8),
            (row.registered or "no", 12),
            (row.version or "-", 20),
        )
    )


def disagreements(rows: Sequence[Row], *, here: HealthState | None = None) -> list[str]:
    """Return the disagreements and failures, each in words; `here` is etcd's state as this process sees it."""
    known = [row for row in rows if not row.trouble]
    silent = [row for row in rows if row.trouble]
    well = [row for row in known if row.state is HealthState.AVAILABLE]
    found = []
    if silent:
        how = "has not said how it is" if len(silent) == 1 else "have not said how they are"
        found.append(f"{_names(silent)} {how}")
    found += [f"{_name(row)} fails: {shown(row.output)}" for row in known if row.status == "fail"][:_NAMED]
    found += _strangers(known)
    found += _rivals(known)
    found += _others(known, "sees cluster", [row.cluster_id for row in known])
    found += _others(known, "is in epoch", [row.epoch or None for row in known])
    found += _behind(well)
    if well or here is HealthState.AVAILABLE:
        others = f"while {_counted(len(well))} well" if well else "while it is available from here"
        found += [
            f"{_names(rows)} {'has' if len(rows) == 1 else 'have'} etcd {state}, {others}"
            for state in (HealthState.DEGRADED, HealthState.UNAVAILABLE)
            if (rows := [row for row in known if row.state is state])
        ]
    return found


def _strangers(rows: Sequence[Row]) -> list[str]:
    """Name those that were not reached because another process answered at their address."""
    answered = {row.instance for row in rows}
    return [
        f"{_name(row)} has answered for {shown(row.expected, 60)}, of which nothing is known"
        for row in rows
        if row.expected and row.expected not in answered
    ][:_NAMED]


def _rivals(rows: Sequence[Row]) -> list[str]:
    leaders: dict[str, list[str]] = {}
    # A process that is registered more than once answers more than once.
    for instance, led in dict.fromkeys((row.instance, led) for row in rows for led in row.leads):
        who = f"{shown(instance, 60)} ({shown(led.standing, 20)}, token {led.token})"
        leaders.setdefault(led.election, []).append(who)
    return [
        f"{shown(election)!r} has {len(those)} leaders: {', '.join(those[:_NAMED])}"
        for election, those in leaders.items()
        if len(those) > 1
    ]


def _others(rows: Sequence[Row], what: str, values: Sequence[object]) -> list[str]:
    """Name those whose answer differs from most."""
    groups: dict[object, list[Row]] = {}
    for row, value in zip(rows, values, strict=True):
        if value is not None:
            groups.setdefault(value, []).append(row)
    if len(groups) < 2:
        return []
    most = max(groups, key=lambda value: len(groups[value]))
    return [
        f"{_names(those)}: {what} {shown(str(value))}, and not {shown(str(most))}"
        for value, those in groups.items()
        if value != most
    ]


def _behind(rows: Sequence[Row]) -> list[str]:
    """Name those at an older revision that are further behind than a live instance may be."""
    newest = max((row.revision for row in rows), default=0)
    return [
        f"{_name(row)} is at revision {row.revision}, others are at {newest}"
        for row in rows
        if row.revision < newest and (row.source is not Source.LIVE or row.age is None or row.age > _LIVE_WITHIN)
    ][:_NAMED]


def _name(row: Row) -> str:
    return shown(row.instance, 60)


def _names(rows: Sequence[Row]) -> str:
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return ", ".join(map(_name, rows[:_NAMED])) + more


def _counted(others: int) -> str:
    return "1 other is" if others == 1 else f"{others} others are"
