"""The model of `record_model`, with candidates that talk to each other: the policy "peers".

Between candidates everything may happen too: links are cut one by one, questions and answers are lost, questions
arrive up to 20 s late and twice, and a process that starts again knows nothing of what it had promised.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.elections.rules.record_model import HORIZON, LATE, TIMEOUT, TRAVEL, Process, Trial, Window, inside
from tideover.elections.rules import failsafe
from tideover.elections.rules.candidate import Candidate, Do, Seen, Timing
from tideover.elections.rules.failsafe import PeerSet, Question, Verdict

LIMIT = 3  # ttls
TICK = 0.1

Answer = Callable[[Candidate, Question, float], tuple[Candidate, Verdict]]


@dataclass(frozen=True, slots=True)
class Rules:
    """What the candidates of a trial do; a broken one shows that the model would notice."""

    candidate: type[Candidate] = Candidate
    assembly: type[PeerSet] = PeerSet
    answer: Answer = failsafe.answer
    forgets: bool = True
    offers_late: bool = False
    vacates: Callable[[Candidate, float], bool] = Candidate.may_vacate
    alone: bool = False


@dataclass
class Talking:
    """What one process knows of the others, beside its candidate."""

    assembly: PeerSet
    number: int = 0
    asking: dict[str, int] = field(default_factory=dict)
    joined_at: float = -math.inf


class FailsafeTrial(Trial):
    """One run.

    Args:
        seed: Decides everything.
        rules: What the candidates do.
    """

    def __init__(self, seed: int, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.talking: dict[str, Talking] = {}
        self.lists: dict[int, frozenset[str]] = {}
        self.links: dict[tuple[int, int], list[Window]] = {}
        self.confirmed = 0
        self.entered = 0
        super().__init__(seed, lambda me, timing: self.rules.candidate(me, timing, limit=LIMIT * timing.ttl))

    def _process(self, number: int, make: Callable[[str, Timing], Candidate]) -> Process:
        process = super()._process(number, make)
        self._at(self.rng.uniform(0, 1), lambda: self._tick(process))
        return process

    def _faults(self) -> None:
        """Strike the leader now and then, and those around it: or nothing would be asked."""
        for _ in range(self.rng.randint(2, 4)):
            self._at(self.rng.uniform(10, HORIZON - 30), self._strike)
        if self.rng.random() < 0.2:
            self._at(self.rng.uniform(10, HORIZON - 30), self.etcd.delete)

    def _strike(self) -> None:
        rng, now, ttl = self.rng, self.now, self.timing.ttl
        leader = next((p for p in self.processes if p.state.believes(p.clock(now))), None)
        if leader is None:
            self._at(now + 2, self._strike)
            return
        # It begins with a write whose answer is lost, so that nobody knows what the record says.
        leader.lossy.append((now - 4, now))
        window = now, now + rng.uniform(1, 7) * ttl
        (self.outages if rng.random() < 0.15 else leader.cut).append(window)
        usual = rng.choice(["none", "link", "pause", "lossy", "kill", "resign", "resign"])
        for process in self.processes:
            begin = now + rng.uniform(0, 2.5) * ttl
            window = begin, begin + rng.choice([rng.uniform(0.5, 3), rng.uniform(1, 3) * ttl])
            kind = usual if rng.random() < 0.7 and process is not leader else rng.choice(["none", "pause", "link"])
            if kind == "link" and process is not leader:
                self.links.setdefault((leader.number, process.number), []).append(window)
                self.links.setdefault((process.number, leader.number), []).append(window)
            elif kind in ("pause", "lossy"):
                {"pause": process.pauses, "lossy": process.lossy}[kind].append(window)
            elif kind in ("kill", "resign"):
                self._at(begin, lambda p=process, k=kind: self._end(p, resigning=k == "resign"))  # type: ignore[misc]

    # Between candidates ----------------------------------------------------------------------------------------

    def _talk(self, process: Process) -> Talking:
        return self.talking.setdefault(process.state.me, Talking(self.rules.assembly(self.rules.alone)))

    def _tick(self, process: Process) -> None:
        resumes = max(self.now, process.resumes(self.now))
        if resumes > self.now:
            self._at(resumes, lambda: self._tick(process))
            return
        self._at(self.now + TICK * self.rng.uniform(0.5, 1.5), lambda: self._tick(process))
        shown, state, talking = process.clock(self.now), process.state, self._talk(process)
        if state.held:
            listed = {name: name for name in state.electorate}
            talking.assembly = talking.assembly.found(listed, shown).pruned(state, shown)
            for name in talking.assembly.due(state, shown):
                if name not in talking.asking:
                    self._ask(process, talking, name, shown)
            self._extend(process, talking)
            known = state.seen.candidates if state.seen else frozenset()
            if not frozenset(talking.assembly.wanted(self.timing, shown)) <= known and not process.busy:
                process.state = replace(process.state, renew_at=-math.inf)
                self._wake(process, process.life)
        elif state.seen is not None and state.seen.holder and shown - talking.joined_at > 1:
            talking.joined_at = shown
            holder, me = state.seen.holder, state.me
            if me not in state.seen.candidates:
                self._carry(process, holder, lambda other: self._applied(other, me), lambda: None)

    def _applied(self, leader: Process, name: str) -> None:
        talking = self._talk(leader)
        talking.assembly = talking.assembly.applied(name, name)

    def _named(self, name: str) -> Process | None:
        return next((process for process in self.processes if process.state.me == name), None)

    def _carry(
        self, sender: Process, to: str, deliver: Callable[[Process], None], missed: Callable[[], None]
    ) -> None:
        """Bring a message to who bears that name when it arrives; perhaps never, late, or twice."""
        number = int(to.partition(".")[0][1:])
        cut = inside(self.links.get((sender.number, number), []), self.now)
        if cut or self.rng.random() < 0.05:
            return

        def arrive() -> None:
            other = self._named(to)
            if other is None:
                missed()
                return
            if (resumes := other.resumes(self.now)) > self.now:
                self._at(resumes + self.rng.uniform(0, 0.01), arrive)
                return
            deliver(other)

        late = self.rng.random() < 0.05
        self._at(self.now + self.rng.uniform(0, LATE if late else TRAVEL), arrive)
        if self.rng.random() < 0.1:
            self._at(self.now + self.rng.uniform(0, LATE), arrive)

    def _ask(self, process: Process, talking: Talking, name: str, shown: float) -> None:
        state = process.state
        assert state.seen is not None
        talking.number += 1
        number = talking.asking[name] = talking.number
        talking.assembly = talking.assembly.asked(name, shown)
        question = Question(state.me, state.seen.term, number, state.timing.ttl)
        binding = failsafe.failing(state, shown) and name in state.electorate

        def answered(verdict: Verdict | None) -> None:
            if (resumes := process.resumes(self.now)) > self.now:
                self._at(resumes + self.rng.uniform(0, 0.01), lambda: answered(verdict))
                return
            if process.state.me == state.me and talking.asking.get(name) == number:
                del talking.asking[name]
                self._answered(process, talking, name, verdict, shown)

        def deliver(other: Process) -> None:
            verdict = Verdict.HERE
            if binding:
                other.state, verdict = self.rules.answer(other.state, question, other.clock(self.now))
            self._back(other, process, lambda: answered(verdict))

        self._carry(process, name, deliver, lambda: answered(None))
        self._at(self.now + TIMEOUT, lambda: self._silent(process, talking, name, number))

    def _back(self, sender: Process, to: Process, deliver: Callable[[], None]) -> None:
        cut = inside(self.links.get((sender.number, to.number), []), self.now)
        if not cut and self.rng.random() > 0.05:
            self._at(self.now + self.rng.uniform(0, 2 * TIMEOUT if self.rng.random() < 0.1 else TRAVEL), deliver)

    def _silent(self, process: Process, talking: Talking, name: str, number: int) -> None:
        if (resumes := process.resumes(self.now)) > self.now:
            self._at(resumes + 0.02, lambda: self._silent(process, talking, name, number))
        elif talking.asking.get(name) == number:
            del talking.asking[name]
            talking.assembly = talking.assembly.unanswered(name)

    def _answered(
        self, process: Process, talking: Talking, name: str, verdict: Verdict | None, sent: float
    ) -> None:
        talking.assembly = talking.assembly.answered(name, verdict, sent, process.clock(self.now))
        if verdict is not None and verdict.is_veto and process.state.held:
            process.state = process.state.refuted(f"{name}: {verdict}")
        self._extend(process, talking)

    def _extend(self, process: Process, talking: Talking) -> None:
        shown = process.clock(self.now)
        if failsafe.failing(process.state, shown):
            before = process.state.deadline
            process.state = talking.assembly.extended(process.state, shown)
            self.confirmed += process.state.deadline > before
        self._check(process)

    # With etcd -------------------------------------------------------------------------------------------------

    def _drafted(self, process: Process, do: Do, call: int) -> None:
        state, shown = process.state, process.clock(self.now)
        known = state.seen.candidates if state.seen else frozenset()
        if do is Do.FOUND:
            listed: frozenset[str] = frozenset()
        elif do is Do.TAKE:
            listed = known - {state.me}
        else:
            # Whom to list is a matter of taste, as far as safety goes; here it is one of whim.
            wanted = sorted(self._talk(process).assembly.wanted(self.timing, shown))
            listed = frozenset(name for name in wanted if name != state.me and self.rng.random() < 0.95)
        self.lists[call] = listed
        if not self.rules.offers_late:
            process.state = state.offering(listed)

    def _written(self, do: Do, state: Candidate, call: int) -> Seen:
        before = self.etcd.record
        return replace(
            super()._written(do, state, call),
            term=before.term + (do is Do.TAKE),
            candidates=self.lists[call],
            limit=LIMIT * self.timing.ttl,
        )

    def _succeeded(self, process: Process, do: Do, revision: int, sent: float, call: int) -> Candidate:
        shown = process.clock(self.now)
        self.entered += do is Do.TAKE
        return process.state.succeeded(do, revision, sent, shown, self.lists[call])

    def _granted(self, me: str, before: Seen, token: int) -> None:
        if self.grants and token <= self.grants[-1][2]:
            self.violations.append(f"token not growing at {self.now:.3f}: {token}")
        self.grants.append((self.now, me, token))

    def _may_vacate(self, process: Process) -> bool:
        return self.rules.vacates(process.state, process.clock(self.now))

    def _vacant(self, state: Candidate) -> Seen:
        assert state.seen is not None
        return replace(state.seen, holder=state.me, write="v", vacant=True)

    def _end(self, process: Process, *, resigning: bool) -> None:
        before = process.state
        super()._end(process, resigning=resigning)
        if not self.rules.forgets:
            # What no process can do: it starts again under the name that has promised, without the promise.
            process.state = replace(process.state, me=before.me, written="", draft="")
        elif resigning and before.seen is not None and not before.owns(before.seen) and before.seen.holder:
            holder, name = before.seen.holder, before.me

            def retired(leader: Process) -> None:
                talking = self._talk(leader)
                talking.assembly = talking.assembly.retired(name)

            self._carry(process, holder, retired, lambda: None)
