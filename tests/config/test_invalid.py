"""Settings objects whose newest values are refused at the start: what is served instead, and for how long."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from tests.support import connected, mock_clock, request
from tests.test_encryption import new_key
from tideover import ConfigKeyError, ConfigValueError, Encryption, InvalidValue, NotSynced
from tideover.coordinator.coordinator import Coordinator
from tideover.options import Options
from tideover.prefixes.snapshots.snapshot_reading import read
from tideover.testing import MemoryStore, overriding
from tideover.types import HealthState, Source

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("threads_stop_the_clock")]


@dataclass(frozen=True)
class Pool:
    """Settings with a check of their own."""

    size: int = 10
    timeout: float = 2.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.size < 1:
            raise InvalidValue("size must be at least 1")


@dataclass(frozen=True)
class Login:
    """Settings that need a key, one of which is a secret."""

    host: str
    password: str = "none"
    port: int = 5432


@asynccontextmanager
async def started(store: MemoryStore, folder: Path | Literal[False], **options: Any) -> AsyncIterator[Coordinator]:
    """Run a coordinator with snapshots, as a process of its own would."""
    made = Options(endpoints=tuple(store.members), cache_dir=folder, **options)
    async with Coordinator(made, store=store, clock=mock_clock(), chance=random.Random(7).random) as tide:
        yield tide


async def kept(folder: Path, count: int = 1) -> None:
    """Wait until so many classes' accepted values are on disk."""
    with anyio.fail_after(5):
        while len(list(folder.glob("accepted-*.json"))) < count:
            await anyio.sleep(0.05)


async def refused_later(store: MemoryStore, folder: Path, good: dict[str, object], bad: dict[str, object]) -> None:
    """Let a process accept some values of `Pool`, and write ones that it refuses."""
    async with started(store, folder) as tide:
        for key, value in good.items():
            await tide.config.put(key, value)
        live = tide.config.bind(Pool, prefix="pool/", on_invalid="last_good")
        assert live.rejection is None
        for key, value in bad.items():
            await tide.config.put(key, value)
        assert live.rejection is not None


# Last good -----------------------------------------------------------------------------------------------------


async def test_a_start_runs_on_what_was_accepted(tmp_path: Path) -> None:
    """Start after start runs on the last accepted values and says so; a good value mends it without a restart."""
    store = MemoryStore()
    await refused_later(store, tmp_path, {"pool/size": 4, "pool/timeout": 0.5}, {"pool/size": "many"})
    for _ in range(3):
        async with started(store, tmp_path) as tide:
            live = tide.config.bind(Pool, prefix="pool/", on_invalid="last_good")
            assert live.value == Pool(4, 0.5)
            assert isinstance(live.rejection, ConfigValueError)
            (value, bound) = tide.status().rejected
            assert (value.key, bound.key, bound.instead) == ("pool/size", "pool/", "accepted")
            assert bound.served == live.revision < bound.revision
            (note,) = [note for note in tide.status().notes if note.name == "pool/"]
            assert "what its class has accepted before is served" in note.text.text
    async with started(store, tmp_path) as tide:
        live = tide.config.bind(Pool, prefix="pool/", on_invalid="last_good")
        await tide.config.put("pool/size", -1)
        assert live.value == Pool(4, 0.5)
        await tide.config.put("pool/size", 7)
        assert (live.value, live.rejection, tide.status().rejected) == (Pool(7, 0.5), None, ())
    async with started(store, tmp_path) as tide:
        await tide.config.put("pool/size", 0)
        assert tide.config.bind(Pool, prefix="pool/", on_invalid="last_good").value == Pool(7, 0.5)


