"""`tideover config get|list|tree --from-disk`: what services have last known, whose it is, and how old."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tideover.cli.app import run
from tideover.clock import Clock
from tideover.prefixes.snapshots.snapshot import Snapshot
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.types import Entry

HERE, THERE = "127.0.0.1:1", "127.0.0.1:2"
Tideover = Callable[..., tuple[int, bytes, list[str]]]


def leave(
    folder: Path,
    entries: dict[str, bytes],
    *,
    prefix: str = "",
    endpoint: str = HERE,
    revision: int = 9,
    age: float | None = 42,
    user: str = "",
) -> Path:
    """Leave a snapshot, as a service does."""
    full = f"/shop/config/{prefix}".encode()
    file = SnapshotFile(folder, SnapshotOwner("/shop", [endpoint], user), prefix=full)
    clock = Clock()
    known = {b"/shop/config/" + key.encode(): Entry(value, 1, 5) for key, value in entries.items()}
    synced_at = None if age is None else clock.stamp(ago=age)
    origin = {"endpoints": tuple(file.owner.endpoints), "user": user}
    made = Snapshot(full, 0xABC, 0, 2, revision, synced_at, clock.stamp(), known, **origin)  # type: ignore[arg-type]
    assert file.save(made)
    return file.path


@pytest.fixture
def tideover(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Tideover:
    """Run `tideover config` on what is in `tmp_path`; the network is not to be touched."""

    def refuse(*args: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("TIDEOVER_ENDPOINTS", raising=False)

    def command(*args: str, endpoint: str = HERE) -> tuple[int, bytes, list[str]]:
        capfdbinary.readouterr()
        where = () if "--from" in args else ("--from-disk", "--cache-dir", str(tmp_path))
        code = run(["config", *args, *where, "-e", endpoint, "-n", "/shop"])
        out, err = capfdbinary.readouterr()
        return code, out, err.decode().splitlines()

    return command


def test_a_value_is_printed_with_its_age(tideover: Tideover, tmp_path: Path) -> None:
    """As it is, byte by byte; stderr says that it is not live, how old and whose; so does the JSON."""
    path = leave(tmp_path, {"rate": b"\x1b[31m\xff"})
    code, out, said = tideover("get", "rate")
    assert (code, out) == (0, b"\x1b[31m\xff\n")
    assert said == [f"tideover: from disk, not live: {path}, 42 s old, cluster abc at {HERE}"]
    code, out, _ = tideover("get", "rate", "--json")
    found = json.loads(out)
    assert found.pop("age") >= 42
    assert found == {
        "key": "rate",
        "etcd_key": "/shop/config/rate",
        "value": {"base64": "G1szMW3/"},
        "present": True,
        "source": "disk",
        "revision": 5,
        "stale": True,
    }


def test_what_is_not_on_disk_is_no_definite_no(tideover: Tideover, tmp_path: Path) -> None:
    """4: a key that is not there may be excluded, or new; a prefix that nobody follows is not known at all."""
    leave(tmp_path, {"pay/rate": b"1"}, prefix="pay/", age=None)
    code, out, said = tideover("get", "pay/secret")
    assert (code, out) == (4, b"")
    assert "of unknown age" in said[0]
    assert said[1].endswith("is not known there: it did not exist, or its service keeps it off the disk")
    code, out, said = tideover("get", "rate")
    assert (code, out, said) == (
        4,
        b"",
        ["tideover: no snapshot there has keys that begin like '/shop/config/rate'"],
    )
    code, out, said = tideover("list", "x")
    assert (code, out) == (4, b"")
    assert tideover("get", "/rate")[0] == 5


def test_another_clusters_snapshot_is_named_and_not_used(tideover: Tideover, tmp_path: Path) -> None:
    """Of other endpoints or users nothing is believed unless a person names the file."""
    path = leave(tmp_path, {"rate": b"2"}, endpoint=THERE)
    leave(tmp_path, {"rate": b"3"}, user="app")
    for command in (["get", "rate"], ["list"], ["tree"]):
        code, out, said = tideover(*command)
        assert (code, out, len(said)) == (4, b"", 3)
        assert any(line.endswith(f", 42 s old: --from {path}") for line in said)
        assert "there is no snapshot of '/shop/config/' for these endpoints" in said[-1]
    code, out, _ = tideover("get", "rate", "--from", str(path))
    assert (code, out) == (0, b"2\n")
    # Nobody is asked for a password either.
    assert tideover("get", "rate", "--user", "app")[:2] == (0, b"3\n")
    code, out, _ = tideover("list", "--from", str(path))
    assert (code, out) == (0, b"REVISION  KEY\n5         rate\n")


def test_the_one_that_tells_most_is_believed(tideover: Tideover, tmp_path: Path) -> None:
    """Of two snapshots that overlap the newer one says what is there, and also what is not there any more."""
    leave(tmp_path, {"pay/rate": b"1", "pay/gone": b"1", "other": b"1"}, revision=7)
    leave(tmp_path, {"pay/rate": b"2"}, prefix="pay/", revision=8)
    assert tideover("get", "pay/rate")[1] == b"2\n"
    assert tideover("get", "pay/gone")[0] == 4
    assert tideover("get", "other")[1] == b"1\n"
    _, out, said = tideover("tree")
    assert out == b"/shop/config/\n  other\n  pay/\n    rate\n"
    assert len(said) == 2


def test_the_previous_generation_is_used_if_the_newest_is_damaged(tideover: Tideover, tmp_path: Path) -> None:
    """As a service does at its start; stderr says so."""
    leave(tmp_path, {"rate": b"1"}, revision=7)
    path = leave(tmp_path, {"rate": b"2"}, revision=8)
    path.write_bytes(path.read_bytes()[:-9])
    code, out, said = tideover("get", "rate")
    assert (code, out) == (0, b"1\n")
    assert f"snapshot {path} is damaged" in said[0]


def test_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without --from-disk, or beside a file, is a mistake; a snapshot of something else is named."""
    path = leave(tmp_path, {"rate": b"1"})
    assert run(["config", "get", "rate", "--cache-dir", str(tmp_path)]) == 2
    assert run(["config", "get", "rate", "--cache-dir", str(tmp_path), "--from", str(path)]) == 2
    assert run(["config", "get", "rate", "--from", str(tmp_path / "none")]) == 2
    assert run(["config", "get", "rate", "--from", str(path), "-n", "/else"]) == 2
    assert capsys.readouterr().err.endswith("is of '/shop/config/', not of '/else/config/'\n")


def test_a_copy_under_the_name_of_the_own_is_not_used(tideover: Tideover, tmp_path: Path) -> None:
    """It is told whose it is, as a service that starts tells; a person may still choose it."""
    path = leave(tmp_path, {"a": b"1"})
    path.write_bytes(leave(tmp_path / "b", {"a": b"2"}, endpoint=THERE).read_bytes())
    code, out, err = tideover("get", "a")
    assert (code, out) == (4, b"")
    assert f"is of the cluster at {THERE}, not of the cluster at {HERE}" in err[0]
    assert "not used: a snapshot of" in err[1]
    assert tideover("get", "a", "--from", str(path))[:2] == (0, b"2\n")
