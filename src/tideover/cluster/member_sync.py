"""The task that keeps the members in use in line with the names given and with the cluster's own list.

The list is read at the member in use: after the start, about once a minute, and soon after trouble. A member on it
that was not given is looked for at its advertised addresses. It joins only once it has answered there with the
id that it has on the list. Until then it is nowhere, so that a list full of addresses that mean nothing here (a
forwarded port, a container) changes neither health nor whom calls go to. Given endpoints always stay.

Prior art: `Sync` of etcd's Go client replaces the endpoints by the list, and cuts off who came through a tunnel.
"""

from __future__ import annotations

import math

import anyio

from tideover import telemetry
from tideover.cluster.dns import Names
from tideover.cluster.rules.membership import plan
from tideover.cluster.state import ClusterState
from tideover.shown import shown
from tideover.store.endpoints import Address, advertised, is_loopback, is_name
from tideover.store.faults import FaultKind, StoreFault
from tideover.store.operations import MemberList, MemberListResult, Status
from tideover.store.protocol import Store
from tideover.ticker import Ticker
from tideover.types import ClusterMember

# Seconds between two looks at whether something is due, at the most: as between looks at watches, so that both are
# taken at one wake-up.
_TICK = 1.0
# Between two reads of the list: usually, and at the least, and how much more by chance, so that clients do not ask
# in step.
_LIST_EVERY = 60.0
_LIST_AGAIN = 5.0
_LIST_AGAIN_JITTER = 0.2
# Between two look-ups of names, shortened by chance by a quarter at the most: while all is well, while a member is
# missing, and while no quorum answers.
_NAMES_EVERY = 60.0
_NAMES_MISSING = 5.0
_NAMES_OUTAGE = 2.0
# For one question, and for looking up names.
_TIMEOUT = 1.0
_NAMES_TIMEOUT = 5.0


