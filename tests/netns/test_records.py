"""Records under faults: members and candidates are killed, paused and cut off, alone and together.

Three processes are candidates for twelve records each, so that every fault is twelve trials. What must hold: no
two holders ever, tokens only grow, and a record changes hands only if its holder's own process was struck.

The ordinary suite makes four faults, which takes a minute; `nox -s faults` makes 200 trials, of all kinds.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.history.recorder import read_history
from tests.netns.bench import Bench

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.faults, pytest.mark.takes(45)]

RECORDS = 12
MEMBERS = ("m1", "m2", "m3")
CLIENTS = {"one": "c1", "two": "c2", "three": "c3"}
SCRIPT = Path(__file__).with_name("candidates.py")
# A dead holder of the longer ttl is replaced after ttl and margin; a killed member needs its time as well.
SETTLED_WITHIN = 15 + 1.5 + 8

# (what is done, to which member, and to a client as well). Every third record is that client's.
KINDS = [
    (what, member, client)
    for what in ("kill", "pause", "cut")
    for member, client in (("leader", False), ("in use", False), (None, True), ("leader", True), ("in use", True))
]
SHORT = [("kill", "leader", False), ("pause", "in use", True), ("cut", "leader", True), ("kill", None, True)]


class Trials:
    """What is done to the bench, and what came of it.

    Args:
        bench: The bench.
        chance: Decides what is not said.
    """

    def __init__(self, bench: Bench, chance: random.Random) -> None:
        self.bench = bench
        self.chance = chance
        self.report: Counter[str] = Counter()
        self.dead: set[int | None] = set()

    def holders(self) -> dict[str, tuple[str, int, int]]:
        """Return who believes to hold each record now: process name, pid and token; the dead believe nothing."""
        held: dict[str, tuple[str, int, int, float]] = {}
        for event in read_history(self.bench.folder):
            if event.fields.get("role") != "leader":
                continue
            name = event["name"]
            if event.kind in ("enter", "renewed"):
                held[name] = event.process, event.pid, event["token"], event["deadline"]
            elif event.kind == "lost" and name in held and held[name][1] == event.pid:
                del held[name]
        now = time.monotonic()
        return {name: found[:3] for name, found in held.items() if found[3] > now and found[1] not in self.dead}

    def settle(self) -> dict[str, tuple[str, int, int]]:
        """Wait until every record is held, and return by whom."""
        deadline = time.monotonic() + SETTLED_WITHIN
        while len(held := self.holders()) < RECORDS:
            assert time.monotonic() < deadline, f"not settled: {sorted(held)}"
            time.sleep(0.1)
        return held

    def run(self, what: str, member: str | None, client: bool, seconds: float) -> None:
        """Make one fault, wait until all is well again, and compare."""
        before = self.settle()
        struck = self.chance.choice(sorted(CLIENTS)) if client else None
        began = self.bench.note(f"{what} {member} {struck} for {seconds:.1f} s")
        with self._member(what, member, struck), self._client(what, struck):
            time.sleep(seconds)
        self.bench.note("heal")
        self.bench.cluster.wait_ready()
        after = self.settle()
        for name, (process, pid, token) in before.items():
            if process != struck:
                assert after[name][1] == pid, f"{name}: needlessly from {process} to {after[name][0]}"
                assert after[name][2] == token, f"{name}: {process} has another token"
            self.report["trials"] += 1
            self.report["changes of holder"] += after[name][1] != pid
        self.report["own returns"] += sum(
            event.kind == "returned" and event.at > began for event in read_history(self.bench.folder)
        )

    @contextmanager
    def _member(self, what: str, which: str | None, struck: str | None) -> Iterator[None]:
        bench, cluster = self.bench, self.bench.cluster
        if which is None:
            yield
            return
        user = struck or self.chance.choice(sorted(CLIENTS))
        host = cluster.host_of(cluster.leader()) if which == "leader" else bench.active(user)
        target = cluster.on(host)
        undo: Callable[[], object]
        if what == "kill":
            target.kill()
            undo = target.start
        elif what == "pause":
            target.pause()
            undo = target.resume
        else:
            bench.network.isolate(host)
            undo = bench.network.heal
        try:
            yield
        finally:
            undo()

    @contextmanager
    def _client(self, what: str, struck: str | None) -> Iterator[None]:
        bench = self.bench
        if struck is None:
            yield
        elif what == "kill":
            self.dead.add(bench.running(struck).pid)
            bench.kill(struck)
            yield
            bench.network.heal()
            start(bench, struck)
        elif what == "pause":
            bench.running(struck).pause()
            yield
            bench.running(struck).resume()
        else:
            bench.network.isolate(CLIENTS[struck])
            yield
            bench.network.heal()


def start(bench: Bench, name: str) -> None:
    """Start a process of candidates."""
    number = str(list(CLIENTS).index(name))
    bench.client(name, number, str(RECORDS), on=CLIENTS[name], script=SCRIPT)


def test_records_under_faults(bench: Bench, pytestconfig: pytest.Config) -> None:
    """No two holders, growing tokens, and no change of holder but where the holder's process was struck."""
    count, seed = pytestconfig.getoption("--faults-count"), pytestconfig.getoption("--faults-seed")
    chance = random.Random(seed)
    for name in CLIENTS:
        start(bench, name)
    trials = Trials(bench, chance)
    assert {process for process, _, _ in trials.settle().values()} == set(CLIENTS)
    if count <= RECORDS:
        for kind in SHORT:
            trials.run(*kind, seconds=chance.uniform(7, 9))
    else:
        kinds = itertools.cycle(chance.sample(KINDS, len(KINDS)))
        for what, member, client in itertools.islice(kinds, -(-count // RECORDS)):
            length = chance.choice([chance.uniform(1, 5), chance.uniform(7, 20)])
            trials.run(what, member, client, seconds=length)
    print(f"records, seed {seed}: {dict(trials.report)}")
    assert trials.report["changes of holder"] > 0
