"""A record renewed by compare-and-swap: one candidate's dealings with one key in etcd. No lease.

Guarantees. `held` is computed from the clock at each use, and is true for one candidate at a time (under the
policies that end at the deadline), whatever etcd, the network or this process go through; the rules are in
`rules.candidate`. `token` grows with every change of hands and stays the same over renewals.

Why no lease: an etcd process that stalls acknowledges leases that are gone already, and takes others away that
were just renewed (docs/explanation/leadership-in-an-outage.md). A swap is decided by the quorum or not at all.

Renewals go to the members directly, with a second each: they wait behind nobody and no breaker refuses them. A
watch only tells when to look; what counts are linearizable answers.

Prior art: client-go's `leaderelection`, which renews a lock object in the same way, but takes over by a clock that
does not notice its own gaps.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import anyio

from tideover import telemetry
from tideover.broadcast import Broadcast
from tideover.clock import Clock
from tideover.cluster.state import ClusterState
from tideover.elections.record_calls import Past, RecordCalls
from tideover.elections.record_document import RecordDocument, decode, entry
from tideover.elections.rules.candidate import Candidate, Do, Seen, Step, Timing
from tideover.errors import ElectionMismatch, RecordCorrupt, TideoverError
from tideover.holders import NOBODY, Holder, process_name
from tideover.shown import shown
from tideover.store.faults import Fault, public_error
from tideover.store.operations import Put, Range, ReadBatchResult
from tideover.store.protocol import Store
from tideover.store.transactions import Compare, Txn, TxnResult
from tideover.types import Entry, Header

# At the most so long after a suspended machine resumes, or a clock was found to have run on, is a loss announced.
_TICK = 0.25
# Less than this cannot be slept for: a clock's rounding would make a loop of it.
_MOMENT = 0.001


@dataclass(frozen=True, slots=True)
class CandidateClaim:
    """What a candidate writes into the record when it holds it.

    Attributes:
        policy: What a holder does in an outage; all candidates must say the same.
        address: Where it can be reached.
        value: What it has to say.
        name: Returns the name of this process, for people.
        stays: Whether it stays beyond the deadline, until it sees that the record has changed.
        peer: Where the other candidates reach it, if they are asked in an outage.
        limit: Seconds for which it may then be confirmed without a renewal; 0 if it never is.
    """

    policy: str
    address: str = ""
    value: str = ""
    name: Callable[[], str] = process_name
    stays: bool = False
    peer: str = ""
    limit: float = 0.0


class ElectionRecord:
    """One candidate for one record.

    Args:
        key: The record's key; its token is beside it, under `/token`.
        store: The cluster.
        cluster: Whom to ask.
        clock: The clocks; deadlines are on the boot-time clock, which counts while the machine is suspended.
        timing: The numbers.
        claim: What to write.
        chance: Draws a number uniformly from [0, 1).
        word: Makes random words.

    Attributes:
        state: What is known, and what follows from it.
        document: The record as last read; None if there was none.
        tenure: How often it has been entered.
        regained: Whether the last of these times goes on with the term of the one before.
        corrupt: Why it cannot be read; None if it can.
        changed: Fires when the state changed.
        wanted: Returns whom the record should list, with their addresses, as long as it is held.
        looked_at: When the event loop last looked at the deadline, in boot-time seconds.
    """

    def __init__(
        self,
        key: bytes,
        *,
        store: Store,
        cluster: ClusterState,
        clock: Clock,
        timing: Timing,
        claim: CandidateClaim,
        chance: Callable[[], float],
        word: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self.key = key
        self.token_key = key + b"/token"
        self.claim = claim
        self.timing = timing
        self.state = Candidate(word(), timing, limit=claim.limit)
        self.wanted: Callable[[], dict[str, str]] = dict
        self.document: RecordDocument | None = None
        self.tenure = 0
        self.regained = False
        self.corrupt: RecordCorrupt | None = None
        self.changed = Broadcast()
        self.looked_at = -math.inf
        self._clock = clock
        self._word = word
        self._calls = RecordCalls(
            key,
            self.token_key,
            store=store,
            cluster=cluster,
            clock=clock,
            timeout=timing.rpc_timeout,
            longest=timing.longest_rpc,
            chance=chance,
        )
        self._header: Header | None = None
        self._seen_at = -math.inf
        self._sent: RecordDocument | None = None
        # The same for the whole term.
        self._held_by = NOBODY
        # The last tenure that was lost, and why: the next one may have begun before anybody asks.
        self._lost = (0, "")
        self._wake = Broadcast()
        # The newest revision that a watch has told of.
        self._news = 0
        # What is written is counted, so that who changes the claim can wait until it is in etcd.
        self._claims = 0
        self._claims_written = 0

    def __repr__(self) -> str:
        """Show the key, who we are, and how the matter stands."""
        state = "held" if self.held else f"lost: {self.state.loss}" if self.state.loss else "not held"
        return f"<ElectionRecord {self._name} as {self.state.me}: {state}>"

    @property
    def _name(self) -> str:
        return shown(self.key)

    # What is believed ------------------------------------------------------------------------------------------

    @property
    def held(self) -> bool:
        """Whether it is ours for certain, at this moment."""
        return self.state.believes(self._clock.boot())

    @property
    def stands(self) -> bool:
        """Whether it is ours as far as is known: for a claim that stays, also beyond the deadline, in an outage.

        A quorum that refuses to let this user renew is no outage: others may well take over.
        """
        return self.held or (self.claim.stays and self.state.held and self._calls.refused is None)

    @property
    def refused(self) -> bool:
        """Whether etcd has answered with a definite no: that is no outage."""
        return self._calls.refused is not None

    @property
    def error(self) -> Fault | None:
        """What went wrong last; None if the last call was answered."""
        return self._calls.error

    @property
    def now(self) -> float:
        """The time on the clock of its deadline, in seconds."""
        return self._clock.boot()

    @property
    def left(self) -> float:
        """Seconds until the deadline; negative beyond it."""
        return self.state.deadline - self._clock.boot()

    @property
    def renewed_ago(self) -> float:
        """Seconds since the last renewal that was answered was sent; infinite if there was none."""
        return self._clock.boot() - self.state.renewed_at

    @property
    def seen_ago(self) -> float | None:
        """Seconds since the record was last seen in etcd; None if it never was."""
        ago = self._clock.boot() - self._seen_at
        return ago if math.isfinite(ago) else None

    def doubt(self, why: str) -> None:
        """Take in that a guarded write was refused: the record is lost, and looked at anew."""
        self._become(self.state.doubted(why))
        self._wake.fire()

    def loss_of(self, tenure: int) -> str:
        """Return why a tenure was lost; before that was noticed it can only have been the deadline."""
        return self._lost[1] if self._lost[0] == tenure else self.overdue

    @property
    def overdue(self) -> str:
        """What to say of a deadline that has passed, with what the last renewal was answered, if it failed."""
        return "it could not be renewed in time" + (f" ({self.error.brief})" if self.error else "")

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true of the record; while it is held that may be so because time passes."""
        while not condition():
            await self.changed.wait(_TICK if self.state.held else None)

    # Life ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take the record as soon as that is right, and keep it; until cancelled.

        Raises:
            RecordCorrupt: It cannot be read; it is left alone.
            ElectionMismatch: It says another policy.
            PermissionDenied: This user may not read or write it.
            AuthenticationFailed: A quorum refuses this client's credentials.
        """
        refusal: TideoverError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen)
            tasks.start_soon(self._watch_deadline)
            try:
                await self._take_steps()
            except TideoverError as exc:
                # Not from within the group, which would make a group of it.
                refusal = exc
                tasks.cancel_scope.cancel()
        if refusal is not None:
            raise refusal

    async def _take_steps(self) -> None:
        while True:
            self._expire()
            news, now = self._wake.next(), self._clock.boot()
            step = self.state.step(now)
            if step.at > now and self.state.held and (self._claims > self._claims_written or self._outdated):
                step = Step(Do.RENEW)
            elif step.at > now and self._news > (self._header.revision if self._header else 0):
                step = Step(Do.READ)
            if step.at <= now:
                await self._do(step.do)
                continue
            with anyio.move_on_after(step.at - now):
                await news.wait()

    def learn(self, state: Candidate) -> None:
        """Take in what was learnt without etcd.

        Args:
            state: What is known, and what follows from it, from now on.
        """
        if state != self.state:
            self._become(state)
            self._wake.fire()

    def review(self) -> None:
        """Look whether the record says what it should, because `wanted` may return something else by now."""
        self._wake.fire()
        self.changed.fire()

    @property
    def _outdated(self) -> bool:
        """Whether the record lists others than it should, or does not say that its holder is in office."""
        written = self.document
        if not self.claim.limit or written is None or not self.held:
            return False
        return not written.entered or written.listed != self.wanted()

    async def proclaim(self, claim: CandidateClaim) -> None:
        """Write another claim, with a renewal at once, and return when it is in etcd or the record is lost.

        Args:
            claim: The claim; the policy must be the same.
        """
        self.claim = claim
        self._claims += 1
        wanted, tenure = self._claims, self.tenure
        self._wake.fire()
        await self.wait(lambda: self._claims_written >= wanted or self.tenure != tenure or not self.stands)

    def reset(self) -> None:
        """Take in that etcd shows another history."""
        self._header, self._news = None, 0
        self._become(self.state.reset())
        self._wake.fire()

    async def resign(self, timeout: float) -> bool:
        """Give the record up, so that another takes it at once. To be called when `run` has ended.

        It is no longer held from the first moment on, whether etcd can be told or not.

        Args:
            timeout: Seconds for telling etcd.

        Returns:
            Whether the record is certain not to be ours.
        """
        self._become(self.state.vacated())
        with anyio.move_on_after(timeout):
            while (seen := self.state.seen) is not None:
                ours = self.state.owns(seen)
                if not ours and not self.state.draft:
                    return True
                answer: ReadBatchResult | TxnResult | Fault
                if ours and not self.state.may_vacate(self._clock.boot()):
                    # Another may still lead on the promise that we gave. Who is listed takes it over in time.
                    return False
                if ours:
                    answer = await self._calls.swap(self._swap(seen, self._document(seen, vacant=True)))
                else:
                    # A write that is under way may win yet; and what is not ours must not be given up.
                    answer = await self._calls.read()
                if isinstance(answer, Fault):
                    await self._calls.rest()
                    continue
                if isinstance(answer, TxnResult) and answer.succeeded:
                    return True
                self._look(answer, self._clock.boot())
                if not ours and self.state.draft:
                    return False
            return True
        return False

    # Steps -----------------------------------------------------------------------------------------------------

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
        if do is Do.READ:
            answer: ReadBatchResult | TxnResult | Fault = await self._calls.read()
        else:
            self.state = self.state.drafted(self._word())
            write = self._write(do)
            self.state = self.state.offering(self._listed())
            answer = await self._calls.swap(write)
        if isinstance(answer, Fault):
            if (refused := self._calls.refused) is not None and not self.state.held:
                raise public_error(refused, doing=f"campaign for {self._name}", writes=False)
            await self._calls.rest()
            return
        # A renewal answered after the deadline begins anew: who relied on the record has lost it meanwhile.
        self._expire()
        if self.state.seen is not asked:
            pass  # a reset came between: the answer is about what is no more
        elif not (isinstance(answer, TxnResult) and answer.succeeded):
            self._look(answer, sent_at)
            self._refuse_others()
        elif self._same_history(answer.header):
            self.document, self._seen_at = self._sent, sent_at
            self._claims_written = self._claims_written if do is Do.FOUND else claims
            revision, now = answer.header.revision, self._clock.boot()
            self._become(self.state.succeeded(do, revision, sent_at, now, self._listed()))

    def _look(self, answer: TxnResult | ReadBatchResult, sent_at: float) -> None:
        """Take in what an answer shows of the record."""
        if not self._same_history(answer.header):
            return
        shown = (
            answer.entries(0).entries | answer.entries(1).entries
            if isinstance(answer, TxnResult)
            else answer.entries
        )
        seen, self._seen_at = self._understand(shown.get(self.key), shown.get(self.token_key)), sent_at
        self._become(self.state.observed(seen, sent_at, self._clock.boot()))

    def _refuse_others(self) -> None:
        """Have nothing to do with a record that is no record, or one of another policy."""
        if self.corrupt is not None:
            raise self.corrupt
        found = self.document
        if found is not None and found.policy != self.claim.policy:
            raise ElectionMismatch(
                f"{self._name} is an election with on_outage='{shown(found.policy)}', and this candidate asks for "
                f"{self.claim.policy!r}: all candidates must say the same"
            )

    def _understand(self, record: Entry | None, token: Entry | None) -> Seen:
        self.document = self.corrupt = None
        if record is None:
            return Seen()
        try:
            self.document = found = decode(record.value, self.key)
        except RecordCorrupt as exc:
            self.corrupt = exc
            # Whoever that is: it is not us.
            return Seen(record.mod_revision, holder="somebody who writes no records")
        return Seen(
            record.mod_revision,
            holder=found.holder,
            write=found.write,
            vacant=found.vacant,
            ttl=found.ttl,
            token=token.mod_revision if token else 0,
            term=found.term,
            candidates=frozenset(found.listed),
            limit=found.limit,
            name=found.holder_shown,
        )

    def _same_history(self, header: Header) -> bool:
        """Take in who answered; what another history answers is not used. A lower term alone proves none."""
        before = self._header
        self._header = header
        if before is None or (header.cluster_id == before.cluster_id and header.revision >= before.revision):
            return True
        telemetry.election_reset(self._name)
        self._news = 0
        self._become(self.state.reset())
        return False

    def _expire(self) -> None:
        """Give the record up at its deadline, unless the claim stays beyond it."""
        # Who has to wait for the end of a promise has lost nothing.
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

    # Requests --------------------------------------------------------------------------------------------------

    def _write(self, do: Do) -> Txn:
        seen = self.state.seen or Seen()
        if do is Do.TAKE:
            self._held_by = Holder.now(self.claim.name(), self._clock.wall())
        document = self._document(seen, founding=do is Do.FOUND, taking=do is Do.TAKE)
        return self._swap(seen, document, taking=do is Do.TAKE, renewing=do is Do.RENEW)

    def _document(
        self, seen: Seen, *, founding: bool = False, taking: bool = False, vacant: bool = False
    ) -> RecordDocument:
        before, claim = self.document, self.claim
        return RecordDocument(
            holder="" if founding else self.state.me,
            term=(before.term if before else 0) + taking,
            policy=claim.policy,
            ttl=self.timing.ttl,
            write=self.state.draft or self._word(),
            vacant=vacant,
            candidates=() if founding else self._candidates(taking=taking),
            address="" if founding or vacant else claim.address,
            value="" if founding or vacant else claim.value,
            held_by=NOBODY if founding or vacant else self._held_by,
            peer="" if founding or vacant else claim.peer,
            limit=claim.limit,
            # Whether it is, is known when it has been taken, and written with a renewal right then.
            entered=not claim.limit or (self.held and not taking),
            extra=before.extra if before else {},
        )

    def _candidates(self, *, taking: bool) -> tuple[str, ...]:
        """Return whom to list. Only a holder in office changes that, but for its own place on the list."""
        listed = self.document.listed if self.document else {}
        if self.claim.limit and self.held and not taking:
            listed = self.wanted()
        return tuple(entry(name, address) for name, address in listed.items() if name != self.state.me)

    def _listed(self) -> frozenset[str]:
        return frozenset(self._sent.listed) if self._sent is not None else frozenset()

    def _swap(self, seen: Seen, document: RecordDocument, *, taking: bool = False, renewing: bool = False) -> Txn:
        """Return the write of a document over the record as it was seen; if it fails, it shows the record."""
        self._sent = document
        put = Put(self.key, document.encode())
        token = (Put(self.token_key, self.state.me.encode()),) if taking else ()
        fence = (Compare(self.token_key, mod_revision=seen.token),) if renewing else ()
        return Txn(
            (Compare(self.key, mod_revision=seen.mod_revision), *fence),
            then=(put, *token),
            otherwise=(Range(self.key), Range(self.token_key)),
        )

    # Beside the steps ------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Look whenever a watch says that there is something new."""

        def tell(revision: int) -> None:
            self._news = revision
            self._wake.fire()

        await self._calls.listen(lambda: self._header.revision if self._header else 0, tell)

    async def _watch_deadline(self) -> None:
        """Give the record up at its deadline, whatever the steps are waiting for."""
        while True:
            changed, self.looked_at = self.changed.next(), self._clock.boot()
            self._expire()
            left = self.left if self.left > 0 else _TICK
            with anyio.move_on_after(min(max(left, _MOMENT), _TICK) if self.state.held else None):
                await changed.wait()
