"""`tideover cache import`, `export`, and what the other commands say of encrypted snapshots."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.canaries import canary
from tests.support import mock_clock, mock_trio, threads_stop_the_clock
from tests.test_encryption import key_file, new_key
from tideover import Coordinator, Encryption, Source, connect
from tideover.cli.app import run
from tideover.clock import Clock
from tideover.discovery.endpoint import Endpoint
from tideover.options import Options
from tideover.prefixes.snapshots.snapshot import Snapshot
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.prefixes.snapshots.snapshot_reading import read
from tideover.store.operations import Put
from tideover.testing import MemoryStore
from tideover.types import Entry

__all__ = ["threads_stop_the_clock"]

A, B = "127.0.0.1:1", "127.0.0.1:2"
SECRET = canary("cached")


@dataclass
class Done:
    """What a command has said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)


@pytest.fixture
def tideover(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a command in this process, without variables of ours."""
    for name in list(os.environ):
        if name.startswith("TIDEOVER_"):
            monkeypatch.delenv(name)

    def call(*args: object) -> Done:
        code = run([str(arg) for arg in args])
        return Done(code, *capsys.readouterr())

    return call


def cached(
    folder: Path,
    endpoint: str = A,
    *,
    revision: int = 7,
    cluster: int = 0xABC,
    ago: float = 61.0,
    encryption: Encryption | None = None,
    value: str = "0.1",
) -> SnapshotFile:
    """Leave a snapshot as a service does, and return its file."""
    file = SnapshotFile(folder, SnapshotOwner("/shop", [endpoint]), prefix=b"/shop/config/", encryption=encryption)
    clock = Clock()
    entries = {
        b"/shop/config/payments/timeout": Entry(value.encode(), 5, revision),
        b"/shop/config/mode": Entry(b"on", 3, 3),
    }
    snapshot = Snapshot(
        b"/shop/config/", cluster, 0, 2, revision, clock.stamp(ago), clock.stamp(), entries, endpoints=(endpoint,)
    )
    assert file.save(snapshot)
    return file


def config_of(folder: Path, endpoint: str = A, encryption: Encryption | None = None) -> Snapshot:
    """Return what a service finds in a folder."""
    owner = SnapshotOwner("/shop", [endpoint])
    loaded = SnapshotFile(folder, owner, prefix=b"/shop/config/", encryption=encryption).load()
    assert loaded is not None
    assert loaded.snapshot is not None
    return loaded.snapshot


def for_shop(folder: Path, endpoint: str = A) -> list[str]:
    """Return the options that name a service's folder."""
    return ["-e", endpoint, "-n", "/shop", "--cache-dir", str(folder)]


def test_a_snapshot_goes_to_another_machine(tideover: Any, tmp_path: Path) -> None:
    """For the same endpoints it is the same snapshot there, with cluster, revision and age."""
    file = cached(tmp_path / "a")
    done = tideover("cache", "import", file.path, *for_shop(tmp_path / "b"))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"imported for {A}: 2 keys of /shop/config/, revision 7, 1 min ")
    there, here = config_of(tmp_path / "b"), config_of(tmp_path / "a")
    assert (there.cluster_id, there.revision, there.synced_at) == (here.cluster_id, here.revision, here.synced_at)
    assert there.entries == here.entries
    (path,) = (tmp_path / "b").glob("*.json")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_snapshot_of_another_cluster_lends_its_values(tideover: Any, tmp_path: Path) -> None:
    """Neither its revision nor its age count where it does not come from, and that is said."""
    file = cached(tmp_path / "a", A)
    done = tideover("cache", "import", file.path, *for_shop(tmp_path / "b", B), "--json")
    record = done.json
    assert (record["written"], record["keys"], record["cluster"], record["age"]) == (True, 2, None, None)
    assert f"was written for {A}: its age does not count" in done.err
    found = config_of(tmp_path / "b", B)
    assert (found.cluster_id, found.epoch, found.revision, found.synced_at) == (0, 0, 0, None)
    assert {key: entry.value for key, entry in found.entries.items()} == {
        b"/shop/config/payments/timeout": b"0.1",
        b"/shop/config/mode": b"on",
    }