async def test_the_event_names_no_value(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A start on accepted values is one line of the log, with class, prefix and revision."""
    store = MemoryStore()
    await refused_later(store, tmp_path, {"pool/size": 41_753}, {"pool/size": "many"})
    caplog.clear()
    async with started(store, tmp_path) as tide:
        live = tide.config.bind(Pool, prefix="pool/", on_invalid="last_good")
        (line,) = [text for text in caplog.messages if text.startswith("tideover.config.stood_in")]
        assert "Pool at '/config/pool/'" in line
        assert f"the values of revision {live.revision}" in line
        assert "41753" not in caplog.text


async def test_an_outage_begins_with_what_was_accepted(tmp_path: Path) -> None:
    """With etcd away the refused value is on disk too; the accepted one beside it is used, and is degraded."""
    store = MemoryStore()
    await refused_later(store, tmp_path, {"pool/size": 4}, {"pool/size": "many"})
    store.down = set(store.members)
    async with started(store, tmp_path) as tide:
        live = tide.config.bind(Pool, prefix="pool/", on_invalid="last_good")
        assert live.value.size == 4
        with request() as record:
            _ = live.value
        assert record.marks["config"].source is Source.DISK


async def test_an_outage_without_the_newest_values(tmp_path: Path) -> None:
    """Where the newest values are lost, what was accepted is used; it is not, where nothing was."""
    store = MemoryStore()
    async with started(store, tmp_path) as tide:
        await tide.config.put("db/host", "a")
        tide.config.bind(Login, prefix="db/", on_invalid="last_good")
    for path in tmp_path.glob("config-*.json"):
        path.unlink()
    store.down = set(store.members)
    async with started(store, tmp_path) as tide:
        live = tide.config.bind(Login, prefix="db/", on_invalid="last_good")
        assert live.value == Login("a")
        assert isinstance(live.rejection, NotSynced)
        with pytest.raises(NotSynced):
            tide.config.bind(Login, prefix="other/", on_invalid="last_good")
        store.down = set()
        store.touch()
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(1)
        assert live.rejection is None


async def test_a_deleted_key_is_as_accepted(tmp_path: Path) -> None:
    """A needed key that was deleted, alone or with all others, leaves what was accepted."""
    store = MemoryStore()
    async with started(store, tmp_path) as tide:
        await tide.config.put("db/host", "a")
        await tide.config.put("db/port", 1)
        tide.config.bind(Login, prefix="db/", on_invalid="last_good")
        await tide.config.delete("db/host")
    async with started(store, tmp_path) as tide:
        live = tide.config.bind(Login, prefix="db/", on_invalid="last_good")
        assert live.value == Login("a", port=1)
        assert "which Login needs" in str(live.rejection)
        assert not live.unfound
        await tide.config.delete("db/port")
        assert live.value == Login("a", port=1)
        await tide.config.put("db/host", "b")
        assert (live.value, live.rejection) == (Login("b"), None)
        await tide.config.put("db/port", "x")
    async with started(store, tmp_path) as tide:
        # That there was no port is part of what was accepted.
        assert tide.config.bind(Login, prefix="db/", on_invalid="last_good").value == Login("b")


async def test_without_anything_accepted_it_raises(tmp_path: Path) -> None:
    """As with "raise", and the error's note says why there is nothing: never accepted, or cache_dir=False."""
    store = MemoryStore()
    for folder, why in ((tmp_path, "no value has been accepted before"), (False, "outlives its process")):
        async with started(store, folder) as tide:  # type: ignore[arg-type] # a Path or False
            await tide.config.put("pool/size", "many")
            with pytest.raises(ConfigValueError) as caught:
                tide.config.bind(Pool, prefix="pool/", on_invalid="last_good")
            assert why in caught.value.__notes__[0]
            await tide.config.put("pool/size", 3)
            live = tide.config.bind(Pool, prefix="pool/", on_invalid="last_good")
            await tide.config.put("pool/size", 0)
            # Within the process memory has it.
            assert tide.config.bind(Pool, prefix="pool/", on_invalid="last_good").value == live.value == Pool(3)


async def test_accepted_values_must_pass_again(tmp_path: Path) -> None:
    """What is refused now, by a stricter check, is not served; the error is that of the newest value."""
    store = MemoryStore()
    await refused_later(store, tmp_path, {"pool/size": 40}, {"pool/size": "many"})

    def small(pool: Pool) -> None:
        if pool.size > 30:
            raise InvalidValue("too large")

    async with started(store, tmp_path) as tide:
        with pytest.raises(ConfigValueError, match=r"pool/size.*int") as caught:
            tide.config.bind(Pool, prefix="pool/", validate=small, on_invalid="last_good")
        assert "refused now: 'pool/': too large" in caught.value.__notes__[0]


async def test_accepted_is_per_class_and_prefix(tmp_path: Path) -> None:
    """Neither another class at the prefix nor the class at another prefix begins with it."""

    @dataclass
    class Other:
        size: int = 1

    store = MemoryStore()
    await refused_later(store, tmp_path, {"pool/size": 4}, {"pool/size": "many", "pond/size": "many"})
    async with started(store, tmp_path) as tide:
        for form, prefix in ((Other, "pool/"), (Pool, "pond/")):
            with pytest.raises(ConfigValueError):
                tide.config.bind(form, prefix=prefix, on_invalid="last_good")


def version(**fields: tuple[object, object]) -> Any:
    """Return a version of one and the same class of a service, with fields of these types and defaults."""
    of = [(name, form, default) for name, (form, default) in fields.items()]
    return make_dataclass("Settings", of, namespace={"__module__": "shop"})


async def test_more_versions_of_a_class_than_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of versions that accept at the same moment four are written, and nothing fails."""
    store = MemoryStore(values={"shop/size": 4})
    versions = [version(size=(int, 1), **{f"mode{at}": (str, "")}) for at in range(8)]
    async with started(store, tmp_path) as tide:
        lives = [tide.config.bind(each, prefix="shop/", on_invalid="last_good") for each in versions]
        await kept(tmp_path, 4)
        await tide.config.put("shop/size", "many")
        assert [live.value.size for live in lives] == [4] * 8
    async with started(store, tmp_path) as tide:
        assert tide.config.bind(versions[0], prefix="shop/", on_invalid="last_good").value.size == 4
    assert len(list(tmp_path.glob("accepted-*[0-9a-f].json"))) == 4
    assert "tideover.task.failed" not in caplog.text


async def test_two_versions_of_a_class_side_by_side(tmp_path: Path) -> None:
    """Each keeps what it has accepted itself; one that has accepted nothing yet begins with the other's."""
    old, new = version(size=(int, 1)), version(size=(int, 1), mode=(Literal["fast", "safe"], "safe"))
    store = MemoryStore()
    async with started(store, tmp_path) as tide:
        await tide.config.put("shop/size", 4)
        tide.config.bind(old, prefix="shop/", on_invalid="last_good")
        await tide.config.put("shop/size", "many")
        await tide.config.put("shop/mode", "fast")
    async with started(store, tmp_path) as tide:
        # What the earlier version did not know is taken from the newest values.
        assert tide.config.bind(new, prefix="shop/", on_invalid="last_good").value == new(4, "fast")
        await tide.config.put("shop/size", 5)
        both = [tide.config.bind(form, prefix="shop/", on_invalid="last_good") for form in (old, new)]
        await tide.config.put("shop/mode", "unknown")
        await tide.config.put("shop/size", 6)
        assert [live.value for live in both] == [old(6), new(5, "fast")]
        await tide.config.put("shop/size", "many")
    async with started(store, tmp_path) as tide:
        both = [tide.config.bind(form, prefix="shop/", on_invalid="last_good") for form in (old, new)]
        assert [live.value for live in both] == [old(6), new(5, "fast")]


async def test_the_files_of_few_versions_are_kept(tmp_path: Path) -> None:
    """A class that gets another field with each release leaves four files behind, and no more."""
    store = MemoryStore()
    for number in range(7):
        form = version(**{f"field_{number}": (int, 0), "common": (int, 0)})
        async with started(store, tmp_path) as tide:
            await tide.config.put("shop/common", number)
            tide.config.bind(form, prefix="shop/", on_invalid="last_good")
    kept = [read(path) for path in tmp_path.glob("accepted-*.json")]
    assert {snapshot.entries[b"/config/shop/common"].value for snapshot in kept} == {b"3", b"4", b"5", b"6"}
    assert len(kept) == 4


async def test_excluded_keys_are_never_on_disk(tmp_path: Path) -> None:
    """No accepted snapshot has an excluded key: a start takes it from etcd, and the others from there."""
    store = MemoryStore()
    async with started(store, tmp_path, exclude=("db/password",)) as tide:
        for key, value in (("host", "a"), ("password", "s3cret"), ("port", 1)):
            await tide.config.put(f"db/{key}", value)
        tide.config.bind(Login, prefix="db/", on_invalid="last_good")
        await tide.config.put("db/port", "x")
        await tide.config.put("db/password", "n3wer")
    assert not any(b"s3cret" in path.read_bytes() for path in tmp_path.iterdir())
    async with started(store, tmp_path, exclude=("db/password",)) as tide:
        live = tide.config.bind(Login, prefix="db/", on_invalid="last_good")
        assert live.value == Login("a", "n3wer", 1)


async def test_a_key_that_is_excluded_later_leaves_the_disk(tmp_path: Path) -> None:
    """The first start that excludes a key removes what was accepted with it, in both generations."""
    store = MemoryStore()
    async with started(store, tmp_path) as tide:
        for host in "ab":
            await tide.config.put("db/host", host)
            await tide.config.put("db/password", "s3cret")
            tide.config.bind(Login, prefix="db/", on_invalid="last_good")
            await anyio.sleep(1)
        await tide.config.delete("db/host")
    assert sum(b"s3cret" in path.read_bytes() for path in tmp_path.glob("accepted-*.json")) == 2
    async with started(store, tmp_path, exclude=("db/password",)) as tide:
        assert tide.config.bind(Login, prefix="db/", on_invalid="last_good").value == Login("b", "s3cret")
        await anyio.sleep(1)
        (path,) = tmp_path.glob("accepted-*.json")
        assert b"s3cret" not in path.read_bytes()


async def test_workers_share_what_they_have_accepted(tmp_path: Path) -> None:
    """Of two processes with the same news one writes; a third begins with it, and so does either of them again."""
    store = MemoryStore()
    async with started(store, tmp_path) as one, started(store, tmp_path) as other:
        await one.config.put("pool/size", 4)
        await anyio.sleep(1)
        lives = [tide.config.bind(Pool, prefix="pool/", on_invalid="last_good") for tide in (one, other)]
        await one.config.put("pool/size", 5)
        await anyio.sleep(1)
        assert [live.value for live in lives] == [Pool(5), Pool(5)]
        (path,) = set(tmp_path.glob("accepted-*.json")) - set(tmp_path.glob("*.prev.json"))
        assert read(path).entries[b"/config/pool/size"].value == b"5"
        await one.config.put("pool/size", "many")
    async with started(store, tmp_path) as one, started(store, tmp_path) as other:
        for tide in (one, other):
            assert tide.config.bind(Pool, prefix="pool/", on_invalid="last_good").value == Pool(5)


async def test_a_disk_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told once and tried again; what was accepted is in memory all the same."""
    store = MemoryStore()
    (tmp_path / "cache").touch()
    async with started(store, tmp_path / "cache") as tide:
        await tide.config.put("pool/size", 4)
        tide.config.bind(Pool, prefix="pool/", on_invalid="last_good")
        await tide.config.put("pool/size", 0)
        assert tide.config.bind(Pool, prefix="pool/", on_invalid="last_good").value == Pool(4)
        await anyio.sleep(100)
        lines = [
            text for text in caplog.messages if "what is accepted at '/config/pool/' cannot be written" in text
        ]
        assert len(lines) == 1
        (tmp_path / "cache").unlink()
        await anyio.sleep(31)
        assert len(list((tmp_path / "cache").glob("accepted-*.json"))) == 1


async def test_a_damaged_file_is_told_and_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of accepted snapshots, too, the generation before is used, and none if that is damaged as well."""
    store = MemoryStore()
    await refused_later(store, tmp_path, {"pool/size": 4, "pool/timeout": 1}, {"pool/size": "many"})
    (path,) = tmp_path.glob("accepted-*.json")
    path.rename(path.with_suffix(".prev.json"))
    path.write_bytes(b"{")
    async with started(store, tmp_path) as tide:
        assert tide.config.bind(Pool, prefix="pool/", on_invalid="last_good").value == Pool(4, 1)
    assert len([text for text in caplog.messages if f"snapshot {path} is damaged" in text]) == 1
    path.with_suffix(".prev.json").write_bytes(b"{")
    async with started(store, tmp_path) as tide:
        with pytest.raises(ConfigValueError):
            tide.config.bind(Pool, prefix="pool/", on_invalid="last_good")
    assert f"snapshot {path.with_suffix('.prev.json')} is damaged" in caplog.text


async def test_what_was_accepted_is_sealed_as_all_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With keys no accepted value is in the clear; without them it is told, not used, and left where it is."""
    encryption, store = Encryption(new_key()), MemoryStore()
    async with started(store, tmp_path, encryption=encryption) as tide:
        await tide.config.put("db/host", "secret-host")
        tide.config.bind(Login, prefix="db/", on_invalid="last_good")
        await tide.config.delete("db/host")
    (path,) = tmp_path.glob("accepted-*.json")
    sealed = path.read_bytes()
    assert sealed.startswith(b'{"sealed":1,')
    async with started(store, tmp_path, encryption=encryption) as tide:
        assert tide.config.bind(Login, prefix="db/", on_invalid="last_good").value == Login("secret-host")
    caplog.clear()
    async with started(store, tmp_path) as tide:
        with pytest.raises(ConfigKeyError):
            tide.config.bind(Login, prefix="db/", on_invalid="last_good")
        assert any(f"snapshot {path} cannot be opened" in text for text in caplog.messages)
        await tide.config.put("db/host", "b")
        tide.config.bind(Login, prefix="db/", on_invalid="last_good")
        await anyio.sleep(1)
    assert path.read_bytes() == sealed


async def test_a_file_of_something_else_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file of another class, of all configuration or in the clear is told, and not used."""
    encryption, store = Encryption(new_key()), MemoryStore()
    await refused_later(store, tmp_path / "clear", {"pool/size": 4}, {"pool/size": "many"})
    async with started(store, tmp_path / "sealed", encryption=encryption) as tide:
        await tide.config.put("pool/size", 4)
        await tide.config.put("db/host", "a")
        tide.config.bind(Pool, prefix="pool/", on_invalid="last_good")
        tide.config.bind(Login, prefix="db/", on_invalid="last_good")
        await tide.config.put("pool/size", "many")
        await kept(tmp_path / "sealed", 2)
    sealed = tmp_path / "sealed"
    (raw,) = (path for path in sealed.glob("config-*.json") if ".prev." not in path.name)
    (clear,) = (tmp_path / "clear").glob("accepted-*.json")
    (another,) = (path for path in sealed.glob("accepted-*.json") if path.name != clear.name)
    for source in (clear, raw, another):
        own = tmp_path / f"in place of {source.name} of {source.parent.name}" / clear.name
        own.parent.mkdir(mode=0o700)
        own.write_bytes(source.read_bytes())
        async with started(store, own.parent, encryption=encryption) as tide:
            with pytest.raises(ConfigValueError):
                tide.config.bind(Pool, prefix="pool/", on_invalid="last_good")
        assert any("snapshot.rejected" in text and str(own) in text for text in caplog.messages), source
        assert own.read_bytes() == source.read_bytes()


async def test_a_folder_may_be_named_as_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was accepted is found again in a relative `cache_dir`."""
    store = MemoryStore()
    monkeypatch.chdir(tmp_path)
    await refused_later(store, Path("cache"), {"pool/size": 4}, {"pool/size": "many"})
    async with started(store, Path("cache")) as tide:
        assert tide.config.bind(Pool, prefix="pool/", on_invalid="last_good").value == Pool(4)


async def test_a_tests_values_are_not_accepted(tmp_path: Path) -> None:
    """What a test lays over the values in etcd is on no disk, and the next start knows nothing of it."""
    store = MemoryStore()
    async with started(store, tmp_path) as tide:
        await tide.config.put("pool/size", "many")
        with overriding(tide, {"pool/size": 8}):
            assert tide.config.bind(Pool, prefix="pool/", on_invalid="last_good").value == Pool(8)
    assert not list(tmp_path.glob("accepted-*"))


# Default -------------------------------------------------------------------------------------------------------


async def test_what_is_refused_has_its_default() -> None:
    """A refused value gives its field's default, and all others are as in etcd, until there was a valid object."""
    async with connected(MemoryStore()) as tide:
        await tide.config.put("pool/size", "many")
        await tide.config.put("pool/timeout", 0.5)
        live = tide.config.bind(Pool, prefix="pool/", on_invalid="default")
        assert live.value == Pool(10, 0.5)
        assert [value.instead for value in tide.status().rejected] == ["", "default"]
        await tide.config.put("pool/timeout", 0.7)
        assert live.value == Pool(10, 0.7)
        assert "pool/size" in str(live.rejection)
        await tide.config.put("pool/size", 3)
        assert (live.value, live.rejection) == (Pool(3, 0.7), None)
        await tide.config.put("pool/size", "many")
        assert live.value == Pool(3, 0.7), "the last valid object is better than a default"


async def test_an_object_that_is_refused_is_all_defaults() -> None:
    """A check of the whole object cannot say which value is wrong: none of them is used."""
    async with connected(MemoryStore()) as tide:
        await tide.config.put("pool/size", -1)
        await tide.config.put("pool/timeout", 0.5)
        live = tide.config.bind(Pool, prefix="pool/", on_invalid="default")
        assert (live.value, live.revision) == (Pool(), 0)
        assert "size must be at least 1" in str(live.rejection)
        (note,) = [note for note in tide.status().notes if note.name == "pool/"]
        assert "its class's defaults" in note.text.text


async def test_what_has_no_default_raises() -> None:
    """Where a needed value is refused or absent, or the defaults are refused, there is nothing to serve."""
    async with connected(MemoryStore()) as tide:
        with pytest.raises(ConfigKeyError, match="db/host"):
            tide.config.bind(Login, prefix="db/", on_invalid="default")
        await tide.config.put("db/host", b"\xff")
        with pytest.raises(ConfigValueError, match="db/host"):
            tide.config.bind(Login, prefix="db/", on_invalid="default")

        def never(pool: Pool) -> None:
            raise InvalidValue("no pool will do")

        await tide.config.put("pool/size", 4)
        with pytest.raises(ConfigValueError, match="no pool will do"):
            tide.config.bind(Pool, prefix="pool/", validate=never, on_invalid="default")


async def test_on_invalid_is_one_of_three() -> None:
    """A misspelt choice is refused at once, not at the first bad value."""
    async with connected(MemoryStore()) as tide:
        with pytest.raises(ValueError, match="'raise', 'default' or 'last_good', not 'last-good'"):
            tide.config.bind(Pool, prefix="pool/", on_invalid="last-good")  # type: ignore[arg-type]
