"""All elections of one coordinator: candidacies are made, listed and closed here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import anyio

from tideover.client.client import Client
from tideover.client.parts import Part
from tideover.elections.admin import ElectionAdmin
from tideover.elections.candidacy import Candidacy
from tideover.elections.claim import CandidateClaim, LeaderOptions, OnOutage, check_name, key_of
from tideover.elections.followed import Followed
from tideover.elections.leader_view import LeaderView
from tideover.elections.observer import Observer
from tideover.elections.peers.listener import PeerListener
from tideover.elections.peers.peering import Peering
from tideover.elections.record import ElectionRecord
from tideover.elections.rules.candidate import Timing
from tideover.elections.stall_watchdog import Watchdog
from tideover.elections.term import Term
from tideover.errors import Closed
from tideover.policies import Profile
from tideover.shown import quoted
from tideover.status import ElectionStatus, StallStatus
from tideover.types import Standing


@dataclass(frozen=True, slots=True)
class Bid:
    """A candidacy to be: its election, and its checked options."""

    name: str
    timing: Timing
    claim: CandidateClaim


class Elections(Part):
    """Makes candidacies, and ends them when the coordinator closes."""

    def __init__(
        self,
        client: Client,
        *,
        profile: str,
        listener: PeerListener | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.home = client.home
        self._client = client
        self._listener = listener
        self._profile = profile
        self._watchdog = watchdog
        self._followed = Followed(client.home, self._view)
        # Each candidacy with its term, once elected.
        self._running: dict[Candidacy, Term | None] = {}
        # Records lost by the clock alone, by name, policy and ttl: if the same candidate still holds its record,
        # its next candidacy leads again at once. Each is kept for a ttl, until a time in boot-time seconds.
        self._regaining: dict[tuple[str, str, float], tuple[ElectionRecord, float]] = {}

    def __repr__(self) -> str:
        """Count the candidacies."""
        return f"<Elections {len(self._running)} candidacies, {sum(c.leads for c in self._running)} lead>"

    @property
    def closed(self) -> str:
        """Why this process can lead nothing; empty while it can."""
        return self._client.lifecycle.refusal or ""

    def bid(self, name: str, options: LeaderOptions) -> Bid:
        """Return a candidacy to be; raise `TypeError` or `ValueError` for its options."""
        check_name(name)
        timing = Timing(options.ttl)
        policy, limit = self._policy(options.on_outage), 0.0
        if policy == "peers":
            if self._listener is None:
                raise ValueError(
                    "on_outage='peers' asks the other candidates when etcd is away, and this process has no way "
                    "to ask them: give connect(failsafe=Failsafe(secret=...)) in all of them"
                )
            limit = float(self._listener.options.confirm_limit)
            if limit < timing.ttl:
                raise ValueError(
                    f"Failsafe(confirm_limit={limit:g}) is less than ttl={timing.ttl:g}: "
                    "nobody could ever be confirmed"
                )
        claim = CandidateClaim(
            policy,
            options.address,
            options.value,
            name=self._client.process_name,
            stays=policy == "stay",
            limit=limit,
        )
        return Bid(name, timing, claim)

    def _policy(self, on_outage: OnOutage | None) -> OnOutage:
        if on_outage is None:
            if self._profile == Profile.AVAILABILITY:
                return "stay"
            return "step_down" if self._listener is None else "peers"
        if on_outage not in ("step_down", "stay", "peers"):
            raise ValueError(f"on_outage must be 'step_down', 'stay' or 'peers', not {quoted(on_outage)}")
        return on_outage

    def stand(self, bid: Bid) -> Candidacy:
        """Start a candidacy in the background, unless the coordinator is not open."""
        self._client.lifecycle.check()
        record, peering = self._record(bid), None
        if record.content.claim.limit and self._listener is not None:
            peering = Peering(record, self._client, self._listener)
        candidacy = Candidacy(bid.name, record, self._client, peering=peering, watchdog=self._watchdog)
        self.start(f"candidate for {bid.name}", candidacy.run)
        self._running[candidacy] = None
        return candidacy

    def _record(self, bid: Bid) -> ElectionRecord:
        claim = bid.claim
        if claim.limit and self._listener is not None:
            claim = replace(claim, peer=self._listener.address)
        self._forget_regaining()
        record, _ = self._regaining.pop((bid.name, claim.policy, bid.timing.ttl), (None, 0.0))
        if record is not None:
            record.content.claim = claim
            return record
        key = key_of(self._client.namespace, bid.name)
        return ElectionRecord(key, self._client, timing=bid.timing, claim=claim)

    async def elected(self, candidacy: Candidacy) -> Term:
        """Wait until a candidacy leads, and return its term; raise if that can never be."""
        await candidacy.elected(self._client.namespace)
        term = Term(candidacy)
        if candidacy in self._running:
            self._running[candidacy] = term
        return term

    async def leave(
        self, candidacy: Candidacy, *, loss: str = "", raised: BaseException | None = None, resigning: bool = True
    ) -> None:
        """End a candidacy, even while the caller is cancelled; see `Candidacy.leave`."""
        resigned = False
        try:
            with anyio.CancelScope(shield=True):
                resigned = await candidacy.leave(loss=loss, raised=raised, resigning=resigning)
        finally:
            del self._running[candidacy]
            record, seen = candidacy.record, candidacy.record.state.seen
            if not resigned and not candidacy.ended and seen is not None and record.state.owns(seen):
                until = self._client.clock.boot() + record.timing.ttl
                self._regaining[candidacy.name, record.content.claim.policy, record.timing.ttl] = record, until
            self._forget_regaining()

    def _forget_regaining(self) -> None:
        now = self._client.clock.boot()
        self._regaining = {key: kept for key, kept in self._regaining.items() if now < kept[1]}

    def start(self, name: str, task: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run a task in the background; `name` is for the log."""
        if not self.home.start(name, task, *args):
            raise Closed(self.closed)

    def follow_leader(self, name: str) -> LeaderView:
        """Return the view of an election's leader; see `Coordinator.follow_leader`."""
        check_name(name)
        self._client.lifecycle.check()
        return self._followed.view(name)

    def _view(self, name: str) -> LeaderView:
        return LeaderView(name, self.observer(name), self._client)

    def observer(self, name: str) -> Observer:
        """Return the reader of an election's record. Raises `Closed`: the coordinator is not open."""
        self._client.lifecycle.check()
        return Observer(key_of(self._client.namespace, name), self._client)

    def admin(self, name: str) -> ElectionAdmin:
        """Return an election's record as an operator sees it. Raises `Closed`: the coordinator is not open."""
        self._client.lifecycle.check()
        return ElectionAdmin(key_of(self._client.namespace, name), self._client)

    def term(self, name: str) -> Term | None:
        """Return the present term of an election; see `Coordinator.term`."""
        for candidacy, term in list(self._running.items()):
            if candidacy.name == name and term is not None and term.present_standing is not None:
                return term
        return None

    def standing(self, name: str) -> Standing | None:
        """Return the standing of an election that this process leads; see `Coordinator.standing`."""
        for candidacy, term in list(self._running.items()):
            if candidacy.name == name and term is not None and (standing := term.present_standing):
                return standing
        return None

    def leader_address(self, name: str) -> str | None:
        """Return the address of another process that leads; see `Coordinator.leader_address`."""
        records = [candidacy.record for candidacy in list(self._running) if candidacy.name == name]
        ours = {text for record in records for text in (record.state.me, record.content.claim.address)}
        seen = (document for record in records if (document := record.content.in_force) is not None)
        others = (each.address for each in seen if each.holder not in ours and each.address not in ours)
        return next(others, "") if records else None

    def status(self) -> tuple[ElectionStatus, ...]:
        """Return the status of each candidacy. No I/O."""
        return tuple(candidacy.status() for candidacy in list(self._running))

    def stalls(self) -> tuple[int, StallStatus | None]:
        """Return how often the event loop was blocked beyond a deadline, and the last stall."""
        return (0, None) if self._watchdog is None else (self._watchdog.stalls, self._watchdog.last())

    def leading(self) -> Mapping[tuple[str, str], int]:
        """Count the leaderships by election and standing."""
        standings = [(candidacy.name, candidacy.standing) for candidacy in list(self._running)]
        return Counter((name, standing.value) for name, standing in standings if standing is not None)

    def candidacies(self) -> Mapping[str, int]:
        """Count the candidacies by election, those that lead among them."""
        return Counter(candidacy.name for candidacy in list(self._running))

    async def close(self, why: str) -> None:
        """Resign every election, so that other processes lead at once; bounded in time."""
        self.poison(why)
        async with anyio.create_task_group() as tasks:
            for candidacy in self._running:
                candidacy.ended = why
                candidacy.record.changed.fire()
                tasks.start_soon(candidacy.leave)
            for record, _ in self._regaining.values():
                tasks.start_soon(record.resign, self._client.state.closing.seconds())
        if self._watchdog is not None:
            self._watchdog.close()

    def reset(self, why: str, revision: int) -> None:
        """Count every leadership as lost: etcd shows another history."""
        for candidacy in self._running:
            candidacy.record.reset()
        self._followed.reset()
        # Records of the other history are not in this one.
        self._regaining.clear()

    def poison(self, why: str) -> None:
        """Refuse everything from now on."""
        self._followed.close(why)
        for candidacy in self._running:
            candidacy.ended = why
