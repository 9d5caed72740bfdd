"""A handle on an election, with the verbs of etcd."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from tideover.elections.admin import ElectionAdmin
from tideover.elections.candidacy import Candidacy
from tideover.elections.claim import LeaderOptions, OnOutage, check_name
from tideover.elections.elections import Elections
from tideover.elections.term import Term
from tideover.errors import LeadershipLost
from tideover.types import Leader


class Election:
    """A handle on an election, with the verbs of etcd: `campaign`, `proclaim`, `resign`, `observe`, `current`.

    For what does not fit into one block of code; where it does, `leader` is safer, because it ends its body.
    """

    def __init__(self, name: str, elections: Elections) -> None:
        check_name(name)
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
        """Wait until elected; this process then leads until `resign` or a loss.

        A loss cancels nothing: call `term.check()` before what only a leader may do. To lead again, campaign
        again.

        Args:
            ttl: Seconds; see `Coordinator.leader`, also for the others.
            on_outage: What the leader does in an outage.
            address: Where this candidate can be reached.
            value: What the leader publishes.

        Returns:
            The term.

        Raises:
            ValueError: An option is out of range.
            ElectionMismatch: The election's record says another `on_outage`.
            RecordCorrupt: The record cannot be read.
            PermissionDenied: This user may not read or write the record.
            LeadershipLost: Another task has called `resign`, or `campaign`, on this handle meanwhile.
            Closed: The coordinator is not open.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            Waits until etcd is back: without a quorum there are no elections.
        """
        elections = self._elections
        elections.home.check(self)
        if self._term is not None and self._term.leads:
            return self._term
        await self.resign()
        bid = elections.bid(self.name, LeaderOptions(ttl, on_outage, address, value))
        self._candidacy = candidacy = elections.stand(bid)
        try:
            self._term = term = await elections.elected(candidacy)
        except BaseException:
            if self._candidacy is candidacy:
                await self.resign()
            raise
        return term

    async def proclaim(self, value: str) -> None:
        """Publish another value; return when it is in etcd.

        Args:
            value: What observers see.

        Raises:
            LeadershipLost: This handle does not lead.
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
        await record.proclaim(replace(record.content.claim, value=value))
        self._term.check()

    async def resign(self) -> None:
        """Stop leading at once; another candidate is elected at once. No effect if this handle does not lead.

        Raises:
            WrongLoop: This is another event loop than the coordinator's; the leadership goes on.

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
        await self._elections.leave(candidacy, loss=loss, resigning=not loss)

    def admin(self) -> ElectionAdmin:
        """Return the record as an operator sees it: for the command line.

        Raises:
            Closed: The coordinator is not open.
        """
        return self._elections.admin(self.name)

    def office(self) -> ElectionAdmin:
        """Return `admin()`: the former name, for one release."""
        warnings.warn("Election.office() is now Election.admin()", DeprecationWarning, stacklevel=2)
        return self.admin()

    async def current(self) -> Leader | None:
        """Ask etcd for the leader.

        Returns:
            The leader that the record names, a dead one for a while too; None if the record is vacant.

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
        """Yield the leader, and again whenever the leader or its value changes; None for a vacant record.

        Raises:
            RecordCorrupt: The record cannot be read.
            PermissionDenied: This user may not read the record.
            Closed: The coordinator is not open, or was closed meanwhile.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            Yields nothing until etcd is back.
        """
        self._elections.home.check(self)
        async with aclosing(self._elections.observer(self.name).observe()) as seen:
            async for found in seen:
                yield found
