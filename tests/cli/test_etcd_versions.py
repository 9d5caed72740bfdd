"""What `tideover doctor` says of the versions of etcd."""

from __future__ import annotations

import pytest

from tideover.cli.etcd_versions import FLAWS, Flaw, flaws_of, remarks
from tideover.cli.findings import Finding

DAMAGE, STALE, LEAK, END_OF_LIFE = FLAWS

# The last release with each set of flaws and the first without, for every series, and what is between.
BOUNDARIES: dict[str, set[Flaw]] = {
    "3.3.27": {STALE, LEAK, END_OF_LIFE},
    "3.4.0": {STALE, LEAK, END_OF_LIFE},
    "3.4.23": {STALE, LEAK, END_OF_LIFE},
    "3.4.41": {STALE, LEAK, END_OF_LIFE},
    "3.4.42": {LEAK, END_OF_LIFE},
    "3.4.99": {LEAK, END_OF_LIFE},
    "3.5.0": {DAMAGE, STALE, LEAK},
    "3.5.1": {DAMAGE, STALE, LEAK},
    "3.5.2": {DAMAGE, STALE, LEAK},
    "3.5.3": {STALE, LEAK},
    "3.5.16": {STALE, LEAK},
    "3.5.27": {STALE, LEAK},
    "3.5.28": {LEAK},
    "3.5.32": {LEAK},
    "3.5.33": set(),
    "3.5.35": set(),
    "3.6.0": {STALE, LEAK},
    "3.6.8": {STALE, LEAK},
    "3.6.9": {LEAK},
    "3.6.13": {LEAK},
    "3.6.14": set(),
    "3.6.16": set(),
    "3.7.0": {LEAK},
    "3.7.1": set(),
    "3.7.3": set(),
}


@pytest.mark.parametrize(("version", "flaws"), BOUNDARIES.items())
def test_each_boundary_of_the_table(version: str, flaws: set[Flaw]) -> None:
    """A flaw begins and ends exactly where its source says, in each series."""
    assert set(flaws_of(version)) == flaws


@pytest.mark.parametrize("version", ["3.7.100", "3.8.0", "3.10.0", "3.33.1", "4.0.0", "10.0.0-alpha.1"])
def test_an_unknown_newer_version_is_no_finding(version: str) -> None:
    """What is not known here is not suspected: numbers are compared as numbers."""
    assert flaws_of(version) == ()


@pytest.mark.parametrize(
    "version",
    [None, "", "3", "3.5", "3.5.x", "three", "3.5.1.2", " 3.5.1", "3.5.1 ", "3.5.1\n", "\u0663.5.1"],
)
def test_a_version_that_cannot_be_read_is_no_finding(version: str | None) -> None:
    """A member that tells no version, or something else, is not judged by it."""
    assert flaws_of(version) == ()


@pytest.mark.parametrize(
    ("version", "like"),
    [
        ("v3.5.1", "3.5.1"),
        ("3.5.28+k3s1", "3.5.28"),
        ("3.5.28-k3s1", "3.5.28"),
        ("3.6.14-0ubuntu1", "3.6.14"),
        ("3.5.3-rc.0", "3.5.2"),
        ("3.7.1-beta.1", "3.7.0"),
        ("3.6.9-alpha.0+git", "3.6.8"),
    ],
)
def test_what_stands_behind_the_numbers(version: str, like: str) -> None:
    """A vendor's addition changes nothing; what came before a release does not have its fixes."""
    assert flaws_of(version) == flaws_of(like)


def test_remarks_name_the_version_the_remedy_and_the_source_once() -> None:
    """Three members of one version are one remark for each flaw."""
    said = remarks({"a:1": "3.5.2", "b:1": "3.5.2", "c:1": "3.5.2"})
    assert [remark.ok for remark in said] == [False] * 3
    assert said[0] == Finding(
        "version",
        False,
        "etcd 3.5.2 can leave its members with different data after one of them was killed: upgrade to 3.5.3, or "
        "later (etcd-io/etcd#13854, 2022-04-13)",
    )
    assert "upgrade to 3.4.42 or 3.5.28 or 3.6.9, or later" in said[1].text


def test_the_end_of_life_is_for_people_to_judge() -> None:
    """It harms nothing today."""
    said = remarks({"a:1": "3.4.42"})
    assert [remark.ok for remark in said] == [False, None]
    assert said[1].text.startswith("etcd 3.4.42 gets no fixes any more: upgrade to 3.5, or later (")


def test_members_of_different_versions_are_told() -> None:
    """Who runs what is named; a member whose version is unknown is not counted."""
    said = remarks({"a:1": "3.7.3", "b:1": "3.6.16", "c:1": "3.7.3", "d:1": None})
    assert said == [
        Finding("version", None, "the members run different versions: 3.7.3 at a:1, c:1; 3.6.16 at b:1")
    ]
    assert remarks({"a:1": "3.7.3", "b:1": None}) == []
    assert remarks({}) == []