def test_a_newer_one_is_not_replaced_unasked(tideover: Any, tmp_path: Path) -> None:
    """An older snapshot, and JSON over anything, changes nothing and is 1, without --overwrite."""
    old = cached(tmp_path / "old", revision=6, value="old")
    plain = tmp_path / "plain.json"
    plain.write_text('{"mode": "plain"}')
    here = tmp_path / "here"
    kept = cached(here, revision=9, value="new")
    before = kept.path.read_bytes()
    for file in (old.path, plain):
        done = tideover("cache", "import", file, *for_shop(here))
        assert (done.code, kept.path.read_bytes()) == (1, before)
        assert done.out.startswith(f"not imported, {kept.path} has 2 keys of /shop/config/, revision 9, 1 min ")
    done = tideover("cache", "import", plain, *for_shop(here), "--overwrite")
    assert (done.code, done.out) == (
        0,
        f"imported for {A}: 1 key of /shop/config/, of unknown age: {kept.path}\n",
    )
    assert [entry.value for entry in config_of(here).entries.values()] == [b"plain"]
    assert kept.previous_path.read_bytes() == before, "and what was there is the generation before"
    assert tideover("cache", "import", old.path, *for_shop(here)).code == 0, "of etcd, which plain values are not"
    assert config_of(here).revision == 6


def test_json_by_key(tideover: Any, tmp_path: Path) -> None:
    """Values are as `put` would write them, for each prefix that the service follows."""
    file = tmp_path / "plain.json"
    file.write_text(json.dumps({"payments/timeout": 0.1, "payments/limits": {"day": 1}, "other": True}))
    assert tideover("cache", "import", file, *for_shop(tmp_path / "all")).code == 0
    assert config_of(tmp_path / "all").entries[b"/shop/config/payments/limits"].value == b'{"day": 1}'
    follow = ["--follow", "payments/", "--follow", "other"]
    done = tideover("cache", "import", file, *for_shop(tmp_path / "some"), *follow)
    assert (done.code, len(done.out.splitlines())) == (0, 2)
    options = Options((A,), "/shop", ("payments/",), cache_dir=tmp_path / "some")
    prefix = f"{options.base}payments/".encode()
    loaded = SnapshotFile(tmp_path / "some", SnapshotOwner("/shop", [A]), prefix=prefix).load()
    assert loaded is not None
    assert loaded.snapshot is not None
    assert len(loaded.snapshot.entries) == 2


@pytest.mark.parametrize(
    ("content", "options", "code", "text"),
    [
        ("{", [], 1, "cannot be used: it is not JSON"),
        ("[]", [], 1, "neither a snapshot nor a JSON object by key"),
        ('{"/shop/config/a": 1}', [], 1, "a key begins behind '/shop/config/'"),
        ('{"header": {}, "entries": {}}', [], 1, "is damaged"),
        ("{}", ["-e", "etcd"], 2, "need host:port"),
        ("{}", ["--follow", "/a"], 1, "follow: a prefix begins behind '/shop/config/'"),
        ("{}", ["--keys-file", "/no/such"], 1, "the key file cannot be read"),
        ("{}", ["--cache-dir", "/proc/1/nowhere"], 1, "cannot be written"),
    ],
)
def test_what_cannot_be_imported(
    tideover: Any, tmp_path: Path, content: str, options: list[str], code: int, text: str
) -> None:
    """One line says why, and nothing is written."""
    file = tmp_path / "file"
    file.write_text(content)
    done = tideover("cache", "import", file, *for_shop(tmp_path / "cache"), *options)
    assert (done.code, done.out) == (code, "")
    assert text in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").glob("*.json"))


def test_a_snapshot_of_something_else(tideover: Any, tmp_path: Path) -> None:
    """One of another namespace, or of less than the service follows, would be a lie about the rest."""
    file = cached(tmp_path / "a")
    done = tideover("cache", "import", file.path, "-e", A, "-n", "/other", "--cache-dir", tmp_path / "b")
    assert done.code == 2
    assert "is of '/shop/config/', which is not all of '/other/config/'" in done.err
    narrow = tideover("cache", "import", file.path, *for_shop(tmp_path / "b"), "--follow", "payments/")
    assert narrow.code == 0
    (path,) = (tmp_path / "b").glob("*.json")
    done = tideover("cache", "import", path, *for_shop(tmp_path / "c"))
    assert (done.code, "is not all of '/shop/config/'" in done.err) == (2, True)


def test_a_services_snapshot(tideover: Any, tmp_path: Path) -> None:
    """It goes where `discover` looks for it."""
    prefix = b"/shop/services/api/"
    options: dict[str, Any] = {"owner": SnapshotOwner("/shop", [A]), "prefix": prefix, "component": "discovery"}
    endpoint, clock = Endpoint("http://10.0.0.7:1", service="api", instance="i", incarnation="c"), Clock()
    entries = {b"/shop/" + endpoint.key.encode(): Entry(endpoint.encode(), 1, 1)}
    file = SnapshotFile(tmp_path / "a", **options)
    file.save(Snapshot(prefix, 7, 0, 1, 3, None, clock.stamp(), entries, endpoints=(A,)))
    assert tideover("cache", "import", file.path, *for_shop(tmp_path / "b")).code == 0
    loaded = SnapshotFile(tmp_path / "b", **options).load()
    assert loaded is not None
    assert loaded.snapshot is not None
    assert loaded.snapshot.entries == entries


