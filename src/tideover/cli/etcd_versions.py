"""Known flaws of etcd's versions that harm services which use this library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tideover.cli.findings import Finding

# Major, minor and patch, then 0 for a release and -1 for what came before it, such as a release candidate.
_Version = tuple[int, int, int, int]
_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})(?:([-+]).*)?", re.ASCII | re.DOTALL)
_BEFORE_RELEASE = re.compile(r"-(alpha|beta|rc|pre)", re.ASCII)
_RELEASED = 0


@dataclass(frozen=True, slots=True)
class Flaw:
    """A flaw of some versions.

    Attributes:
        fixed: The first good release of each fixed series. An older series keeps the flaw; a newer one never had
            it.
    """

    text: str
    source: str
    fixed: tuple[str, ...]
    since: str = "0.0.0"
    harmful: bool = True

    def affects(self, version: _Version) -> bool:
        """Whether a version has the flaw."""
        good = {release[:2]: release for release in map(_release, self.fixed)}
        if version < _release(self.since) or version[:2] > max(good):
            return False
        return version[:2] not in good or version < good[version[:2]]

    @property
    def remedy(self) -> str:
        """The remedy, in words."""
        return f"upgrade to {' or '.join(release.removesuffix('.0') for release in self.fixed)}, or later"


FLAWS = (
    Flaw(
        "can leave its members with different data after one of them was killed",
        "etcd-io/etcd#13854, 2022-04-13",
        fixed=("3.5.3",),
        since="3.5.0",
    ),
    Flaw(
        "can answer a linearizable read with old data after a pause of its process: locks and registrations may "
        "be believed longer than they last",
        "etcd-io/etcd#20418, 2026-03-20",
        fixed=("3.4.42", "3.5.28", "3.6.9"),
    ),
    Flaw(
        "shows changes of other keys, through watches, to users who may read one key",
        "GHSA-xg4h-6gfc-h4m8, 2026-07-24",
        fixed=("3.5.33", "3.6.14", "3.7.1"),
    ),
    Flaw(
        "gets no fixes any more",
        "end of life of 3.4, 2026-06-01",
        fixed=("3.5.0",),
        harmful=False,
    ),
)


def flaws_of(version: str | None) -> tuple[Flaw, ...]:
    """Return the flaws of a version; none if it is unknown, unreadable, or newer than the table."""
    parsed = None if version is None else _parse(version)
    return () if parsed is None else tuple(flaw for flaw in FLAWS if flaw.affects(parsed))


def remarks(versions: Mapping[str, str | None]) -> list[Finding]:
    """Return a finding for each flaw of each version, by endpoint, and one if the members' versions differ."""
    members: dict[str, list[str]] = {}
    for endpoint, version in versions.items():
        if version is not None:
            members.setdefault(version, []).append(endpoint)
    found = [
        Finding(
            "version",
            False if flaw.harmful else None,
            f"etcd {version} {flaw.text}: {flaw.remedy} ({flaw.source})",
        )
        for version in members
        for flaw in flaws_of(version)
    ]
    if len(members) > 1:
        each = "; ".join(f"{version} at {', '.join(at)}" for version, at in members.items())
        found.append(Finding("version", None, f"the members run different versions: {each}"))
    return found


def _parse(text: str) -> _Version | None:
    """Parse a version so that versions compare; a vendor's suffix is left out."""
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    major, minor, patch = (int(number) for number in found.groups()[:3])
    before = _BEFORE_RELEASE.match(text, found.start(4)) if found[4] else None
    return (major, minor, patch, -1 if before else _RELEASED)


def _release(text: str) -> _Version:
    major, minor, patch = (int(number) for number in text.split("."))
    return (major, minor, patch, _RELEASED)
