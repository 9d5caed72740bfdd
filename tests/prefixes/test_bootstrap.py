"""The bootstrap file: read where nobody knows a key, labelled as such, and never in place of an answer."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.canaries import canary
from tests.support import mock_clock, threads_stop_the_clock
from tests.test_encryption import new_key
from tideover import (
    AuthenticationFailed,
    ConfigKeyError,
    Coordinator,
    Encryption,
    NotSynced,
    PermissionDenied,
    Source,
    StalenessLimit,
    TooStale,
    connect,
)
from tideover.options import Options
from tideover.prefixes.followed import at_start
from tideover.store.operations import Put, Range
from tideover.testing import FaultyStore, MemoryStore

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("threads_stop_the_clock")]

__all__ = ["threads_stop_the_clock"]

VALUES = {"payments/timeout": 0.1, "payments/mode": "on", "limits": {"day": 100}, "list": [1, "a"], "none": None}


def write(folder: Path, document: object = VALUES) -> Path:
    """Return a file with a JSON document."""
    path = folder / "bootstrap.json"
    path.write_text(json.dumps(document))
    return path


def process(
    store: MemoryStore | FaultyStore, *, cache_dir: Any = False, namespace: str = "/shop", **options: Any
) -> Coordinator:
    """Return the coordinator of a process."""
    made = Options(tuple(store.members), namespace, cache_dir=cache_dir, **options)
    return Coordinator(made, store=store, clock=mock_clock(), chance=random.Random(7).random)


def away(store: MemoryStore | None = None) -> MemoryStore:
    """Take a cluster down, and return it."""
    store = store or MemoryStore()
    store.down = set(store.members)
    store.touch()
    return store


def back(store: MemoryStore) -> None:
    """Bring it back."""
    store.down = set()
    store.touch()


async def put(store: MemoryStore, **values: str) -> None:
    """Write configuration, as somebody else would."""
    for key, value in values.items():
        await store.call(Put(f"/shop/config/{key}".encode(), value.encode()), member=store.members[0], timeout=1)


async def test_a_first_start_without_etcd(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Values are as `put` would write them; each is from disk, stale and of unknown age, and a line says so."""
    async with process(away(), bootstrap=write(tmp_path), cache_dir=tmp_path / "cache") as tide:
        get = tide.config.get
        assert (get("payments/timeout", float), get("payments/mode")) == (0.1, "on")
        assert (get("limits", dict[str, int]), get("list", list[object])) == ({"day": 100}, [1, "a"])
        assert get("none") == "null"
        reading = tide.config.read("payments/mode")
        assert (reading.present, reading.source, reading.stale, reading.revision) == (True, Source.DISK, True, 0)
        assert reading.age == math.inf
        (prefix,) = tide.status().config
        assert (prefix.source, prefix.age, prefix.keys) == (Source.DISK, math.inf, 5)
        assert {(key.source, key.age) for key in tide.config_keys().keys} == {(Source.DISK, math.inf)}
        assert at_start(tide._parts.followed, tide._parts.options.base).keys() == VALUES.keys()
    assert not list((tmp_path / "cache").glob("config-*")), "and nothing of it becomes a snapshot"
    text = "5 keys served from the bootstrap file, of unknown age"
    assert [text in message for message in caplog.messages if "config.restored" in message] == [True]


async def test_what_is_not_in_the_file_is_unknown(tmp_path: Path) -> None:
    """A key that nobody knows is no definite no, whether it is read, fetched, bound or required."""

    @dataclass
    class Settings:
        timeout: float
        mode: str = "off"

    @dataclass
    class More:
        missing: str

    async with process(away(), bootstrap=write(tmp_path), require="config") as tide:
        with pytest.raises(NotSynced):
            tide.config.get("missing")
        assert tide.config.read("missing", default=1).source is Source.DEFAULT
        assert tide.config.bind(Settings, prefix="payments/").value == Settings(0.1, "on")
        with pytest.raises(NotSynced):
            tide.config.bind(More)
        fetched = await tide.config.fetch("payments/mode")
        assert (fetched.value, fetched.source, fetched.age) == ("on", Source.DISK, math.inf)


async def test_a_class_accepts_nothing_of_the_file_for_good(tmp_path: Path) -> None:
    """Settings that are bound to lent values run on them, and leave nothing of them for the next start."""

    @dataclass
    class Settings:
        timeout: float

    options: dict[str, Any] = {"bootstrap": write(tmp_path), "cache_dir": tmp_path / "cache"}
    async with process(away(), **options) as tide:
        live = tide.config.bind(Settings, prefix="payments/", on_invalid="last_good")
        assert live.value == Settings(0.1)
        await anyio.sleep(60)
    assert not list((tmp_path / "cache").glob("*.json"))