def test_encrypted_snapshots_travel(tideover: Any, tmp_path: Path) -> None:
    """With keys what is imported is encrypted; without, nothing is written beside what is."""
    old, new = new_key(), new_key()
    file = cached(tmp_path / "a", encryption=Encryption(old), value=SECRET)
    both, alone = key_file(tmp_path, new, old), tmp_path / "alone"
    alone.write_text(new)
    alone.chmod(0o600)
    here = for_shop(tmp_path / "b")
    done = tideover("cache", "import", file.path, *here, "--keys-file", alone)
    assert (done.code, "and the keys here are" in done.err) == (1, True)
    assert tideover("cache", "import", file.path, *here, "--keys-file", both).code == 0
    assert config_of(tmp_path / "b", encryption=Encryption(new)).revision == 7
    plain = cached(tmp_path / "c", revision=90)
    for more in ([], ["--overwrite"]):
        done = tideover("cache", "import", plain.path, *here, *more)
        assert (done.code, done.out) == (1, "")
        assert "give its keys with --keys-file, or take the file away" in done.err
    assert tideover("cache", "import", plain.path, *here, "--keys-file", both).code == 0
    assert config_of(tmp_path / "b", encryption=Encryption(new)).revision == 90


def test_what_was_put_aside_comes_back(tideover: Any, tmp_path: Path) -> None:
    """A file that was put aside for want of its key is imported with it, and nothing is lost on the way."""
    key = new_key()
    file = cached(tmp_path / "a", encryption=Encryption(key))
    wrong = cached(tmp_path / "a", encryption=Encryption(new_key()), revision=3)
    (aside,) = wrong.aside
    keys = key_file(tmp_path, key)
    done = tideover("cache", "import", aside.path, *for_shop(tmp_path / "a"), "--keys-file", keys)
    assert done.code == 0
    assert f"{file.path} is kept as {file.path}.aside-2" in done.err
    assert config_of(tmp_path / "a", encryption=Encryption(key)).revision == 7


