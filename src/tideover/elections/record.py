"""One candidate's record: a key in etcd, renewed by compare-and-swap. No lease.

Guarantee: `held` is computed from the clock at each use, and is true for one candidate at a time (under the
    policies that end at the deadline), whatever happens to etcd, the network or this process; the rules are in
    `rules.candidate`. `token` grows with every change of the holder and stays the same over renewals.

Not guaranteed: that a holder notices its loss before the deadline, or under `"stay"` at all while etcd is away.
`held` is true at the moment of the look, not at that of a later write; `term.guard()` fences the write.

Why no lease: an etcd process that stalls acknowledges leases that have expired, and revokes others that were just
renewed (docs/explanation/leadership-in-an-outage.md). The quorum decides a swap, or it does not happen.

Renewals go to the members directly, with a second each: they wait behind no other call, and no breaker refuses
them. A watch only says when to look; what counts are linearizable answers.

Prior art: client-go's `leaderelection`, which renews a lock object in the same way, but takes over by a clock that
does not notice its own gaps.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable

import anyio

from tideover import telemetry
from tideover.broadcast import Broadcast
from tideover.client.client import Client
from tideover.elections.claim import CandidateClaim
from tideover.elections.record_calls import Answer, Past, RecordCalls
from tideover.elections.record_content import RecordContent
from tideover.elections.record_document import RecordDocument
from tideover.elections.rules.candidate import Candidate, Do, Seen, Step, Timing
from tideover.errors import TideoverError
from tideover.holders import Holder
from tideover.shown import shown
from tideover.store.faults import Fault, public_error
from tideover.types import Header

# Seconds after which a loss is announced at the latest when a suspended machine resumes, or a clock has jumped.
_TICK = 0.25
# The shortest sleep: with less, a clock's rounding would make a busy loop.
_MOMENT = 0.001


class ElectionRecord:
    """Takes one record for one candidate, renews it and loses it.

    Many attributes: the state of the candidate, and the counters that tell tenures, claims and news apart.
    """

    def __init__(
        self,
        key: bytes,
        client: Client,
        *,
        timing: Timing,
        claim: CandidateClaim,
        word: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self.key = key
        self.token_key = key + b"/token"
        self.content = RecordContent(key, timing.ttl, claim, word)
        self.timing = timing
        self.state = Candidate(word(), timing, limit=claim.limit)
        self.tenure = 0  # how often the candidate has come to hold the record
        self.regained = False  # whether the present tenure continues the term of the one before
        self.changed = Broadcast()
        self.looked_at = -math.inf  # when the event loop last looked at the deadline, in boot-time seconds
        # Deadlines are on the boot-time clock, which counts while the machine is suspended.
        self._clock = client.clock
        self._word = word
        self._calls = RecordCalls(key, self.token_key, client, timing)
        self._header: Header | None = None
        self._seen_at = -math.inf
        # The last tenure that was lost, and why: the next one may have begun before its term is asked.
        self._lost = (0, "")
        self._wake = Broadcast()
        # The newest revision that a watch has reported.
        self._news = 0
        # Claims are counted, so that `proclaim` can wait until its own is in etcd.
        self._claims = 0
        self._claims_written = 0

    @property
    def _name(self) -> str:
        return shown(self.key)

    @property
    def held(self) -> bool:
        """Whether this candidate certainly holds the record, at this moment."""
        return self.state.believes(self._clock.boot())

    @property
    def stands(self) -> bool:
        """Whether this candidate holds the record as far as is known.

        A claim that stays holds it in an outage beyond the deadline too. A quorum that refuses to let this user
        renew is no outage: other candidates may take over.
        """
        return self.held or (self.content.claim.stays and self.state.held and self._calls.refused is None)

    @property
    def refused(self) -> bool:
        """Whether etcd has answered with a definite no, which is no outage."""
        return self._calls.refused is not None

    @property
    def error(self) -> Fault | None:
        """The fault of the last call; None if it was answered."""
        return self._calls.error

    @property
    def now(self) -> float:
        """The time on the clock of the deadline, in seconds."""
        return self._clock.boot()

    @property
    def left(self) -> float:
        """Seconds until the deadline; negative beyond it."""
        return self.state.deadline - self._clock.boot()

    @property
    def renewed_ago(self) -> float:
        """Seconds since the last successful renewal was sent; infinite if there was none."""
        return self._clock.boot() - self.state.renewed_at

    @property
    def seen_ago(self) -> float | None:
        """Seconds since the record was last seen in etcd; None before."""
        ago = self._clock.boot() - self._seen_at
        return ago if math.isfinite(ago) else None

    def invalidate(self, why: str) -> None:
        """Count the record as lost, because a guarded write was refused; the next step reads it."""
        self._become(self.state.doubted(why))
        self._wake.fire()

    def loss_of(self, tenure: int) -> str:
        """Return why a tenure was lost; a loss that was not noticed yet can only be the deadline."""
        return self._lost[1] if self._lost[0] == tenure else self.overdue

    @property
    def overdue(self) -> str:
        """The message for a deadline that has passed, with the fault of the last renewal, if it failed."""
        return "it could not be renewed in time" + (f" ({self.error.brief})" if self.error else "")

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the record is true; while the record is held, time alone may change it."""
        while not condition():
            await self.changed.wait(_TICK if self.state.held else None)

    async def run(self) -> None:
        """Take the record as soon as the rules allow it, and renew it, until cancelled.

        Raises the definite nos: `RecordCorrupt`, `ElectionMismatch`, `PermissionDenied`, `AuthenticationFailed`.
        """
        refusal: TideoverError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen)
            tasks.start_soon(self._watch_deadline)
            try:
                await self._take_steps()
            except TideoverError as exc:
                # Raised outside of the task group, which would wrap the error.
                refusal = exc
                tasks.cancel_scope.cancel()
        if refusal is not None:
            raise refusal

    async def _take_steps(self) -> None:
        while True:
            self._expire()
            news, now = self._wake.next(), self._clock.boot()
            step = self.state.step(now)
            if (
                step.at > now
                and self.state.held
                and (self._claims > self._claims_written or self.content.is_outdated(held=self.held))
            ):
                step = Step(Do.RENEW)
            elif step.at > now and self._news > (self._header.revision if self._header else 0):
                step = Step(Do.READ)
            if step.at <= now:
                await self._do(step.do)
                continue
            with anyio.move_on_after(step.at - now):
                await news.wait()

    def set_state(self, state: Candidate) -> None:
        """Apply a change that did not come from etcd, but from a peer."""
        if state != self.state:
            self._become(state)
            self._wake.fire()

    def review(self) -> None:
        """Compare the record with `content.wanted`, which may have changed."""
        self._wake.fire()
        self.changed.fire()

    async def proclaim(self, claim: CandidateClaim) -> None:
        """Write another claim with a renewal at once; return when it is in etcd or the record is lost."""
        self.content.claim = claim
        self._claims += 1
        wanted, tenure = self._claims, self.tenure
        self._wake.fire()
        await self.wait(lambda: self._claims_written >= wanted or self.tenure != tenure or not self.stands)

    def reset(self) -> None:
        """Forget what was known: etcd shows another history."""
        self._header, self._news = None, 0
        self._become(self.state.reset())
        self._wake.fire()

    async def resign(self, timeout: float) -> bool:
        """Vacate the record after `run` has ended, so that another candidate takes it at once.

        The record is not held from the first moment on, whether etcd can be told within `timeout` seconds or not.
        Returns whether this candidate certainly does not hold it any more.
        """
        self._become(self.state.vacated())
        with anyio.move_on_after(timeout):
            while (seen := self.state.seen) is not None:
                ours = self.state.owns(seen)
                if not ours and not self.state.draft:
                    return True
                if ours and not self.state.may_vacate(self._clock.boot()):
                    # The last holder may still lead on this candidate's promise. A listed candidate takes over
                    # later.
                    return False
                if ours:
                    answer = await self._calls.swap(
                        seen, self.content.compose(self.state, leads=self.held, vacant=True)
                    )
                else:
                    # A write that is under way may win yet; and another holder's record must not be vacated.
                    answer = await self._calls.read()
                if isinstance(answer, Fault):
                    await self._calls.back_off()
                    continue
                if answer.written:
                    return True
                self._look(answer, self._clock.boot())
                if not ours and self.state.draft:
                    return False
            return True
        return False

    async def _do(self, do: Do) -> None:
        """Make one attempt at one step."""
        asked, claims, sent_at = self.state.seen, self._claims, self._clock.boot()
        if do is Do.LOOK_BACK:
            past = await self._calls.look_back(asked.mod_revision if asked is not None else 0)
            self._become(
                self.state.looked_at_history(
                    unprecedented=past is Past.NONE, cleared=past is Past.OVER, unknowable=past is Past.UNKNOWABLE
                )
            )
            return
        document: RecordDocument | None = None
        if do is Do.READ:
            answer = await self._calls.read()
        else:
            taking, renewing = do is Do.TAKE, do is Do.RENEW
            self.state = self.state.drafted(self._word())
            if taking:
                self.content.held_by = Holder.now(self.content.claim.name(), self._clock.wall())
            document = self.content.compose(self.state, leads=self.held, founding=do is Do.FOUND, taking=taking)
            self.state = self.state.offering(frozenset(document.listed))
            answer = await self._calls.swap(asked or Seen(), document, taking=taking, renewing=renewing)
        if isinstance(answer, Fault):
            if (refused := self._calls.refused) is not None and not self.state.held:
                raise public_error(refused, doing=f"campaign for {self._name}", writes=False)
            await self._calls.back_off()
            return
        # A renewal answered after the deadline begins another tenure: the present one was lost meanwhile.
        self._expire()
        if self.state.seen is not asked:
            pass  # a reset came between: the answer is about another history
        elif document is None or not answer.written:
            self._look(answer, sent_at)
            self.content.refuse_others()
        elif self._same_history(answer.header):
            self.content.document, self._seen_at = document, sent_at
            self._claims_written = self._claims_written if do is Do.FOUND else claims
            revision, now = answer.header.revision, self._clock.boot()
            self._become(self.state.succeeded(do, revision, sent_at, now, frozenset(document.listed)))

    def _look(self, answer: Answer, sent_at: float) -> None:
        """Apply an answer that shows the record."""
        if not self._same_history(answer.header):
            return
        seen, self._seen_at = self.content.read(answer.record, answer.token), sent_at
        self._become(self.state.observed(seen, sent_at, self._clock.boot()))

    def _same_history(self, header: Header) -> bool:
        """Compare an answer's header with the last one; answers of another history are not used.

        A lower raft term alone proves no other history.
        """
        before = self._header
        self._header = header
        if before is None or (header.cluster_id == before.cluster_id and header.revision >= before.revision):
            return True
        telemetry.election_reset(self._name)
        self._news = 0
        self._become(self.state.reset())
        return False

    def _expire(self) -> None:
        """Count the record as lost at its deadline, unless the claim stays beyond it."""
        # A candidate that waits for the end of a promise has lost nothing.
        if self.state.held and not self.stands and self._clock.boot() >= self.state.deadline:
            self._become(self.state.expired(self.overdue))
            self._wake.fire()

    def _become(self, state: Candidate) -> None:
        before, self.state = self.state, state
        if before.held and not state.held and state.loss:
            self._lost = self.tenure, state.loss
        if state.held and not before.held:
            self.tenure += 1
            self.regained = state.token == before.token
        self.changed.fire()

    async def _listen(self) -> None:
        def report(revision: int) -> None:
            self._news = revision
            self._wake.fire()

        await self._calls.listen(lambda: self._header.revision if self._header else 0, report)

    async def _watch_deadline(self) -> None:
        """Announce the loss at the deadline, whatever the steps are waiting for."""
        while True:
            changed, self.looked_at = self.changed.next(), self._clock.boot()
            self._expire()
            left = self.left if self.left > 0 else _TICK
            with anyio.move_on_after(min(max(left, _MOMENT), _TICK) if self.state.held else None):
                await changed.wait()