async def test_etcd_has_the_last_word(tmp_path: Path) -> None:
    """Once etcd has answered, its values hold, and what it does not have is absent, also in the next outage."""
    store = MemoryStore()
    await put(store, mode="etcd")
    file = write(tmp_path, {"mode": "file", "only": "file"})
    async with process(away(store), bootstrap=file) as tide:
        assert tide.config.get("only") == "file"
        changes = tide.config.changes()
        back(store)
        await anyio.sleep(60)
        found = [await anext(changes), await anext(changes)]
        assert {(change.key, change.value) for change in found} == {("mode", "etcd"), ("only", None)}
        for outage in (False, True):
            if outage:
                away(store)
                await anyio.sleep(60)
            assert tide.config.get("mode") == "etcd"
            with pytest.raises(ConfigKeyError) as caught:
                tide.config.get("only")
            assert not isinstance(caught.value, NotSynced)


async def test_etcd_that_answers_at_the_start_is_not_covered(tmp_path: Path) -> None:
    """With etcd well nothing of the file is ever seen, and no reset of its history is taken from it."""
    store = MemoryStore()
    await put(store, mode="etcd")
    async with process(store, bootstrap=write(tmp_path, {"mode": "file", "only": "file"})) as tide:
        assert tide.config.read("mode").source is Source.LIVE
        assert tide.config.get("only", default=None) is None
        await anyio.sleep(700)
        assert tide.status().identity.resets == 0


async def test_a_snapshot_has_the_word_before_the_file(tmp_path: Path) -> None:
    """What a snapshot tells holds, absent keys included; of excluded keys it tells nothing, and the file does."""
    store = MemoryStore()
    await put(store, mode="etcd", secret="etcd")
    async with process(store, cache_dir=tmp_path, exclude=("secret",)):
        await anyio.sleep(10)
    file = write(tmp_path, {"mode": "file", "only": "file", "secret": "file"})
    limits = {"secret": StalenessLimit(3600, "raise")}
    options: dict[str, Any] = {"cache_dir": tmp_path, "exclude": ("secret",), "bootstrap": file}
    async with process(away(store), **options) as tide:
        mode, secret = tide.config.read("mode"), tide.config.read("secret")
        assert (mode.value, mode.source) == ("etcd", Source.DISK)
        assert mode.age < 100
        assert (secret.value, secret.source, secret.age) == ("file", Source.DISK, math.inf)
        assert tide.config.get("only", default=None) is None
        with pytest.raises(ConfigKeyError, match="etcd has no"):
            tide.config.get("only")
        with pytest.raises(NotSynced):
            tide.config.get("secret/other")
        back(store)
        await anyio.sleep(60)
        assert (tide.config.get("secret"), tide.status().identity.resets) == ("etcd", 0)
    assert all(b"file" not in path.read_bytes() for path in tmp_path.glob("config-*"))
    async with process(away(store), limits=limits, **options) as tide:
        known = at_start(tide._parts.followed, tide._parts.options.base)
        assert {key: entry.value for key, entry in known.items()} == {
            "mode": b"etcd",
            "secret": b"file",
        }
        with pytest.raises(TooStale):
            tide.config.get("secret")
        assert tide.config.get("mode") == "etcd"


async def test_limits_refuse_an_unknown_age(tmp_path: Path) -> None:
    """Whatever `max_stale` is, a value of unknown age is older."""
    limits = {
        "raise/": StalenessLimit(1e9, "raise"),
        "default/": StalenessLimit(1e9, "default"),
        "serve/": StalenessLimit(1e9, "serve"),
    }
    file = write(tmp_path, {f"{name}a": "file" for name in limits})
    async with process(away(), bootstrap=file, limits=limits) as tide:
        with pytest.raises(TooStale):
            tide.config.get("raise/a")
        assert tide.config.get("default/a", default="mine") == "mine"
        assert tide.config.get("serve/a") == "file"
        assert [limit.over for limit in tide.status().limits] == [True, True, True]


async def test_a_refusal_is_not_covered(tmp_path: Path) -> None:
    """What a quorum does not let this user read is not read from the file instead."""
    store = FaultyStore(MemoryStore())
    store.inject("PERMISSION_DENIED", "etcdserver: permission denied", op=Range, times=1000)
    async with process(store, bootstrap=write(tmp_path)) as tide:
        await anyio.sleep(5)
        for key in ("payments/mode", "missing"):
            with pytest.raises(PermissionDenied):
                tide.config.get(key)


