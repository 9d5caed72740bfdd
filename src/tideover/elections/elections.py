"""All elections of one coordinator: candidacies are made, remembered, shown and closed here."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Literal

import anyio

from tideover.client.client import Client
from tideover.client.parts import Part
from tideover.elections.admin import ElectionAdmin
from tideover.elections.followed import Followed
from tideover.elections.leader_view import LeaderView
from tideover.elections.leadership import Leadership
from tideover.elections.observer import Observer
from tideover.elections.peers.listener import PeerListener
from tideover.elections.peers.peering import Peering
from tideover.elections.record import CandidateClaim, ElectionRecord
from tideover.elections.rules.candidate import Timing
from tideover.elections.stall_watchdog import Watchdog
from tideover.elections.term import Candidacy, Term
from tideover.errors import Closed, LeadershipLost
from tideover.policies import Profile
from tideover.shown import quoted
from tideover.status import ElectionStatus, StallStatus
from tideover.types import Leader, Standing

OnOutage = Literal["step_down", "stay", "peers"]

# Bytes: the record is written every ttl / 3.
_MAX_VALUE = 65_536


class Elections(Part):
    """Makes candidacies, and ends them when the coordinator closes.

    Args:
        client: The way to etcd.
        profile: Decides what a leader does in an outage, if the call does not.
        desk: Where candidates are asked by others; None if they are not.
        watchdog: Notices a blocked event loop; None if nothing does.
    """

    def __init__(
        self,
        client: Client,
        *,
        profile: str,
        desk: PeerListener | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        self._client = client
        self.home = client.home
        self._desk = desk
        self._profile = profile
        self._watchdog = watchdog
        self._followed = Followed(client.home, self._view)
        self._running: list[Candidacy] = []
        # Candidates that lost their office by the clock alone: if it is still theirs, it is theirs again at once.
        # Each with until when, in boot-time seconds: after a ttl without another campaign it is not wanted back.
        self._regaining: dict[tuple[str, str, float], tuple[ElectionRecord, float]] = {}

    def __repr__(self) -> str:
        """Count the candidacies."""
        return f"<Elections {len(self._running)} candidacies, {sum(c.leads for c in self._running)} in office>"

    # What it offers --------------------------------------------------------------------------------------------

    def leader(
        self,
        name: str,
        *,
        ttl: float = 15.0,
        on_outage: OnOutage | None = None,
        address: str = "",
        value: str = "",
    ) -> Leadership:
        """Return a body's leadership; see `Coordinator.leader`."""
        check_name(name)
        timing = Timing(ttl)
        claim = self._claim(timing, on_outage, address, value)
        return Leadership(
            name,
            stand=lambda: self._stand(name, timing, claim),
            start=self.start,
            leave=self._leave,
            namespace=self._client.namespace,
            home=self.home,
        )

    @property
    def closed(self) -> str:
        """Why nothing can be led here; empty if it can."""
        return self._client.lifecycle.refusal or ""

    def election(self, name: str) -> Election:
        """Return a handle on an election; see `Coordinator.election`."""
        check_name(name)
        return Election(name, self)

    def follow_leader(self, name: str) -> LeaderView:
        """Return who leads an election, kept up to date; see `Coordinator.follow_leader`."""
        check_name(name)
        self._client.lifecycle.check()
        return self._followed.view(name)

    def _view(self, name: str) -> LeaderView:
        return LeaderView(
            name,
            self.observer(name),
            home=self.home,
            cluster=self._client.state,
            clock=self._client.clock,
            outage_id=self._client.outage_id,
            why=lambda: self._client.health.sentence,
        )

    def term(self, name: str) -> Term | None:
        """Return the term of an election that is led here; see `Coordinator.term`."""
        for candidacy in list(self._running):
            if candidacy.name == name and candidacy.term is not None and candidacy.term.ground is not None:
                return candidacy.term
        return None

    def standing(self, name: str) -> Standing | None:
        """Return on what ground an election is led here; see `Coordinator.standing`."""
        for candidacy in list(self._running):
            if candidacy.name == name and candidacy.term is not None and (ground := candidacy.term.ground):
                return ground
        return None

    def leader_address(self, name: str) -> str | None:
        """Return where another process that leads can be reached; see `Coordinator.leader_address`."""
        records = [candidacy.record for candidacy in list(self._running) if candidacy.name == name]
        ours = {text for record in records for text in (record.state.me, record.claim.address)}
        seen = (record.document for record in records if record.document and not record.document.vacant)
        others = (each.address for each in seen if each.holder not in ours and each.address not in ours)
        return next(others, "") if records else None

    def status(self) -> tuple[ElectionStatus, ...]:
        """Return how each candidacy stands. No I/O."""
        return tuple(_status(candidacy) for candidacy in list(self._running))

    def stalls(self) -> tuple[int, StallStatus | None]:
        """Return how often the event loop was blocked beyond a deadline, and what was found the last time."""
        return (0, None) if self._watchdog is None else (self._watchdog.stalls, self._watchdog.last())

    def leading(self) -> Mapping[tuple[str, str], int]:
        """Return how many terms there are, by election and standing."""
        standings = [(candidacy.name, candidacy.standing) for candidacy in list(self._running)]
        return Counter((name, standing.value) for name, standing in standings if standing is not None)

    def candidacies(self) -> Mapping[str, int]:
        """Return how many candidacies there are, by election, those that lead among them."""
        return Counter(candidacy.name for candidacy in list(self._running))

    # Life ------------------------------------------------------------------------------------------------------

    async def close(self, why: str) -> None:
        """Resign everything, so that others are elected at once; bounded in time."""
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
        """Take in that etcd shows another history: a definite no for all that is led here."""
        for candidacy in self._running:
            candidacy.record.reset()
        self._followed.reset()
        # What was theirs in the other history is not in this one.
        self._regaining.clear()

    def poison(self, why: str) -> None:
        """Refuse everything from now on."""
        self._followed.close(why)
        for candidacy in self._running:
            candidacy.ended = why

    # Candidacies -----------------------------------------------------------------------------------------------

    def _claim(self, timing: Timing, on_outage: OnOutage | None, address: str, value: str) -> CandidateClaim:
        if on_outage is None:
            safe: OnOutage = "step_down" if self._desk is None else "peers"
            on_outage = "stay" if self._profile == Profile.AVAILABILITY else safe
        if on_outage not in ("step_down", "stay", "peers"):
            raise ValueError(f"on_outage must be 'step_down', 'stay' or 'peers', not {quoted(on_outage)}")
        name, stays = self._client.process_name, on_outage == "stay"
        claim = CandidateClaim(on_outage, address, value, name=name, stays=stays)
        if on_outage == "peers":
            if self._desk is None:
                raise ValueError(
                    "on_outage='peers' asks the other candidates when etcd is away, and this process has no way "
                    "to ask them: give connect(failsafe=Failsafe(secret=...)) in all of them"
                )
            limit = float(self._desk.options.confirm_limit)
            if limit < timing.ttl:
                raise ValueError(
                    f"Failsafe(confirm_limit={limit:g}) is less than ttl={timing.ttl:g}: "
                    "nobody could ever be confirmed"
                )
            claim = replace(claim, limit=limit)
        return check_claim(claim)

    def _stand(self, name: str, timing: Timing, claim: CandidateClaim) -> Candidacy:
        self._client.lifecycle.check()
        if claim.limit and self._desk is not None:
            claim = replace(claim, peer=self._desk.address)
        self._forget_regaining()
        record, _ = self._regaining.pop((name, claim.policy, timing.ttl), (None, 0.0))
        if record is not None:
            record.claim = claim
        else:
            record = ElectionRecord(
                key_of(self._client.namespace, name),
                store=self._client.direct.store,
                cluster=self._client.state,
                clock=self._client.clock,
                timing=timing,
                claim=claim,
                chance=self._client.random,
            )
        peering: Peering | None = None
        if claim.limit and self._desk is not None:
            client = self._client
            peering = Peering(
                record, desk=self._desk, clock=client.clock, chance=client.random, epoch=client.epoch
            )
        candidacy = Candidacy(
            name,
            record,
            home=self.home,
            epoch=self._client.epoch,
            closing=self._client.state.closing,
            peering=peering,
            watchdog=self._watchdog,
        )
        self._running.append(candidacy)
        return candidacy

    def start(self, name: str, task: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run something in the background; `name` is what the log calls it."""
        if not self.home.start(name, task, *args):
            raise Closed(self.closed)

    def _leave(self, candidacy: Candidacy, resigned: bool) -> None:
        self._running.remove(candidacy)
        record, seen = candidacy.record, candidacy.record.state.seen
        if not resigned and not candidacy.ended and seen is not None and record.state.owns(seen):
            until = self._client.clock.boot() + record.timing.ttl
            self._regaining[candidacy.name, record.claim.policy, record.timing.ttl] = record, until
        self._forget_regaining()

    def _forget_regaining(self) -> None:
        now = self._client.clock.boot()
        self._regaining = {key: kept for key, kept in self._regaining.items() if now < kept[1]}

    def observer(self, name: str) -> Observer:
        """Return what reads an election's record.

        Raises:
            Closed: The coordinator is not open.
        """
        self._client.lifecycle.check()
        return Observer(
            key_of(self._client.namespace, name),
            store=self._client.direct.store,
            gateway=self._client.calls,
            cluster=self._client.state,
            closed=lambda: self.closed,
        )

    def office(self, name: str) -> ElectionAdmin:
        """Return an election's record as an operator sees it.

        Raises:
            Closed: The coordinator is not open.
        """
        self._client.lifecycle.check()
        return ElectionAdmin(key_of(self._client.namespace, name), home=self.home, gateway=self._client.calls)


class Election:
    """A handle on an election, with the verbs of etcd: `campaign`, `proclaim`, `resign`, `observe`, `current`.

    For what does not fit into one block of code; where it does, `leader` is safer, because it ends its body.

    Args:
        name: The election.
        elections: Whose it is.
    """

    def __init__(self, name: str, elections: Elections) -> None:
        self.name = name
        self._elections = elections
        self._candidacy: Candidacy | None = None
        self._term: Term | None = None

    def __repr__(self) -> str:
        """Show the term, if there is one."""
        return f"<Election {self.name!r} {self._term or 'no term'}>"

    async def campaign(
        self, *, ttl: float = 15.0, on_outage: OnOutage | None = None, address: str = "", value: str = ""
    ) -> Term:
        """Wait until elected; from then on it is led here, until `resign` or a loss.

        Nothing is cancelled at a loss: call `term.check()` before what only a leader may do. To lead again,
        campaign again.

        Args:
            ttl: Seconds; see `Coordinator.leader`, also for the others.
            on_outage: What the leader does in an outage.
            address: Where this candidate can be reached.
            value: What it has to say once it leads.

        Returns:
            The term.

        Raises:
            ValueError: An option is out of range.
            ElectionMismatch: The election's record says another `on_outage`.
            RecordCorrupt: The record cannot be read.
            PermissionDenied: This user may not read or write it.
            LeadershipLost: Another task has called `resign`, or `campaign`, on this handle meanwhile.
            Closed: The coordinator is not open.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            Waits until etcd is back: nobody is elected without a quorum.
        """
        elections = self._elections
        elections.home.check(self)
        if self._term is not None and self._term.leads:
            return self._term
        await self.resign()
        timing = Timing(ttl)
        claim = elections._claim(timing, on_outage, address, value)
        self._candidacy = candidacy = elections._stand(self.name, timing, claim)
        elections.start(f"candidate for {self.name}", candidacy.run)
        try:
            self._term = term = await candidacy.elected(elections._client.namespace)
        except BaseException:
            if self._candidacy is candidacy:
                await self.resign()
            raise
        return term

    async def proclaim(self, value: str) -> None:
        """Publish another value; returns when it is in etcd.

        Args:
            value: What observers are to see.

        Raises:
            LeadershipLost: It is not led here.
            ValueError: The value is too long.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            Waits until etcd is back or the leadership is lost.
        """
        self._elections.home.check(self)
        if self._candidacy is None or self._term is None:
            raise LeadershipLost(f"{self.name!r} is not led here: campaign first")
        self._term.check()
        record = self._candidacy.record
        await record.proclaim(check_claim(replace(record.claim, value=value)))
        self._term.check()

    async def resign(self) -> None:
        """Lead no more, from now on; another candidate is elected at once. No effect if it is not led here.

        Raises:
            WrongLoop: This is another event loop than the coordinator's; it leads on.

        When degraded:
            Tries for 2 s to tell etcd, which it shares with all that is closed in a row while an outage is
            declared; others are then elected after the ttl and its margin.
        """
        self._elections.home.check(self)
        candidacy, self._candidacy = self._candidacy, None
        term, self._term = self._term, None
        if candidacy is None:
            return
        loss = term.loss if term is not None else ""
        if term is not None:
            term.end("it was resigned")
        else:
            candidacy.withdraw()
        with anyio.CancelScope(shield=True):
            resigned = await candidacy.leave(loss=loss, resigning=not loss)
        self._elections._leave(candidacy, resigned)

    def office(self) -> ElectionAdmin:
        """Return the record as an operator sees it: for the command line.

        Raises:
            Closed: The coordinator is not open.
        """
        return self._elections.office(self.name)

    async def current(self) -> Leader | None:
        """Ask etcd who leads.

        Returns:
            The leader its record names, which a dead one does for a while; None if the office is vacant.

        Raises:
            Unavailable: etcd is away.
            RecordCorrupt: The record cannot be read.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            Raises; an old answer would be no answer to "who leads now".
        """
        self._elections.home.check(self)
        return await self._elections.observer(self.name).current()

    async def observe(self) -> AsyncGenerator[Leader | None, None]:
        """Yield who leads, and again whenever that or the published value changes; None for a vacant office.

        Raises:
            RecordCorrupt: The record cannot be read.
            PermissionDenied: This user may not read it.
            Closed: The coordinator is not open, or was closed meanwhile.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            Yields nothing until etcd is back.
        """
        self._elections.home.check(self)
        async with aclosing(self._elections.observer(self.name).observe()) as seen:
            async for found in seen:
                yield found


def key_of(namespace: str, name: str) -> bytes:
    """Return the key of an election's record."""
    return f"{namespace}/elections/{name}".encode()


def check_name(name: str) -> None:
    """Reject a name that is none, or whose record would be another one's token."""
    if not isinstance(name, str):
        raise TypeError(f"an election's name must be a string, not {quoted(name)}")
    parts = name.split("/")
    if "\0" in name or "" in parts or (len(parts) > 1 and parts[-1] == "token"):
        raise ValueError(
            f"an election's name must be like 'reaper' or 'a/b', and not end in '/token': {quoted(name)}"
        )


def check_claim(claim: CandidateClaim) -> CandidateClaim:
    """Reject what is too long to be written again and again; return the rest."""
    for what, text in (("address", claim.address), ("value", claim.value)):
        if not isinstance(text, str):
            raise TypeError(f"{what} must be a string, not {quoted(text)}")
        if len(text.encode()) > _MAX_VALUE:
            raise ValueError(f"{what} must have at most {_MAX_VALUE} bytes, not {len(text.encode())}")
    return claim


def _status(candidacy: Candidacy) -> ElectionStatus:
    record, leads = candidacy.record, candidacy.leads
    led = record.document if record.document and not record.document.vacant else None
    trouble = record.error.brief if record.error else record.state.loss
    return ElectionStatus(
        name=candidacy.name,
        standing=candidacy.standing,
        on_outage=record.claim.policy,
        token=record.state.token if leads else None,
        remaining=record.left if leads else None,
        holder=led.holder if led else None,
        error=str(candidacy.refusal or trouble or "") or None,
        listed=None if candidacy.peering is None else candidacy.peering.listed,
        peers=None if candidacy.peering is None or not record.state.held else len(record.state.electorate),
        silent=() if candidacy.peering is None else candidacy.peering.silent,
        held_by=led.holder_shown or None if led else None,
        ttl=record.timing.ttl,
        renewed_ago=record.renewed_ago if leads else None,
        seen_ago=record.seen_ago,
        address=led.address or None if led else None,
        overdue=candidacy.overdue,
    )
