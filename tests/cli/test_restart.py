"""Whether a service can be restarted now: what `tideover doctor` makes of snapshots and of members' answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import mock_backend as anyio_backend
from tests.test_encryption import new_key
from tideover import Encryption
from tideover.cli.app import run
from tideover.cli.findings import Finding
from tideover.cli.restart import Cluster, judge_restart
from tideover.clock import Clock
from tideover.options import Options
from tideover.prefixes.snapshots.snapshot import Snapshot
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.types import Entry

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HERE = Options(("10.0.0.1:2379", "10.0.0.2:2379"), "/shop")
UP = Cluster(frozenset({7}), has_quorum=True, refuses=False)
DOWN = Cluster(frozenset(), has_quorum=False, refuses=False)


def leave(
    folder: Path,
    *keys: str,
    age: float = 42,
    cluster: int = 7,
    options: Options = HERE,
    encryption: Encryption | None = None,
) -> Path:
    """Leave a snapshot of all configuration, as a service does."""
    prefix = options.base.encode()
    file = SnapshotFile(
        folder, SnapshotOwner(options.namespace, options.endpoints), prefix=prefix, encryption=encryption
    )
    clock = Clock()
    entries = {prefix + key.encode(): Entry(b"1", 1, 1) for key in keys}
    made = Snapshot(
        prefix,
        cluster,
        0,
        2,
        9,
        clock.stamp(ago=age),
        clock.stamp(),
        entries,
        endpoints=tuple(sorted(options.endpoints)),
    )
    assert file.save(made)
    return file.path


async def judged(
    folder: Path, cluster: Cluster, *, in_etcd: int | None = None, max_age: float | None = None
) -> tuple[list[Finding], Finding]:
    """Return what is found of snapshots, and the last line."""

    async def count(prefix: bytes) -> int | None:
        return in_etcd

    *found, last = await judge_restart(HERE, folder, cluster, count, max_age=max_age)
    assert last.what == "restart"
    return found, last


async def test_etcd_answers_and_the_disk_knows_all(tmp_path: Path) -> None:
    """Yes; and the line says what a start without etcd would know, and how old that is."""
    leave(tmp_path, "a", "b")
    found, last = await judged(tmp_path, UP, in_etcd=2)
    assert found == [Finding("snapshot", True, "/shop/config/  2 keys  42 s old  revision 9")]
    assert (last.ok, last.text) == (
        True,
        "yes: etcd answers; on disk for a start without it: 2 keys of /shop/config/ (42 s old)",
    )


async def test_etcd_is_away_and_the_disk_knows(tmp_path: Path) -> None:
    """Yes, with what it begins with, and what it cannot do."""
    leave(tmp_path, "a")
    _, last = await judged(tmp_path, DOWN)
    assert last.ok is True
    assert last.text.startswith(
        "yes, without etcd, unless the service has require='etcd': it begins with 1 key of"
    )
    assert "no leader is elected" in last.text


async def test_etcd_is_away_and_nothing_is_there(tmp_path: Path) -> None:
    """No; snapshots of other endpoints do not count, and are pointed out."""
    leave(tmp_path, "a", options=Options(("10.0.0.9:2379",), "/shop"))
    found, last = await judged(tmp_path, DOWN)
    assert (last.ok, found[0].ok) == (False, None)
    assert last.text.startswith("no: etcd is away, and a service begins with no configuration: there is no")
    assert "of others there are 1" in found[0].text


async def test_nothing_on_disk_is_no_reason_while_etcd_answers(tmp_path: Path) -> None:
    """A start reads etcd; the line says that it would know nothing without it."""
    found, last = await judged(tmp_path / "none", UP)
    assert ([each.ok for each in found], last.ok) == ([None], True)
    assert "on disk for a start without it: nothing, because there is no" in last.text


async def test_a_snapshot_that_is_too_old_does_not_count(tmp_path: Path) -> None:
    """Older than --max-age is bad, and no answer for a start without etcd."""
    leave(tmp_path, "a", age=3600)
    found, last = await judged(tmp_path, DOWN, max_age=600)
    assert ([each.ok for each in found], last.ok) == ([False], False)
    assert last.text.endswith("all is older than 10 min 0 s")
    assert (await judged(tmp_path, DOWN, max_age=7200))[1].ok is True


async def test_what_people_should_judge(tmp_path: Path) -> None:
    """Fewer keys than etcd has, and content that nobody keeps up to date, are neither good nor bad."""
    leave(tmp_path, "a", age=3600)
    found, _ = await judged(tmp_path, UP, in_etcd=3)
    assert found[0].ok is None
    assert "etcd has 3, and what is excluded or has just changed is not on disk" in found[0].text
    assert "no service that runs here keeps it up to date" in found[0].text


async def test_another_clusters_snapshot_is_bad(tmp_path: Path) -> None:
    """A service that starts without etcd would begin with another cluster's values."""
    leave(tmp_path, "a", cluster=8)
    found, _ = await judged(tmp_path, UP)
    assert (found[0].ok, found[0].text.endswith(": of cluster 8, and this is 7")) == (False, True)