def test_show_and_verify_know_keys(tideover: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the key they say what the file says itself; with it, what is in it; what is put aside is shown."""
    key = new_key()
    name = Encryption(key).ring().names[0]
    folder = tmp_path / "a"
    file = cached(folder, encryption=Encryption(key), value=SECRET)
    done = tideover("cache", "show", folder)
    assert (done.code, done.out) == (
        0,
        "SEALED   current   /shop/  revision 7  cluster abc  "
        f"it is encrypted with key {name}, and no keys are given  {file.path.name}\n",
    )
    done = tideover("cache", "verify", folder)
    assert (done.code, done.out.splitlines()[-1]) == (1, f"0 whole, 0 damaged, 1 that no key opens in {folder}")
    monkeypatch.setenv("TIDEOVER_SNAPSHOT_KEYS", key)
    done = tideover("cache", "show", folder)
    assert done.out.startswith("whole    current   /shop/config/  revision 7  2 keys  ")
    assert f"  key {name}  " in done.out
    assert tideover("cache", "verify", folder).out == f"1 whole, 0 damaged in {folder}\n"
    file.path.write_bytes(file.path.read_bytes().replace(b'"revision":7', b'"revision":8'))
    done = tideover("cache", "show", "--json", folder)
    assert (done.code, done.json["whole"], done.json["opened"], done.json["sealed"]) == (1, False, True, name)
    assert "it was altered" in done.json["problem"]
    cached(folder, encryption=Encryption(key), revision=9)
    done = tideover("cache", "verify", folder)
    assert (done.code, done.out) == (0, f"1 whole, 0 damaged in {folder}\n")
    done = tideover("cache", "show", folder)
    assert [line.split()[:2] for line in done.out.splitlines()] == [["whole", "current"], ["DAMAGED", "aside"]]
    monkeypatch.setenv("TIDEOVER_SNAPSHOT_KEYS_FILE", "/x")
    assert "both TIDEOVER_SNAPSHOT_KEYS and a file of keys" in tideover("cache", "show", folder).err


def test_export_has_values_only_if_asked(tideover: Any, tmp_path: Path) -> None:
    """Keys, revisions and age are printed; values, escaped, with --values alone."""
    file = cached(tmp_path, value="\x1b[31mred")
    done = tideover("cache", "export", file.path)
    heading, mode, timeout = done.out.splitlines()
    assert heading.startswith("/shop/config/  revision 7, 1 min ")
    assert heading.endswith(f" old  2 keys  cluster abc at {A}")
    assert (mode, timeout) == ("/shop/config/mode  revision 3", "/shop/config/payments/timeout  revision 7")
    assert tideover("cache", "export", *for_shop(tmp_path)).out.splitlines()[1:] == [mode, timeout]
    done = tideover("cache", "export", file.path, "--values")
    assert done.out.splitlines()[1:] == [f"{mode} = on", f"{timeout} = \\x1b[31mred"]
    record = tideover("cache", "export", file.path, "--json").json
    assert (record["revision"], record["cluster"], record["endpoints"]) == (7, "abc", [A])
    assert record["keys"] == [
        {"key": "/shop/config/mode", "revision": 3, "create_revision": 3, "bytes": 2},
        {"key": "/shop/config/payments/timeout", "revision": 7, "create_revision": 5, "bytes": 8},
    ]


@pytest.mark.parametrize("value", ["0.1", "Größe \x1b\u2028", "x" * 5000, '{"a": [1]}'])
def test_what_is_exported_is_imported(tideover: Any, tmp_path: Path, value: str) -> None:
    """`export --values --json` is all there is, whatever the values are; import and bootstrap take it."""
    key = key_file(tmp_path, new_key())
    file = cached(tmp_path / "a", encryption=Encryption(key), value=value)
    done = tideover("cache", "export", file.path, "--values", "--json", "--keys-file", key)
    assert (done.code, done.out.isascii(), len(done.out.splitlines())) == (0, True, 1)
    exported = tmp_path / "exported.json"
    exported.write_text(done.out)
    assert read(exported) == config_of(tmp_path / "a", encryption=Encryption(key))
    assert tideover("cache", "import", exported, *for_shop(tmp_path / "b")).code == 0
    assert config_of(tmp_path / "b").entries == config_of(tmp_path / "a", encryption=Encryption(key)).entries
    assert connect(A, namespace="/shop", bootstrap=exported) is not None


def test_export_without_a_snapshot(tideover: Any, tmp_path: Path) -> None:
    """What is not there, or cannot be opened, is one line and 1."""
    done = tideover("cache", "export", *for_shop(tmp_path))
    assert (done.code, done.out) == (1, "")
    assert "has no snapshot of '/shop/config/' for these endpoints, this namespace and user" in done.err
    file = cached(tmp_path, encryption=Encryption(new_key()))
    for which in ([str(file.path)], for_shop(tmp_path)):
        done = tideover("cache", "export", *which)
        assert (done.code, "no keys are given" in done.err) == (1, True)


def process(store: MemoryStore, folder: Path) -> Coordinator:
    """Return the coordinator of a service."""
    options = Options(tuple(store.members), "/shop", cache_dir=folder)
    return Coordinator(options, store=store, clock=mock_clock(), chance=random.Random(7).random)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [mock_trio()], ids=["trio"])
@pytest.mark.usefixtures("threads_stop_the_clock")
async def test_a_service_starts_from_what_was_imported(
    tideover: Any, tmp_path: Path, anyio_backend: object
) -> None:
    """Imported values are of unknown age; etcd's first word replaces them, and no epoch is raised."""
    store = MemoryStore()
    await store.call(Put(b"/shop/config/mode", b"etcd"), member=store.members[0], timeout=1)
    plain = tmp_path / "plain.json"
    plain.write_text('{"mode": "imported", "only": "imported"}')
    where = [word for member in store.members for word in ("-e", member)]
    folder = tmp_path / "cache"
    assert tideover("cache", "import", plain, *where, "-n", "/shop", "--cache-dir", folder).code == 0
    store.down = set(store.members)
    store.touch()
    async with process(store, folder) as tide:
        reading = tide.config.read("mode")
        assert (reading.value, reading.source, reading.age) == ("imported", Source.DISK, float("inf"))
        store.down = set()
        store.touch()
        await anyio.sleep(60)
        assert tide.config.get("mode") == "etcd"
        assert tide.config.get("only", default=None) is None
        assert (tide.status().identity.resets, tide.epoch) == (0, 1)
    store.down = set(store.members)
    async with process(store, folder) as tide:
        assert tide.config.get("mode") == "etcd"
        assert tide.config.read("mode").age < 1000
