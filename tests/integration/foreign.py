"""Foreign values under every key that tideover reads, on a real etcd: nothing fails but they, and all are named.

Values are drawn from one seed, and only those that are none of their key's are used. They are written in rounds,
beside a process that runs, has run and starts; each round everything of everybody else is used, and at its end the
values are deleted, and all is as before.

    python -m tests.integration.foreign 500 [SEED]
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import anyio
import pytest

from tests.fuzz.harm import foreign
from tests.fuzz.readers import ENDPOINT, HOLD, MARKER, RECORD
from tests.fuzz.typed import Fork
from tideover import Coordinator, HealthState, LockTimeout, RecordCorrupt, connect
from tideover.codecs import decode
from tideover.discovery import endpoint
from tideover.elections import record_document
from tideover.epoch.rules import decode_marker
from tideover.etcd.adapter import EtcdStore
from tideover.locks import hold_document
from tideover.shown import shown
from tideover.store.operations import Delete, Put
from tideover.testing import EtcdServer
from tideover.types import LockMode

NAMESPACE = "/mill"
# Values in one round: so that all are named, of which there are a hundred at the most.
ROUND = 48
TYPES: tuple[Any, ...] = (int, list[int], dict[str, int], Fork)


@dataclass(frozen=True)
class Value:
    """One foreign value.

    Attributes:
        place: What its key is for.
        key: The key.
        raw: The bytes.
        form: The type that it is read as, in the configuration.
    """

    place: str
    key: bytes
    raw: bytes
    form: Any = None

    @property
    def name(self) -> str:
        """The key as a process names it: bytes that are no text are escaped."""
        return self.key.decode(errors="backslashreplace")


def _by_its_key(_: bytes, __: object) -> object:
    raise ValueError("whatever it is: it is its key that is foreign")


# What a key is for, the key, a value that is well, and what refuses one that is not. In the key %b stands for a
# number, every second one with one of ODD behind it.
PLACES: tuple[tuple[str, bytes, bytes, Callable[[bytes, Any], object]], ...] = (
    ("epoch", b"tideover/epoch", MARKER, lambda raw, _: decode_marker(raw)),
    ("ledger", b"tideover/ledger/%b", hold_document.encode(HOLD), lambda raw, _: hold_document.decode(raw)),
    ("session", b"tideover/sessions/%b x", b"", _by_its_key),
    ("election", b"elections/%b", RECORD.encode(), lambda raw, _: record_document.decode(raw, b"/elections/a")),
    ("service", b"services/api/%b/x", ENDPOINT.encode(), lambda raw, _: endpoint.decode("services/api/i/x", raw)),
    ("line", b"locks/%b/x", b"host:1 since 2026-11-30T03:12:52Z", _by_its_key),
    ("config", b"config/%b", b'{"below":[],"size":1}', decode),
)


ODD = (
    b"/",
    b"/a/b",
    b"//",
    b"\xff",
    b"\x1b[2J\x07",
    b"\n",
    b"%ff",
    b"%2f",
    b" ",
    b"\xe2\x80\xae",
    b"\x00",
    b"x" * 300,
)


def _is_foreign(read: Callable[[], object]) -> bool:
    try:
        read()
    except (ValueError, RecordCorrupt):
        return True
    return False


def drawn(number: int, chance: Random) -> Value:
    """Draw the foreign value of a number."""
    place, template, document, read = PLACES[number % len(PLACES)]
    odd = chance.choice(ODD) if number // len(PLACES) % 2 else b""
    name = template % (b"%d%b" % (number, odd)) if b"%b" in template else template
    key, form = f"{NAMESPACE}/".encode() + name, TYPES[number // len(PLACES) % len(TYPES)]
    for _ in range(1000):
        raw = foreign(chance, document)
        # etcd takes no more than 1.5 MiB.
        if len(raw) < 2**20 and _is_foreign(lambda raw=raw: read(raw, form)):  # type: ignore[misc]
            # A key that no program spells is followed all the same.
            return Value("followed" if odd and place == "config" else place, key, raw, form)
    raise AssertionError("none is foreign")


class Trial:
    """A namespace in which everything goes on beside what others write.

    Args:
        etcd: The etcd.
        others: How others write to it.
        old: A coordinator that has been there from the beginning.
    """

    def __init__(self, etcd: EtcdServer, others: EtcdStore, old: Coordinator) -> None:
        self._etcd = etcd
        self._others = others
        self._old = old

    async def round(self, values: list[Value]) -> None:
        """Write values, use everything, delete them, and see that all is as before."""
        for value in values:
            await self._put(value)
            if value.place == "epoch":
                async with self._starts() as new:
                    await new.config.put("started", 1)
        there = {value.key: value for value in values}
        # What was refused before remains to be shown: the last good value of each key.
        async with self._starts() as new:
            await self._everybody_elses_works(new)
            for value in there.values():
                await self._is_only_of_no_use(new, value)
            await self._is_named(
                new, {value.name for value in there.values() if value.place not in ("config", "followed")}
            )
            for key in there:
                await self._others.call(Delete(key), member=self._others.members[0], timeout=5)
            await self._old._parts.epoch.confirm(2)
            await self._is_as_before(new)

    async def _put(self, value: Value) -> None:
        await self._others.call(Put(value.key, value.raw), member=self._others.members[0], timeout=5)
        if value.place == "epoch":
            await self._old._parts.epoch.confirm(2)

    def _starts(self) -> Coordinator:
        return connect(self._etcd.endpoint, namespace=NAMESPACE, cache_dir=False, start_timeout=5)

    async def _everybody_elses_works(self, new: Coordinator) -> None:
        async with (
            new.lock("orders") as held,
            new.leader("reaper") as term,
            new.register("api", "http://10.0.0.7:8000"),
        ):
            found = await self._old.discover("api").wait_for(1, timeout=5)
            assert [each.url for each in found] == ["http://10.0.0.7:8000"]
            assert (held.mode, bool(term.token)) == (LockMode.DISTRIBUTED, True)
            await new.config.put("rate", 3)
            await new.lock_conflicts()
        for tide in self._old, new:
            assert (tide.health.state, tide.status().restarts) == (HealthState.AVAILABLE, 0), tide.status()

    async def _is_only_of_no_use(self, new: Coordinator, value: Value) -> None:
        """What is asked for by its key is refused or waited for, and the key is named."""
        if value.name.encode() != value.key:
            return  # nobody can name it
        _, _, name = value.name.removeprefix(f"{NAMESPACE}/").partition("/")
        if value.place == "config":
            assert new.config.read(name, value.form, default=None).value is None
            assert name in {each.key for each in new.status().rejected}
        elif value.place == "election":
            # Some keys are those of no election.
            with suppress(RecordCorrupt, ValueError):
                async with new.leader(name):
                    raise AssertionError("somebody leads by it")
        elif value.place == "line":
            await self._is_waited_for(new, name.removesuffix("/x"), value)

    async def _is_waited_for(self, new: Coordinator, name: str, value: Value) -> None:
        with suppress(ValueError):  # no lock has such a name
            lock = new.lock(name, timeout=0)
            with pytest.raises(LockTimeout) as caught:
                async with lock:
                    raise AssertionError("somebody has it")
            assert shown(value.key) in str(caught.value)

    async def _is_named(self, new: Coordinator, keys: set[str]) -> None:
        """All are named by a process, and by both commands."""
        assert {each.key for each in await new.foreign_values()} == keys
        endpoints = ("-e", self._etcd.endpoint, "-n", NAMESPACE)
        outputs = await asyncio.gather(
            *(
                anyio.run_process(
                    [sys.executable, "-P", "-m", "tideover.cli", command, *endpoints],
                    check=False,
                    stderr=subprocess.PIPE,
                )
                for command in ("status", "doctor")
            )
        )
        for done, code in zip(outputs, (0, 1), strict=True):
            assert (done.returncode, done.stderr) == (code, b""), done
            for key in keys:
                assert shown(key)[:150].encode() in done.stdout, (key, done.stdout)
            assert done.stdout.decode().replace("\n", "").isprintable()

    async def _is_as_before(self, new: Coordinator) -> None:
        """Nothing is left of them, without a restart of anything."""
        assert await new.foreign_values() == ()
        with anyio.fail_after(15):
            while any("config" not in each.key for each in self._rejected_under_prefixes(new)):
                await anyio.sleep(0.02)
        for tide in self._old, new:
            status = tide.status()
            assert (tide.health.state, status.restarts) == (HealthState.AVAILABLE, 0), status
        assert (self._old.epoch, self._old.status().identity.resets) == (1, 0)

    def _rejected_under_prefixes(self, new: Coordinator) -> Iterator[Any]:
        for tide in self._old, new:
            yield from (each for each in tide.status().rejected if each.key.startswith(f"{NAMESPACE}/services"))


async def trial(etcd: EtcdServer, count: int, *, seed: int = 1) -> None:
    """Write so many foreign values, and see that nothing fails but they.

    Args:
        etcd: A healthy etcd.
        count: How many.
        seed: What they are drawn from.
    """
    chance = Random(seed)
    values = [drawn(number, chance) for number in range(count)]
    others = EtcdStore([etcd.endpoint])
    try:
        async with connect(etcd.endpoint, namespace=NAMESPACE, cache_dir=False, start_timeout=5) as old:
            await old.discover("api").wait_for(0, timeout=5)
            async with old.lock("kept"):
                running = Trial(etcd, others, old)
                for at in range(0, count, ROUND):
                    await running.round(values[at : at + ROUND])
                    print(f"{min(at + ROUND, count)} of {count} values", file=sys.stderr)
    finally:
        await others.aclose()


def main() -> None:
    """Write as many as the command line says."""
    count, seed = int(sys.argv[1]), int([*sys.argv, "1"][2])
    with EtcdServer() as etcd:
        etcd.wait_ready()
        asyncio.run(trial(etcd, count, seed=seed))
    print(f"{count} foreign values of seed {seed}: nothing else failed, each was named")


if __name__ == "__main__":
    main()