async def test_a_damaged_snapshot_is_bad_and_the_one_before_it_counts(tmp_path: Path) -> None:
    """As at the start of a service: the previous generation is used, and the damage is told."""
    leave(tmp_path, "a").write_text("{")
    found, last = await judged(tmp_path, DOWN)
    assert ([each.ok for each in found], last.ok) == ([False, None], False)
    path = leave(tmp_path, "a")
    path.rename(path.with_name(path.name.replace(".json", ".prev.json")))
    path.write_text("{")
    found, last = await judged(tmp_path, DOWN)
    assert ([each.ok for each in found], last.ok) == ([False, True], True)


async def test_what_a_service_does_not_use_is_no_reason(tmp_path: Path) -> None:
    """A copy from other endpoints under the service's name is BAD, and there is nothing to begin with."""
    path, elsewhere = leave(tmp_path, "a"), Options(("10.0.0.9:2379",), "/shop")
    path.write_bytes(leave(tmp_path / "b", "a", options=elsewhere).read_bytes())
    found, last = await judged(tmp_path, DOWN)
    assert ([each.ok for each in found], last.ok) == ([False, None], False)
    assert "is of the cluster at 10.0.0.9:2379, not of" in found[0].text
    assert "there is no snapshot that can be used for these endpoints" in last.text


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        (
            Cluster(frozenset({7, 8}), has_quorum=True, refuses=False),
            "no: the endpoints belong to several clusters",
        ),
        (Cluster(frozenset({7}), has_quorum=False, refuses=True), "no: etcd refuses this client"),
    ],
)
async def test_definite_reasons_come_first(tmp_path: Path, cluster: Cluster, said: str) -> None:
    """Whatever is on disk: two clusters and a refusal are no outage."""
    leave(tmp_path, "a")
    assert (await judged(tmp_path, cluster))[1] == Finding("restart", False, said)


def test_the_last_line_is_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the command, too, in words and in JSON; the exit code is still etcd's."""
    options = ["doctor", "-e", "127.0.0.1:1", "-n", "/shop", "--cache-dir", str(tmp_path)]
    leave(tmp_path, "a", options=Options(("127.0.0.1:1",), "/shop"))
    assert run(options) == 4
    assert capsys.readouterr().out.splitlines()[-1].startswith("ok    restart     yes, without etcd")
    assert run([*options, "--json"]) == 4
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["what"], last["ok"]) == ("restart", True)


def test_a_service_with_keys_does_not_begin_with_a_plain_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the keys of the service the answer is no; and a sealed file is none without its key."""
    options = ["doctor", "-e", "127.0.0.1:1", "-n", "/shop", "--cache-dir", str(tmp_path)]
    here = Options(("127.0.0.1:1",), "/shop")
    leave(tmp_path, "a", options=here)
    monkeypatch.setenv("TIDEOVER_SNAPSHOT_KEYS", key := new_key())
    run(options)
    out = capsys.readouterr().out
    assert "is not encrypted, and only encrypted ones are used" in out
    assert out.splitlines()[-1].startswith("BAD   restart     no: etcd is away")
    leave(tmp_path, "a", options=here, encryption=Encryption(key))
    run(options)
    assert capsys.readouterr().out.splitlines()[-1].startswith("ok    restart     yes, without etcd")
    monkeypatch.delenv("TIDEOVER_SNAPSHOT_KEYS")
    run(options)
    assert capsys.readouterr().out.splitlines()[-1].startswith("BAD   restart     no: etcd is away")