class MemberSync:
    """Keeps the members up to date; `learned` is set once the list has been read, or that has failed.

    Many attributes: what it acts on, the times of the next looks, and as of when the list was last read.

    Args:
        sync: Whether to connect to members that were not given. The list is read either way, because it says how
            many make a quorum.
    """

    def __init__(
        self,
        store: Store,
        cluster: ClusterState,
        *,
        names: Names,
        secure: bool,
        sync: bool,
        ticker: Ticker,
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._names = names
        self._secure = secure
        self._sync = sync
        self._clock = cluster.clock
        self._random = cluster.random
        self._ticker = ticker
        self._listed_at = -math.inf
        self._list_every, self._list_again = _LIST_EVERY, _LIST_AGAIN
        self._named_at, self._names_share = cluster.clock.monotonic(), 1.0
        # As of when the list was last asked for.
        self._suspicions = self._cluster_id = 0
        self.learned = anyio.Event()

    async def run(self) -> None:
        """Keep them up to date until cancelled."""
        while not self._cluster.health.decided:
            await self._cluster.changed.wait()
        while True:
            if self._names_are_due():
                await self._look_up_names()
            if self._list_is_due():
                await self._read_list()
                self.learned.set()
            # Some were left because another server answers there.
            for member in set(self._store.members).difference(self._cluster.members):
                self._store.remove(member)
            await self._ticker.pause(_TICK)

    def _list_is_due(self) -> bool:
        cluster = self._cluster
        if cluster.breakers.suspected or not cluster.health.quorum.closed or cluster.roll.cluster_id == 0:
            return False
        passed = self._clock.monotonic() - self._listed_at
        changed = self._suspicions != cluster.breakers.suspicions or self._cluster_id != cluster.roll.cluster_id
        return passed >= self._list_every or (changed and passed >= self._list_again)

    async def _read_list(self) -> None:
        cluster, roll, asked = self._cluster, self._cluster.roll, self._cluster.active
        self._suspicions, self._cluster_id = cluster.breakers.suspicions, roll.cluster_id
        self._listed_at = self._clock.monotonic()
        self._list_every = _LIST_EVERY * (0.8 + 0.4 * self._random())
        self._list_again = _LIST_AGAIN + _LIST_AGAIN_JITTER * self._random()
        try:
            answered = await self._store.call(MemberList(), member=asked, timeout=_TIMEOUT)
        except StoreFault as exc:
            # The monitor judges members by other questions; this one may simply be denied.
            denied = exc.fault.kind in (FaultKind.PERMISSION, FaultKind.AUTH_TOKEN, FaultKind.INVALID)
            news = denied and cluster.record_untold(
                "its list of members", f"{exc.fault.brief}; only those given are used"
            )
            if news or not denied:
                telemetry.members_unlisted(asked, f"cannot be read: {exc.fault.brief}")
            return
        cluster.record_untold("its list of members", None)
        if not self._is_ours(answered):
            telemetry.members_unlisted(asked, "is not that of its cluster, and not used")
            return
        roll.listed = answered.members
        roll.identify(asked, answered.header)
        async with anyio.create_task_group() as tasks:
            for endpoint in roll.given:
                if endpoint not in roll.seen:
                    tasks.start_soon(self._identify, endpoint)
        if self._sync:
            await self._follow_list()

    def _is_ours(self, answered: MemberListResult) -> bool:
        """Whether a list belongs to the cluster that this client has been using.

        A proxy may answer with itself, and a member that was swapped for another cluster's with its own.
        """
        ids = {member.id for member in answered.members}
        header = answered.header
        return header.cluster_id == self._cluster.roll.cluster_id and header.member_id in ids and 0 not in ids

    async def _identify(self, endpoint: str) -> None:
        """Find out which member a given endpoint is, so that it is not taken for two."""
        try:
            answered = await self._store.call(Status(), member=endpoint, timeout=_TIMEOUT)
        except StoreFault:
            return
        if answered.header.cluster_id == self._cluster.roll.cluster_id:
            self._cluster.roll.identify(endpoint, answered.header)
            self._cluster.mark_member(endpoint, well=True)

    async def _follow_list(self) -> None:
        cluster, roll = self._cluster, self._cluster.roll
        planned = plan(
            roll.listed,
            # An endpoint that does not answer stands for no member: its own may be found elsewhere.
            given=[endpoint for endpoint in roll.given if endpoint not in cluster.unwell],
            learned=roll.learned,
            seen=roll.seen,
        )
        for endpoint in planned.leaving:
            self._remove(endpoint)
        missing = {member.id for member in planned.missing}
        for gone in roll.unusable.keys() - missing:
            del roll.unusable[gone]
        async with anyio.create_task_group() as tasks:
            for member in planned.missing:
                tasks.start_soon(self._search, member)

    async def _search(self, member: ClusterMember) -> None:
        roll = self._cluster.roll
        reasons = []
        for url in member.client_urls:
            try:
                endpoint = advertised(url, secure=self._secure, here=all(map(is_loopback, roll.given)))
                if endpoint in self._cluster.members:
                    # It is not missing after all, but away.
                    roll.unusable.pop(member.id, None)
                    return
                await self._join(member, endpoint)
                roll.unusable.pop(member.id, None)
                return
            except ValueError as exc:
                reasons.append(shown(str(exc)))
            except StoreFault as exc:
                other = exc.fault.kind is FaultKind.FOREIGN
                reasons.append(
                    shown(exc.fault.message) if other else f"{shown(url)} does not answer: {exc.fault.brief}"
                )
        reason = "; ".join(reasons) or "it has not been started"
        if roll.unusable.get(member.id) != reason:
            telemetry.member_unused(shown(member.name), reason)
        roll.unusable[member.id] = reason

    async def _join(self, member: ClusterMember, endpoint: str) -> None:
        """Connect to an advertised address; the member joins if it is there."""
        cluster = self._cluster
        ids = cluster.roll.cluster_id, member.id
        header = await self._store.add(Address(endpoint), expected=ids, timeout=_TIMEOUT)
        cluster.join(endpoint, learned=True)
        cluster.roll.identify(endpoint, header)

    def _remove(self, endpoint: str) -> None:
        self._cluster.leave(endpoint)
        if endpoint not in self._cluster.members:
            self._store.remove(endpoint)

    def _names_are_due(self) -> bool:
        cluster = self._cluster
        if not self._names.any:
            return False
        if not cluster.health.quorum.closed:
            every = _NAMES_OUTAGE
        else:
            # A name server may tell of an address before anybody answers there.
            absent = {address.endpoint for address in self._names.addresses}.difference(cluster.roll.given)
            missing = absent or cluster.unwell.intersection(cluster.roll.given)
            every = _NAMES_MISSING if missing else _NAMES_EVERY
        return self._clock.monotonic() - self._named_at >= every * self._names_share

    async def _look_up_names(self) -> None:
        await self._names.look_up(_NAMES_TIMEOUT)
        self._named_at, self._names_share = self._clock.monotonic(), 0.75 + 0.25 * self._random()
        addresses = self._names.addresses
        async with anyio.create_task_group() as tasks:
            for address in addresses:
                if address.endpoint not in self._cluster.roll.given:
                    tasks.start_soon(self._add_given, address)
        wanted = {address.endpoint for address in addresses}
        for endpoint in self._cluster.roll.given:
            # One that answers stays: a name server may not always tell of all.
            replaced = is_name(endpoint) and wanted.intersection(self._cluster.members)
            if endpoint not in wanted and (replaced or endpoint not in self._cluster.well):
                self._remove(endpoint)

    async def _add_given(self, address: Address) -> None:
        try:
            header = await self._store.add(address, timeout=_TIMEOUT)
        except StoreFault:
            return
        self._cluster.join(address.endpoint, learned=False)
        self._cluster.roll.identify(address.endpoint, header)
