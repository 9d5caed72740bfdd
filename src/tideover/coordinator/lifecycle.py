"""The life of a coordinator: opened, told of outages and resets, closed in reverse, and poisoned by a fork."""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import anyio

from tideover import telemetry
from tideover.client.lifecycle import CLOSED, NOT_ENTERED
from tideover.cluster.alarms import Alarms
from tideover.cluster.breakers.state_machine import Health, HealthRules
from tideover.cluster.member_status import count_members
from tideover.cluster.member_sync import MemberSync
from tideover.cluster.monitor import Monitor
from tideover.cluster.rules.health import finding, reason_of
from tideover.coordinator.instruments import Instruments
from tideover.coordinator.parts import Parts
from tideover.coordinator.starting import check_required, open_etcd, started, until
from tideover.epoch.checked_store import EpochCheckedStore
from tideover.epoch.history import Reset
from tideover.errors import Closed
from tideover.options import Options
from tideover.owner_task import OwnerTask
from tideover.store.operations import Range
from tideover.store.protocol import Store
from tideover.types import HealthState, Phase, Source

# Seconds for each step of closing: a last snapshot, and the connections.
_CLOSE_TIMEOUT = 2.0

_Tasks = dict[str, Callable[[], Awaitable[object]]]


class Life:
    """One coordinator's life, and what the faces need of it beyond its public methods.

    Attributes:
        pid: The process it was made in.
        ending: Whether the application has heard that it ends, and will close the coordinator soon.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.pid = os.getpid()
        self.ending = False
        self.instruments = Instruments(parts)
        self._running = False
        self._monitor: Monitor | None = None
        self._member_sync: MemberSync | None = None
        self._owner: OwnerTask | None = None
        parts.epoch.subscribe(self._reset)

    @property
    def loop(self) -> object:
        """The event loop it was entered in; None before."""
        return self.parts.client.home.token

    @property
    def phase(self) -> Phase:
        """How far it has come."""
        if self.parts.client.lifecycle.is_over:
            return Phase.CLOSED
        if self.loop is None:
            return Phase.NEW
        if self.ending:
            return Phase.ENDING
        return Phase.RUNNING if self._running else Phase.STARTING

    @property
    def live(self) -> bool:
        """Whether a quorum answers, and all that is followed is live."""
        views = (*self.parts.views, *self.parts.discovery.followed_views())
        available = self.parts.client.health.state is HealthState.AVAILABLE
        return available and all(view.source is Source.LIVE for view in views)

    async def until_live(self) -> None:
        """Wait until `live`, for as long as that takes."""
        self.parts.client.home.check(self)
        await until(self.parts, lambda: self.live)

    async def know_members(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until the cluster's member list has been read, for the report shows it."""
        self.parts.client.home.check(self)
        if self._member_sync is not None:
            with anyio.move_on_after(timeout):
                await self._member_sync.learned.wait()

    async def open(self) -> None:
        """Connect, start the background tasks, and wait for what is known; see `connect`."""
        parts, client = self.parts, self.parts.client
        client.home.enter()
        client.state.timeline.begin()
        if parts.peers is not None:
            await parts.peers.open()
            if parts.peers.options.advertise:
                client.process_name.advertised = parts.peers.address
        background = self._background(await self._connect())
        for view in parts.views:
            view.begin()
        self._owner = OwnerTask()
        try:
            tasks = await self._owner.open()
            client.home.open(tasks)
            client.lifecycle.open()
            for part in parts.each:
                part.begin()
            for name, task in background.items():
                tasks.start_soon(client.home.run, name, task)
            await started(parts)
            parts.config.started()
            check_required(parts)
        except BaseException:
            await self.close()
            raise
        self._running = True
        parts.config.refresh()
        telemetry.observe(self.instruments)

    async def _connect(self) -> Store:
        """Connect the client; return the cluster itself, over connections that large answers do not use."""
        parts, client = self.parts, self.parts.client
        if parts.store is None:
            parts.store = etcd = await open_etcd(parts)
            urgent: Store = etcd.urgent()
        else:
            urgent = parts.store
        client.calls.connect(EpochCheckedStore(parts.store, parts.epoch, clock=client.clock))
        client.direct.connect(EpochCheckedStore(urgent, parts.epoch, clock=client.clock))
        return urgent

    def _background(self, urgent: Store) -> _Tasks:
        """Return the background tasks by name."""
        parts, client = self.parts, self.parts.client
        state, checked = client.state, client.direct.store
        monitor = self._monitor = self._make_monitor(checked)
        # It must see who answers, members of other clusters too.
        members = self._member_sync = MemberSync(
            urgent,
            state,
            names=parts.names,
            secure=parts.options.tls is not None,
            sync=parts.options.sync_members,
            ticker=client.ticker,
        )
        tasks: _Tasks = {
            "ticker": client.ticker.run,
            "monitor": monitor.run,
            "waiting": partial(state.waiting.run, monitor.still_answers),
            "roster": members.run,
            "doubts": parts.following.doubts.run,
            "snapshots": parts.following.writer.run,
            "alarms": Alarms(checked, state).run,
            "coalesce": parts.coalescer.run,
            "locks": parts.locks.run,
            "accepted": parts.accepted.run,
            "tend": parts.config.tend,
            "identity": partial(parts.epoch.run, urgent),
        }
        if parts.peers is not None:
            tasks["failsafe"] = parts.peers.run
        for followed in parts.followed:
            tasks[f"follow {followed.view.name}"] = followed.run
        return tasks

    def _make_monitor(self, store: Store) -> Monitor:
        options, client = self.parts.options, self.parts.client
        return Monitor(
            store,
            client.state,
            # Of what is followed, because a user may be allowed to read nothing else.
            probes=[
                Range((options.base + prefix).encode(), limit=1, keys_only=True)
                for prefix in options.follow or ("",)
            ],
            rules=_rules(options, self.parts.following.rights_every),
            ticker=client.ticker,
            on_transition=self._transition,
        )

    def _transition(self, before: Health, after: Health) -> None:
        outages, client = self.parts.outages, self.parts.client
        outage_id = outages.transition(
            before.state,
            after.state,
            diagnosis=after.diagnosis,
            reason=reason_of(after.state, after.diagnosis),
            sentence=client.state.sentence,
            first=not before.decided,
            age=self.instruments.observe_age() if self.parts.views else float("inf"),
        )
        client.state.timeline.transition(
            after.state,
            after.diagnosis,
            why=finding(after.diagnosis, count_members(client.state), past=True),
            outage_id=outages.outage_id,
        )
        client.health.record(before.state, outage_id=outage_id)
        for part in self.parts.each:
            part.health_changed()

    def _reset(self, reset: Reset) -> None:
        for part in self.parts.each:
            part.reset(f"etcd is in another history: {reset.reason}", reset.revision)

    def poison(self) -> None:
        """Refuse everything: this is a forked child, and connections and tasks have stayed with the parent."""
        why = (
            f"this process ({os.getpid()}) was forked from the one that connected ({self.pid}): start processes "
            "with multiprocessing's `spawn` or `forkserver`, or fork before anybody connects, and connect in each"
        )
        self.parts.client.lifecycle.poison(why)
        self.parts.client.home.poison(why)
        for part in self.parts.each:
            part.poison(why)

    def declare_outage(self, cut_off: Callable[[], None]) -> None:
        """Declare that no member answers, once `cut_off` made it so: `tideover.testing.declare_outage`."""
        monitor = self._monitor
        self.parts.client.lifecycle.check()
        if monitor is None:
            raise Closed(NOT_ENTERED)

        def declare() -> None:
            cut_off()
            monitor.declare()

        self.parts.client.home.loop.call(declare)

    def end_outage(self, reconnect: Callable[[], None]) -> None:
        """Look at once whether members answer again, once `reconnect` lets them: the end of `declare_outage`."""

        def end() -> None:
            reconnect()
            if self._monitor is not None:
                self._monitor.retry()

        self.parts.client.home.loop.call(end, late=True)

    async def close(self) -> None:
        """Give back what others wait for, stop the background tasks, save, and close the connections."""
        parts, client = self.parts, self.parts.client
        telemetry.unobserve(self.instruments)
        client.lifecycle.close()
        client.state.closing.begin()
        parts.jobs.cancel()
        parts.config.close()
        parts.config.refresh()
        parts.discovery.close(CLOSED)
        try:
            # First of all: a rolling deployment then costs milliseconds without a leader, not a ttl, and no caller
            # is sent here any more. All of it shares the closing budget.
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as closing:
                    closing.start_soon(parts.registrations.close, CLOSED)
                    closing.start_soon(parts.elections.close, CLOSED)
            await parts.locks.aclose(CLOSED)
            await parts.sessions.aclose()
        finally:
            with anyio.CancelScope(shield=True):
                # Also where a native cancellation has cut the rest short.
                client.home.close()
                if self._owner is not None:
                    await self._owner.aclose()
                await self._save_and_disconnect()
            parts.outages.close()
            client.health.close()
            client.home.loop.leave()

    async def _save_and_disconnect(self) -> None:
        """Write last snapshots and close the connections, once no task runs any more."""
        parts = self.parts
        if parts.peers is not None:
            await parts.peers.aclose()
        for followed in parts.followed:
            if followed.keeper is not None:
                with anyio.move_on_after(_CLOSE_TIMEOUT):
                    await followed.keeper.save()
        with anyio.move_on_after(_CLOSE_TIMEOUT):
            await parts.accepted.save()
        await parts.discovery.save()
        if parts.store is not None:
            with anyio.move_on_after(_CLOSE_TIMEOUT):
                await parts.store.aclose()


def _rules(options: Options, rights_every: float) -> HealthRules:
    """Return the numbers of the health state machine."""
    usual, tightest = HealthRules(), options.tightest_limit
    return replace(
        usual,
        # A value is proven well before a limit would strike.
        idle_interval=usual.idle_interval if tightest is None else min(usual.idle_interval, tightest / 3),
        touch_every=math.inf if options.username is None else rights_every,
        start_patience=options.start_timeout,
    )
