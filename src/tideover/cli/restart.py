"""What `tideover doctor` says of a restart: what services have left on disk, and what one that starts knows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tideover.cli.exit_codes import Failure
from tideover.cli.findings import Finding
from tideover.cli.snapshots import Left, age_of, folder_of, left_in, old, own_of
from tideover.cli.words import counted
from tideover.options import Options
from tideover.shown import shown
from tideover.status import duration

# Seconds after which a snapshot is not what a running service leaves: every 10 s, and as much later for each MiB,
# that writes that it is in sync.
_KEPT = 600.0

# Returns how many keys etcd has under a prefix; None if it does not say.
Count = Callable[[bytes], Awaitable[int | None]]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the members have said, as far as a start depends on it."""

    ids: frozenset[int]
    has_quorum: bool
    refuses: bool


async def judge_restart(
    options: Options, cache_dir: Path | None, cluster: Cluster, count: Count, *, max_age: float | None
) -> list[Finding]:
    """Look at the snapshots; the last finding says whether a service can be restarted now."""
    damaged: dict[str, None] = {}
    try:
        folder = folder_of(cache_dir)
        left = list(left_in(folder, refused=damaged.setdefault))
    except Failure as exc:
        return [Finding("snapshot", False, str(exc)), _verdict([], cluster, str(exc))]
    own = own_of(left, options, refused=damaged.setdefault)
    findings = [Finding("snapshot", False, shown(text, 500)) for text in damaged]
    findings += [await _judge(each, cluster, count, max_age) for each in own]
    config = [each for each in own if each.path.name.startswith("config-")]
    usable = [each for each in config if max_age is None or age_of(each.snapshot) <= max_age]
    missing = f"all is older than {duration(max_age or 0)}"
    if not config:
        usable_one = "snapshot that can be used" if damaged else "snapshot"
        missing = f"there is no {usable_one} for these endpoints, this namespace and this user in {folder}"
        others = f"; of others there are {len(left) - len(own)}: see `tideover cache show`"
        findings.append(Finding("snapshot", None, missing + (others if len(left) > len(own) else "")))
    return [*findings, _verdict(usable, cluster, missing)]


async def _judge(left: Left, cluster: Cluster, count: Count, max_age: float | None) -> Finding:
    snapshot = left.snapshot
    text = f"{shown(left.prefix)}  {counted(len(snapshot.entries))}  {old(snapshot)}  revision {snapshot.revision}"
    if snapshot.cluster_id and cluster.ids and snapshot.cluster_id not in cluster.ids:
        ids = ", ".join(f"{found:x}" for found in sorted(cluster.ids))
        return Finding("snapshot", False, f"{text}: of cluster {snapshot.cluster_id:x}, and this is {ids}")
    age = age_of(snapshot)
    if max_age is not None and age > max_age:
        return Finding("snapshot", False, f"{text}: older than {duration(max_age)}")
    in_etcd = await count(left.prefix) if cluster.has_quorum else None
    remarks = []
    if in_etcd is not None and in_etcd != len(snapshot.entries):
        remarks.append(f"etcd has {in_etcd}, and what is excluded or has just changed is not on disk")
    if cluster.has_quorum and age > _KEPT:
        remarks.append("no service that runs here keeps it up to date")
    return Finding("snapshot", None if remarks else True, "; ".join((text, *remarks)))


def _verdict(usable: Sequence[Left], cluster: Cluster, missing: str) -> Finding:
    known = ", ".join(
        f"{counted(len(left.snapshot.entries))} of {shown(left.prefix)} ({old(left.snapshot)})" for left in usable
    )
    if len(cluster.ids) > 1:
        return Finding("restart", False, "no: the endpoints belong to several clusters")
    if cluster.refuses:
        return Finding("restart", False, "no: etcd refuses this client")
    if cluster.has_quorum:
        kept = known or f"nothing, because {missing}"
        return Finding("restart", True, f"yes: etcd answers; on disk for a start without it: {kept}")
    if known:
        text = f"yes, without etcd, unless the service has require='etcd': it begins with {known}"
        return Finding("restart", True, f"{text}; no leader is elected until etcd is back")
    return Finding("restart", False, f"no: etcd is away, and a service begins with no configuration: {missing}")