async def test_refused_credentials(tmp_path: Path) -> None:
    """As with a snapshot the file is served, and what is in neither is no default that hides the refusal."""
    store = FaultyStore(MemoryStore())
    why = "etcdserver: authentication failed, invalid user ID or password"
    store.inject("INVALID_ARGUMENT", why, times=1000)
    async with process(store, bootstrap=write(tmp_path)) as tide:
        await anyio.sleep(5)
        assert tide.config.read("payments/mode").source is Source.DISK
        with pytest.raises(AuthenticationFailed):
            tide.config.get("missing", default="mine")


async def test_a_snapshot_of_elsewhere_is_a_bootstrap_file(tmp_path: Path) -> None:
    """A snapshot, sealed or not, of another cluster and with wider or narrower prefix, lends its values."""
    other = MemoryStore()
    other.cluster_id = 99
    await put(other, **{"a/x": "1", "b/x": "2"})
    key = Encryption(new_key())
    for number, encryption in enumerate((None, key)):
        folder = tmp_path / str(number)
        async with process(other, cache_dir=folder, encryption=encryption):
            await anyio.sleep(10)
        (file,) = folder.glob("config-*[0-9a-f].json")
        linked = tmp_path / f"link-{number}.json"
        linked.symlink_to(file)  # as Kubernetes mounts files
        for follow in (("",), ("a/",)):
            async with process(away(), bootstrap=linked, follow=follow, encryption=encryption) as tide:
                reading = tide.config.read("a/x")
                assert (reading.value, reading.age, reading.revision) == ("1", math.inf, 0)
                assert tide.epoch == 0
        with pytest.raises(ValueError, match="it is a snapshot of '/shop/config/', not of '/other/config/'"):
            process(away(), namespace="/other", bootstrap=file, encryption=encryption)
    with pytest.raises(ValueError, match="no keys are given"):
        process(away(), bootstrap=file)


def fifo(path: Path) -> None:
    """Make a FIFO that nobody writes to."""
    os.mkfifo(path)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "cannot be read: No such file"),
    "folder": (Path.mkdir, "cannot be read: "),
    "fifo": (fifo, "it is no regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is no regular file"),
    "huge": (
        lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 1 << 40),
        "more than 67,108,864 bytes",
    ),
    "empty": (lambda path: path.write_text(""), "it is not JSON"),
    "no text": (lambda path: path.write_bytes(b"\xff"), "not UTF-8"),
    "a list": (lambda path: path.write_text("[1]"), "neither a snapshot nor a JSON object by key"),
    "twice": (lambda path: path.write_text('{"a": 1, "a": 2}'), "a name occurs twice"),
    "no number": (lambda path: path.write_text('{"a": NaN}'), "NaN is not a number"),
    "empty key": (lambda path: path.write_text('{"": 1}'), "a key must be non-empty"),
    "slash": (lambda path: path.write_text('{"/shop/config/a": 1}'), "behind '/shop/config/': 'a', not"),
    "damaged": (lambda path: path.write_text('{"header": {}, "entries": {}}'), "is damaged"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_of_no_use_is_one_sentence_at_connect(tmp_path: Path, kind: str) -> None:
    """What is wrong is said before anything is opened, in one line that names the file."""
    path = tmp_path / "bootstrap.json"
    make, why = BAD[kind]
    make(path)
    with pytest.raises(ValueError, match="bootstrap: ") as caught:
        connect("127.0.0.1:1", namespace="/shop", bootstrap=path)
    assert why in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_error_shows_a_value(tmp_path: Path) -> None:
    """A secret in a file that is of no use is not repeated."""
    secret = canary("bootstrap")
    for text in (
        f'{{"a": "{secret}", "a": 1}}',
        f'{{"a": "{secret}"',
        f'{{"a": "{secret}", "": 1}}',
        f'"{secret}"',
    ):
        path = tmp_path / "file"
        path.write_text(text)
        with pytest.raises(ValueError, match="of no use") as caught:
            connect("127.0.0.1:1", bootstrap=str(path))
        assert caught.value.__context__ is None or secret not in repr(caught.value.__context__)


def test_the_option_is_a_path() -> None:
    """Anything else is a `TypeError` that says so."""
    with pytest.raises(TypeError, match="bootstrap must be the path of a file or None"):
        connect("127.0.0.1:1", bootstrap={"a": 1})  # type: ignore[arg-type]
