"""`tideover status --watch`: etcd's state, until Ctrl-C.

A terminal shows the present status. Everything else gets a line for each change; a growing age is no change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import anyio

from tideover.cli.printer import Styled, is_terminal, print_json, print_line, print_screen
from tideover.cli.status_lines import COLOURS, Asked, ask
from tideover.cli.words import counted
from tideover.cluster.rules.health import sentence
from tideover.coordinator.coordinator import Coordinator
from tideover.shown import shown
from tideover.status import PrefixStatus, StatusReport
from tideover.types import Diagnosis, HealthState

# Seconds between two looks at what this process knows, which costs nothing, and between two questions to etcd.
_LOOK_EVERY = 0.5
_ASK_EVERY = 5.0
# What is wrong in an outage; for the seconds until one is declared etcd counts as available.
_OUTAGES = (Diagnosis.LEADER_CHANGE, Diagnosis.QUORUM_LOST, Diagnosis.CUT_OFF)


async def show_changes(tide: Coordinator, *, as_json: bool) -> int:
    """Print the status, and each change, until Ctrl-C."""
    asked, before, redraws = Asked(), dict[str, str](), is_terminal() and not as_json
    ask_at = anyio.current_time()
    while True:
        if anyio.current_time() >= ask_at:
            asked = await ask(tide, asked)
            ask_at = anyio.current_time() + _ASK_EVERY
        report = tide.status()
        now = facts(asked.report(report), asked.services or {})
        if redraws:
            print_screen(asked.lines(report))
        elif as_json and now != before:
            print_json(asked.to_dict(report))
        elif now != before:
            _print_changes(before, now, report)
        before = now
        await anyio.sleep(_LOOK_EVERY)


def _print_changes(before: Mapping[str, str], now: Mapping[str, str], report: StatusReport) -> None:
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for what in (*now, *(gone for gone in before if gone not in now)):
        text = now.get(what, "gone")
        if before.get(what) != text:
            said = Styled(text, COLOURS[report.state]) if what == _ETCD else text
            print_line(f"{at}  {what}  ", said)


_ETCD = "etcd"


def facts(report: StatusReport, services: Mapping[str, int]) -> dict[str, str]:
    """Return the facts that can change, in words without ages."""
    return dict(_facts(report, services))


def _facts(report: StatusReport, services: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    doubted = report.state is HealthState.AVAILABLE and report.diagnosis in _OUTAGES
    yield _ETCD, f"{report.state}{', in doubt' if doubted else ''}: {sentence(report.diagnosis)}"
    if report.identity.cluster_id:
        epoch = f", epoch {report.identity.epoch}" if report.identity.epoch else ""
        yield "cluster", f"{report.identity.cluster_id}{epoch}"
    for member in report.members:
        answers = {True: "answers", False: "no answer", None: "not asked"}[member.answers]
        yield f"member {shown(member.endpoint)}", "in use" if member.active else answers
    for prefix in report.config:
        yield f"config {shown(prefix.etcd_prefix)}", _describe(prefix)
    for refused in report.rejected:
        yield f"refused {shown(refused.key)}", f"at revision {refused.revision}: {shown(refused.reason)}"
    for conflict in report.lock_conflicts:
        one, other = map(shown, conflict.holders)
        yield f"conflict {shown(conflict.name)} {one} {other}", "held by both at the same time"
    for name, count in services.items():
        yield f"service {shown(name)}", f"{count} registered"


def _describe(prefix: PrefixStatus) -> str:
    if prefix.denied:
        return f"denied: {shown(prefix.error or '')}"
    if prefix.source is None:
        return "never read"
    return f"{counted(prefix.keys)}, {prefix.source}"
