"""`tideover doctor`: checks everything that would harm a service later, member by member."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import click

from tideover.cli.common import color_option, json_option, options_of
from tideover.cli.etcd_versions import remarks
from tideover.cli.exit_codes import Exit, Failure, exit_of_error, usage_errors
from tideover.cli.findings import Finding, print_findings
from tideover.cli.keys import keys_option
from tideover.cli.machine import judge_machine
from tideover.cli.restart import Cluster, judge_restart
from tideover.cli.seconds import Seconds
from tideover.cli.snapshots import cache_dir_option
from tideover.cli.target import Target, etcd_options
from tideover.client.rules.namespaces import other_spelling
from tideover.coordinator.survey import foreign_values
from tideover.epoch.marker import Look, marker_key, read_marker, write_marker
from tideover.epoch.rules import after
from tideover.etcd import raw_lines
from tideover.etcd.adapter import EtcdStore
from tideover.options import Options
from tideover.policies import Transport
from tideover.shown import shown
from tideover.store.faults import FaultKind, StoreFault, public_error
from tideover.store.operations import Range, RangeResult, Status, prefix_end
from tideover.store.protocol import Store
from tideover.types import HealthState

T = TypeVar("T")

_TIMEOUT = 2.0
_READ_TIMEOUT = 10.0
_BUMP_TRIES = 5
_TRANSPORTS: dict[Transport, str] = {"grpc": "grpc, gRPC's library", "http2": "http2, tideover's own"}


@dataclass(slots=True)
class Examined:
    """One member's answers; `look` is the one through the quorum."""

    endpoint: str
    answers: bool = False
    version: str | None = None
    cluster_id: int = 0
    look: Look | None = None
    error: str | None = None
    denied: bool = False
    refused: bool = False

    @property
    def usable(self) -> bool:
        """Whether it has answered with a quorum, if only that this client may not read the epoch."""
        return self.look is not None or self.denied


@click.command("doctor", short_help="Check what would harm a service later: can it restart now?")
@click.option(
    "--bump-epoch", is_flag=True, help="Begin the next epoch: after a restore that no process could notice."
)
@cache_dir_option("A service's cache_dir; else this user's.")
@click.option(
    "--max-age",
    metavar="SECONDS",
    type=Seconds(min=0),
    help="How old a snapshot may be that a service starts with, such as its max_stale.",
)
@keys_option
@etcd_options
@color_option
@json_option
def command(target: Target, as_json: bool, bump_epoch: bool, cache_dir: Path | None, max_age: float | None) -> int:
    """Check what would harm a service later: members, that all are of one cluster, versions of etcd with known
    faults, the epoch, clocks, the disk, and the snapshots on it.

    The last line answers whether a service with these endpoints, this namespace and this user can be restarted
    now: what it would know if etcd were away then.

    Exits with 0 if all is well, 1 if something is not, 3 if no quorum answers, 4 if no member does, 5 if
    they refuse this client. With --bump-epoch also with 5 if it may not write the epoch, and with 6 if that may or
    may not have been done.
    """
    return anyio.run(partial(_examine_all, target, bump_epoch, cache_dir, max_age, as_json))


async def _examine_all(
    target: Target, bump: bool, cache_dir: Path | None, max_age: float | None, as_json: bool
) -> int:
    key = marker_key(target.namespace)
    raw_lines.silence()
    with usage_errors():
        store = EtcdStore(target.endpoints, tls=target.tls, username=target.username, password=target.password)
    endpoints = store.members
    try:
        members = [Examined(endpoint) for endpoint in endpoints]
        async with anyio.create_task_group() as tasks:
            for member in members:
                tasks.start_soon(_ask, store, key, member)
        findings = [
            *_judge_members(members),
            *_transports(store),
            *await _judge_namespace(store, target.namespace, members),
            *await _judge_values(store, target.namespace, members),
            *await judge_machine(endpoints, cache_dir),
        ]
        if bump:
            findings = [*findings, await _bump(store, key, members)]
        findings += await _judge_restart(store, options_of(target), cache_dir, members, max_age)
    finally:
        await store.aclose()
    print_findings(findings, as_json=as_json)
    if not any(member.answers for member in members):
        return Exit.UNAVAILABLE
    if not any(member.usable for member in members):
        return Exit.REFUSED if any(member.refused for member in members) else Exit.DEGRADED
    return Exit.FAILED if any(finding.ok is False for finding in findings) else Exit.OK


def _transports(store: EtcdStore) -> Iterator[Finding]:
    """Yield what calls go over; the members are named where they differ."""
    members: dict[str, list[str]] = {}
    for member in store.members:
        over = ", ".join(filter(None, (_TRANSPORTS[store.transport(member)], store.way(member))))
        members.setdefault(over, []).append(member)
    for over, names in members.items():
        to = f" to {', '.join(names)}" if len(members) > 1 else ""
        yield Finding("transport", None, f"calls{to} go over {over}")


async def _ask(store: Store, key: bytes, member: Examined) -> None:
    try:
        about = await store.call(Status(), member=member.endpoint, timeout=_TIMEOUT)
        member.answers = True
        member.version = shown(about.version) if about.version is not None else None
        member.cluster_id = about.header.cluster_id
        member.look = await read_marker(store, key, member.endpoint)
    except StoreFault as exc:
        member.error = exc.fault.brief
        member.denied = exc.fault.kind is FaultKind.PERMISSION
        member.refused = exc.fault.kind in (FaultKind.AUTH_TOKEN, FaultKind.AUTHENTICATION)
        member.answers = member.answers or member.refused


