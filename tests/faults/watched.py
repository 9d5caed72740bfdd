"""What a follower saw, held against what was written. Pure: two logs in, a list of complaints out.

Claim checked: between two full reads every acknowledged change is seen exactly once, in the order of revisions.
A full read, which follows a compaction or a blackout, may merge what lies between; it shows the last value of each
key, so that none is lost for good, and what it shows is not told again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Value = str | None


@dataclass(frozen=True, slots=True)
class Seen:
    """One event of a watch."""

    key: str
    value: Value
    revision: int


@dataclass(frozen=True, slots=True)
class FullRead:
    """A full read: key to (value, its revision), as of a revision."""

    entries: Mapping[str, tuple[str, int]]
    revision: int


@dataclass
class Written:
    """What was written.

    Attributes:
        acknowledged: (revision, key) to the value, None for a deletion.
        attempted: All (key, value) that etcd was ever asked for.
    """

    acknowledged: dict[tuple[int, str], Value] = field(default_factory=dict)
    attempted: set[tuple[str, Value]] = field(default_factory=set)

    def between(self, after: int, until: int, prefix: str) -> Iterable[tuple[int, str]]:
        """Return the acknowledged changes of a prefix with after < revision <= until."""
        return ((r, k) for r, k in self.acknowledged if after < r <= until and k.startswith(prefix))


def check(log: Sequence[Seen | FullRead], written: Written, *, prefix: str, end: int) -> list[str]:
    """Return complaints about a log.

    Args:
        log: What the follower of a prefix saw, in its order, from its first full read on.
        written: What was written.
        prefix: The prefix.
        end: Up to which revision the follower claims to have come.
    """
    found: list[str] = []
    reached = read_at = 0
    seen: set[tuple[int, str]] = set()
    for item in log:
        if isinstance(item, FullRead):
            found += _missing(written, seen, read_at, reached, prefix)
            if item.revision < reached:
                found.append(f"a full read of {item.revision} after {reached} was reached")
            found += _misread(item, written, prefix)
            read_at = reached = item.revision
            continue
        where = item.revision, item.key
        if item.revision < reached or item.revision <= read_at or where in seen:
            found.append(f"{item} came again, or after {reached}")
        if written.acknowledged.get(where, item.value) != item.value or (
            (item.key, item.value) not in written.attempted
        ):
            found.append(f"{item} was never written")
        seen.add(where)
        reached = max(reached, item.revision)
    return [*found, *_missing(written, seen, read_at, end, prefix)]


def _missing(written: Written, seen: set[tuple[int, str]], after: int, until: int, prefix: str) -> Iterable[str]:
    return (
        f"{key} at {r} was not seen" for r, key in written.between(after, until, prefix) if (r, key) not in seen
    )


def _misread(read: FullRead, written: Written, prefix: str) -> Iterable[str]:
    """Yield the keys of which a full read does not show the last acknowledged value, or a later one."""
    newest: dict[str, int] = {}
    for revision, key in written.between(0, read.revision, prefix):
        newest[key] = max(newest.get(key, 0), revision)
    for key, revision in newest.items():
        value = written.acknowledged[revision, key]
        shown = read.entries.get(key)
        if shown is None:
            if value is not None and (key, None) not in written.attempted:
                yield f"the full read of {read.revision} lacks {key}, written at {revision}"
        elif shown[1] < revision or (shown[1] == revision and shown[0] != value):
            yield f"the full read of {read.revision} shows {key} as {shown}, not as of {revision}"


def announced(log: Sequence[Seen | FullRead]) -> tuple[list[Seen], dict[str, tuple[str, int]]]:
    """Return the changes that a log should be announced as, and the content that it leads to.

    Every event is announced, and of a full read the differences, deletions last.
    """
    changes: list[Seen] = []
    content: dict[str, tuple[str, int]] = {}
    for item in log:
        if isinstance(item, FullRead):
            changed = [(r, k, v) for k, (v, r) in item.entries.items() if content.get(k) != (v, r)]
            changes += [Seen(k, v, r) for r, k, v in sorted(changed)]
            changes += [Seen(key, None, item.revision) for key in sorted(content.keys() - item.entries.keys())]
            content = dict(item.entries)
            continue
        changes.append(item)
        if item.value is None:
            content.pop(item.key, None)
        else:
            content[item.key] = item.value, item.revision
    return changes, content


def check_changes(changes: Sequence[Seen], expected: Sequence[Seen]) -> list[str]:
    """Return complaints about changes that a reader got, who may have missed what was superseded meanwhile."""
    found = []
    left = iter(enumerate(expected))
    got: set[int] = set()
    for change in changes:
        at = next((n for n, other in left if other == change), None)
        if at is None:
            return [f"{change} came twice, out of order, or was never announced"]
        got.add(at)
    last = {change.key: n for n, change in enumerate(expected)}
    found += [f"{expected[n]} was never handed out" for n in last.values() if n not in got]
    return found
