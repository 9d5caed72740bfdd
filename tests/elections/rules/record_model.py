"""A model of candidates, clocks, a network and etcd, in which records are played out in true time.

Candidates run the real decisions. Everything else is as bad as it may be: clocks run up to 5 % fast or slow,
processes stop for a while or die, requests and answers are lost, writes that were given up on are applied up to
20 s later, etcd goes away as a whole, and operators delete the record, or its token alone. What must never happen
is looked for at every step; `Trial.violations` says what was found.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

from tideover.elections.rules.candidate import Candidate, Do, Seen, Timing

HORIZON = 150.0
DRIFT = 0.05
TIMEOUT = 1.0
RETRY_AFTER = 0.3
TRAVEL = 0.05
LATE = 20.0

Window = tuple[float, float]


def inside(windows: list[Window], at: float) -> bool:
    """Whether a moment lies in one of some windows."""
    return any(begin <= at < end for begin, end in windows)


@dataclass
class Etcd:
    """The record, its token key, and their history."""

    revision: int = 100
    record: Seen = field(default_factory=Seen)
    token: int = 0
    existed: bool = False

    def look(self) -> Seen:
        return replace(self.record, token=self.token)

    def swap(self, expected: int, written: Seen, *, token: bool, fence: int | None = None) -> int:
        """Write if the record, and its token if that is asked, is as expected; return the new revision, or 0."""
        if self.record.mod_revision != expected or fence not in (None, self.token):
            return 0
        self.revision += 1
        self.record = replace(written, mod_revision=self.revision)
        self.token = self.revision if token else self.token
        return self.revision

    def delete(self) -> None:
        """What an operator may do."""
        self.revision += 1
        self.existed = self.existed or bool(self.record.mod_revision)
        self.record, self.token = Seen(), 0

    def delete_token(self) -> None:
        """Likewise."""
        self.revision += 1
        self.token = 0


@dataclass
class Process:
    """A process with one candidate at a time."""

    number: int
    rate: float
    offset: float
    make: Callable[[str, Timing], Candidate]
    state: Candidate
    life: int = 0
    busy: int = 0
    pauses: list[Window] = field(default_factory=list)
    lossy: list[Window] = field(default_factory=list)
    cut: list[Window] = field(default_factory=list)

    def clock(self, at: float) -> float:
        """What its clock shows at a true time."""
        return self.offset + self.rate * at

    def true(self, shown: float) -> float:
        """When its clock shows that."""
        return (shown - self.offset) / self.rate

    def resumes(self, at: float) -> float:
        """When it runs again, or now."""
        return max([end for begin, end in self.pauses if begin <= at < end], default=at)


class Trial:
    """One run.

    Args:
        seed: Decides everything.
        make: Makes candidates; a broken one shows that the model would notice.
    """

    def __init__(self, seed: int, make: Callable[[str, Timing], Candidate] = Candidate) -> None:
        self.rng = rng = random.Random(seed)
        self.timing = Timing(rng.choice([6.0, 15.0]))
        self.etcd = Etcd()
        self.outages: list[Window] = []
        self.violations: list[str] = []
        self.grants: list[tuple[float, str, int]] = []
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self.now = 0.0
        self.processes = [self._process(number, make) for number in range(rng.randint(2, 4))]
        self._faults()

    def _process(self, number: int, make: Callable[[str, Timing], Candidate]) -> Process:
        rate = 1 + self.rng.choice([-DRIFT, DRIFT, self.rng.uniform(-DRIFT, DRIFT)])
        state = make(f"p{number}", self.timing)
        process = Process(number, rate, self.rng.uniform(0, 1000), make, state)
        self._at(self.rng.uniform(0, 5), lambda: self._wake(process, process.life))
        return process

    def _faults(self) -> None:
        rng, ttl = self.rng, self.timing.ttl
        for _ in range(rng.randint(2, 16)):
            begin = rng.uniform(5, HORIZON - 10)
            window = begin, begin + rng.choice([rng.uniform(0.2, 2), rng.uniform(1, 2 * ttl)])
            process = rng.choice(self.processes)
            kind = rng.choice(
                ["pause", "pause", "lossy", "lossy", "cut", "outage", "kill", "resign", "delete", "token"]
            )
            if kind == "outage":
                self.outages.append(window)
            elif kind == "delete":
                self._at(begin, self.etcd.delete)
            elif kind == "token":
                self._at(begin, self.etcd.delete_token)
            elif kind in ("kill", "resign"):
                self._at(begin, lambda p=process, k=kind: self._end(p, resigning=k == "resign"))  # type: ignore[misc]
            else:
                {"pause": process.pauses, "lossy": process.lossy, "cut": process.cut}[kind].append(window)

    # Time ------------------------------------------------------------------------------------------------------

    def _at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), what))

    def run(self) -> Self:
        """Play it out."""
        while self._events and self._events[0][0] < HORIZON:
            self.now, _, what = heapq.heappop(self._events)
            what()
        return self

    def _wake(self, process: Process, life: int) -> None:
        """Let a process do its next step, as the driver does."""
        if life != process.life or process.busy:
            return
        if (resumes := process.resumes(self.now)) > self.now:
            self._at(resumes, lambda: self._wake(process, life))
            return
        shown = process.clock(self.now)
        if process.state.held and shown >= process.state.deadline:
            process.state = process.state.expired()
        step = process.state.step(shown)
        if step.at > shown:
            later = max(process.true(step.at), self.now + 0.001)
            self._at(later, lambda: self._wake(process, life))
            return
        self._send(process, step.do)

    # The network -----------------------------------------------------------------------------------------------

    def _send(self, process: Process, do: Do) -> None:
        rng, life = self.rng, process.life
        process.busy = call = next(self._order) + 1
        if do in (Do.FOUND, Do.TAKE, Do.RENEW):
            process.state = process.state.drafted(f"w{call}")
            self._drafted(process, do, call)
        state, sent = process.state, process.clock(self.now)
        lossy = inside(process.lossy, self.now)
        lost = inside(process.cut, self.now) or (lossy and rng.random() < 0.3)
        late = lossy and rng.random() < 0.3
        answer_lost = lossy and rng.random() < 0.4
        arrives = self.now + rng.uniform(0, LATE if late else TRAVEL)
        if not lost:
            self._at(arrives, lambda: self._arrive(process, life, call, do, state, sent, answer_lost))
        self._at(self.now + TIMEOUT, lambda: self._give_up(process, life, call))

    def _arrive(
        self, process: Process, life: int, call: int, do: Do, state: Candidate, sent: float, answer_lost: bool
    ) -> None:
        if inside(self.outages, self.now):
            # What etcd has in hand when its quorum goes is applied when it comes back.
            if self.rng.random() < 0.5:
                end = max(end for begin, end in self.outages if begin <= self.now < end)
                again = end + self.rng.uniform(0, 1)
                self._at(again, lambda: self._arrive(process, life, call, do, state, sent, answer_lost))
            return
        applied = self._apply(process, do, state, call)
        seen, unprecedented = self.etcd.look(), not self.etcd.existed
        if answer_lost or inside(process.cut, self.now):
            return
        self._at(
            self.now + self.rng.uniform(0, TRAVEL),
            lambda: self._answer(process, life, call, do, sent, applied, seen, unprecedented),
        )

    def _drafted(self, process: Process, do: Do, call: int) -> None:
        """For models in which more is written."""

    def _written(self, do: Do, state: Candidate, call: int) -> Seen:
        return Seen(holder="" if do is Do.FOUND else state.me, write=state.draft, ttl=self.timing.ttl)

    def _succeeded(self, process: Process, do: Do, revision: int, sent: float, call: int) -> Candidate:
        return process.state.succeeded(do, revision, sent, process.clock(self.now))

    def _apply(self, process: Process, do: Do, state: Candidate, call: int) -> int:
        if do in (Do.READ, Do.LOOK_BACK) or state.seen is None:
            return 0
        before, mine = self.etcd.record, self._written(do, state, call)
        fence = state.seen.token if do is Do.RENEW else None
        applied = self.etcd.swap(state.seen.mod_revision, mine, token=do is Do.TAKE, fence=fence)
        if applied and do is Do.TAKE:
            self._granted(state.me, before, applied)
        return applied

    def _answer(
        self, process: Process, life: int, call: int, do: Do, sent: float, applied: int, seen: Seen, clean: bool
    ) -> None:
        if life != process.life or process.busy != call:
            return
        if (resumes := process.resumes(self.now)) > self.now:
            self._at(resumes, lambda: self._answer(process, life, call, do, sent, applied, seen, clean))
            return
        process.busy = 0
        shown = process.clock(self.now)
        if do is Do.LOOK_BACK:
            process.state = process.state.looked_at_history(unprecedented=clean)
        elif applied:
            process.state = self._succeeded(process, do, applied, sent, call)
        else:
            process.state = process.state.observed(seen, sent, shown)
        self._check(process)
        self._wake(process, life)

    def _give_up(self, process: Process, life: int, call: int) -> None:
        if life != process.life or process.busy != call:
            return
        if (resumes := process.resumes(self.now)) > self.now:
            # An answer that has come meanwhile is taken first.
            self._at(resumes + 0.001, lambda: self._give_up(process, life, call))
            return
        process.busy = 0
        self._at(self.now + RETRY_AFTER, lambda: self._wake(process, life))

    def _end(self, process: Process, *, resigning: bool) -> None:
        state = process.state
        if resigning and state.seen is not None and self._may_vacate(process):
            vacated = replace(state, draft="v")
            wanted = self._vacant(state)
            arrives = self.now + self.rng.choice([TRAVEL, self.rng.uniform(0, LATE)])
            revision = state.seen.mod_revision
            self._at(arrives, lambda: self._vacate(vacated, revision, wanted))
        process.life += 1
        process.busy = 0
        process.state = process.make(f"p{process.number}.{process.life}", self.timing)
        life = process.life
        self._at(self.now + self.rng.uniform(0.1, 5), lambda: self._wake(process, life))

    def _may_vacate(self, process: Process) -> bool:
        return process.state.held

    def _vacant(self, state: Candidate) -> Seen:
        return Seen(holder=state.me, write="v", vacant=True, ttl=self.timing.ttl)

    def _vacate(self, state: Candidate, revision: int, wanted: Seen) -> None:
        if not inside(self.outages, self.now):
            self.etcd.swap(revision, wanted, token=False)

    # What must hold --------------------------------------------------------------------------------------------

    def _check(self, process: Process) -> None:
        """Nobody else may believe when somebody begins to, or does so for longer; nor without a token."""
        if not process.state.believes(process.clock(self.now)):
            return
        if not any((me, token) == (process.state.me, process.state.token) for _, me, token in self.grants):
            self.violations.append(f"no such token at {self.now:.3f}: {process.state.token}")
        for other in self.processes:
            if other is not process and other.state.believes(other.clock(self.now)):
                self.violations.append(f"two holders at {self.now:.3f}: {process.state.me} and {other.state.me}")

    def _granted(self, me: str, before: Seen, token: int) -> None:
        if self.grants and token <= self.grants[-1][2]:
            self.violations.append(f"token not growing at {self.now:.3f}: {token}")
        self.grants.append((self.now, me, token))
        holder = next((p for p in self.processes if p.state.me == before.holder), None)
        if holder is not None and before.holder != me and not before.vacant and self._could_renew(holder):
            self.violations.append(f"needless change at {self.now:.3f}: from {holder.state.me} to {me}")

    def _could_renew(self, holder: Process) -> bool:
        """Whether a holder had the time to renew, within the time for which its successor had to watch."""
        ttl = self.timing.ttl
        well_since = self._watched_since((ttl + self.timing.margin) / (1 + DRIFT) - 3 * TRAVEL)
        # At the worst a call has just been lost: its timeout, the pause, the next one; or a renewal was just made.
        needed = max(ttl / 3, TIMEOUT + RETRY_AFTER) / (1 - DRIFT) + TIMEOUT + RETRY_AFTER + 4 * TRAVEL
        troubles = sorted([*holder.pauses, *holder.lossy, *holder.cut, *self.outages])
        for begin, end in troubles:
            if min(begin, self.now) - well_since >= needed:
                return True
            well_since = max(well_since, end)
        return self.now - well_since >= needed

    def _watched_since(self, left: float) -> float:
        """Return when a watch of so many seconds began at the latest; long outages interrupt it."""
        at = self.now
        for begin, end in sorted(self.outages, reverse=True):
            if end - begin < self.timing.ttl / 3 / (1 - DRIFT) or begin > at:
                continue
            if at - left >= end:
                break
            left -= max(0.0, at - end)
            at = begin
        return at - left