async def _judge_namespace(store: Store, namespace: str, members: Sequence[Examined]) -> list[Finding]:
    """Look for an epoch under the namespace's other spelling, if there is none under this one."""
    other = other_spelling(namespace)
    asked = next((each.endpoint for each in members if each.look is not None and not each.look.mod_revision), None)
    if other is None or asked is None:
        return []
    try:
        look = await read_marker(store, marker_key(other), asked)
    except StoreFault:
        return []
    text = f"{namespace!r} and {other!r} are two, and etcd has an epoch for the second one: is -n {other} meant?"
    return [Finding("namespace", False, text)] if look.mod_revision else []


def _judge_members(members: Sequence[Examined]) -> list[Finding]:
    findings = [_judge_member(member) for member in members]
    clusters = sorted({member.cluster_id for member in members if member.cluster_id})
    if len(clusters) > 1:
        names = ", ".join(f"{cluster_id:x}" for cluster_id in clusters)
        findings.append(Finding("cluster", False, f"the endpoints belong to {len(clusters)} clusters: {names}"))
    elif clusters:
        findings.append(Finding("cluster", True, f"all endpoints that answer belong to cluster {clusters[0]:x}"))
    findings += remarks({member.endpoint: member.version for member in members})
    looks = [member.look for member in members if member.look]
    if looks:
        findings.append(_judge_epoch(max(looks, key=lambda look: look.header.revision)))
    elif any(member.denied for member in members):
        findings.append(
            Finding("epoch", None, "not permitted to read it: services here count resets on their own")
        )
    return findings


def _judge_member(member: Examined) -> Finding:
    if not member.answers:
        return Finding("member", False, f"{member.endpoint} does not answer: {member.error}")
    if member.refused:
        return Finding("member", False, f"{member.endpoint} answers, and refuses this client: {member.error}")
    if not member.usable:
        return Finding("member", False, f"{member.endpoint} has no quorum: {member.error}")
    version = f"etcd {member.version}" if member.version else "its version is for root alone"
    return Finding("member", True, f"{member.endpoint} answers, {version}, cluster {member.cluster_id:x}")


def _judge_epoch(look: Look) -> Finding:
    marker = look.marker
    if marker is None:
        if look.foreign is not None:
            return Finding("epoch", False, "the key holds something else: services here count resets on their own")
        return Finding("epoch", None, "not written yet: the first service writes it")
    if marker.predates(look.header):
        text = f"{marker.epoch}, written before etcd was restored: the first service raises it"
        return Finding("epoch", False, text)
    return Finding("epoch", True, f"{marker.epoch}, written at revision {look.mod_revision}")


async def _judge_values(store: Store, namespace: str, members: Sequence[Examined]) -> list[Finding]:
    """Name the foreign values under tideover's own keys."""
    well = next((member.endpoint for member in members if member.usable), None)
    if well is None:
        return []

    async def read(op: Range) -> RangeResult | None:
        try:
            return await store.call(op, member=well, timeout=_READ_TIMEOUT)
        except StoreFault as exc:
            if exc.fault.kind is FaultKind.PERMISSION:
                return None
            raise

    try:
        found = await foreign_values(namespace, read)
    except StoreFault as exc:
        return [Finding("value", False, f"tideover's own keys cannot be read: {exc.fault.brief}")]
    named = [
        Finding("value", False, f"{shown(each.key)} at revision {each.revision} is foreign: {each.reason}")
        for each in found.named
    ]
    return [*named, Finding("value", False, f"and {found.more} more")] if found.more else named


async def _judge_restart(
    store: Store, options: Options, cache_dir: Path | None, members: Sequence[Examined], max_age: float | None
) -> list[Finding]:
    well = next((member.endpoint for member in members if member.usable), None)

    async def count(prefix: bytes) -> int | None:
        try:
            op = Range(prefix, prefix_end(prefix), limit=1, keys_only=True)
            return (await store.call(op, member=well or "", timeout=_READ_TIMEOUT)).count
        except StoreFault:
            return None

    cluster = Cluster(
        frozenset(member.cluster_id for member in members if member.cluster_id),
        has_quorum=well is not None,
        refuses=well is None and any(member.refused for member in members),
    )
    return await judge_restart(options, cache_dir, cluster, count, max_age=max_age)


async def _bump(store: Store, key: bytes, members: Sequence[Examined]) -> Finding:
    """Begin the next epoch, also while other processes write it."""
    well = [member for member in members if member.usable]
    if not well or len({member.cluster_id for member in members if member.cluster_id}) > 1:
        return Finding("bump", False, "not done: the members must be of one cluster, and have a quorum")
    endpoint = well[0].endpoint
    doing = f"raise the epoch in {key.decode()}"
    for _ in range(_BUMP_TRIES):
        look = await _or_fail(partial(read_marker, store, key, endpoint), doing, writes=False)
        epoch = after(look.marker.epoch) if look.marker else 1
        written = await _or_fail(partial(write_marker, store, key, endpoint, look, epoch), doing, writes=True)
        if written is not None:
            return Finding("bump", True, f"epoch {written.epoch} has begun")
    return Finding("bump", False, "not done: others are writing the epoch; try again")


async def _or_fail(ask: Callable[[], Awaitable[T]], doing: str, *, writes: bool) -> T:
    try:
        return await ask()
    except StoreFault as exc:
        error = public_error(exc.fault, doing=doing, writes=writes)
        raise Failure(str(error), code=exit_of_error(error, HealthState.UNAVAILABLE)) from exc
