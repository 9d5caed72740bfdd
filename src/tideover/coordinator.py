"""The coordinator: makes the parts, starts and supervises them, and closes them in reverse."""

from __future__ import annotations

import importlib
import logging
import math
import os
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from tideover import telemetry
from tideover.clock import Clock
from tideover.configs.config import Config
from tideover.core.coalesce import Coalescer
from tideover.core.follower import Follower
from tideover.core.gateway import Gateway
from tideover.core.keeper import Keeper
from tideover.core.lanes import Lanes
from tideover.core.monitor import Monitor
from tideover.core.signal import first_of
from tideover.core.view import View, ViewRules
from tideover.disk.folder import default_folder
from tideover.disk.snapshot_file import SnapshotFile
from tideover.elections.leadership import Leadership
from tideover.elections.owner import Election, Elections, OnOutage
from tideover.errors import AuthenticationFailed, Closed, NotSynced, Unreachable
from tideover.etcd.store import Range, Store
from tideover.health import ClusterHealth
from tideover.options import Options
from tideover.records import Entry, HealthState, Source
from tideover.resilience.health import Health, HealthRules, reason_of
from tideover.status import MemberStatus, PrefixStatus, StatusReport, duration
from tideover.supervisor import Supervisor

_log = logging.getLogger("tideover")

# Seconds for each step of closing: a last snapshot, and the connections.
_CLOSE_TIMEOUT = 2.0

# Seconds between two looks at whether a client with an identity may still read what it follows.
RIGHTS_EVERY = 60.0

open_coordinators: set[Coordinator] = set()


class Coordinator:
    """One service's connection to its coordination: a single-use async context manager.

    Made by `connect`, which documents the options. Entering starts the background tasks, leaving stops them,
    writes a last snapshot and closes the connections.

    Args:
        options: The validated options.
        store: The cluster, instead of the real etcd at the options' endpoints: for tests.
        clock: The clocks.
        chance: Draws a number uniformly from [0, 1).

    Attributes:
        config: The configuration; all it offers raises `Closed` outside the `async with` block.
    """

    def __init__(
        self,
        options: Options,
        *,
        store: Store | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.options = options
        self._loop: object = None
        self._store = store
        self._clock = clock or Clock()
        self._chance = chance
        self._pid = os.getpid()
        self._tasks: TaskGroup | None = None
        self._closed: str | None = None
        self._outages = telemetry.Outages()
        members = tuple(store.members) if store else tuple(options.endpoints)
        self._lanes = Lanes(members, clock=self._clock, active=members[int(chance() * len(members))])
        self._health = ClusterHealth(self._lanes, clock=self._clock)
        self._supervisor = Supervisor(chance=chance, monotonic=self._clock.monotonic)
        self._views = [self._make_view(prefix) for prefix in options.follow]
        self._keepers = self._make_keepers()
        self._gateway = Gateway(
            self._lanes,
            policy=options.retry,
            clock=self._clock,
            chance=chance,
            namespace=options.namespace,
        )
        self._coalescer = Coalescer(self._gateway, clock=self._clock)
        self._elections = Elections(
            options.namespace,
            profile=options.profile,
            gateway=self._gateway,
            lanes=self._lanes,
            clock=self._clock,
            chance=chance,
            epoch=lambda: 0,
        )
        # A plain attribute, and there from the start: every read goes through it.
        self.config = self._make_config()

    def __repr__(self) -> str:
        """Show the namespace, the state and what is followed."""
        state = "closed" if self._closed else "not entered" if self._loop is None else self._health.state
        return f"<Coordinator {self.options.namespace!r} {','.join(self._lanes.members)} {state}>"

    # What it offers --------------------------------------------------------------------------------------------

    @property
    def health(self) -> ClusterHealth:
        """The state of etcd as this process sees it."""
        return self._health

    @property
    def loop(self) -> object:
        """The event loop it was entered in; None before."""
        return self._loop

    @property
    def namespace(self) -> str:
        """The namespace given to `connect`."""
        return self.options.namespace

    def leader(
        self,
        name: str,
        *,
        ttl: float = 15.0,
        on_outage: OnOutage | None = None,
        address: str = "",
        value: str = "",
    ) -> Leadership:
        """Wait until elected, then run a body while this process leads: `async with tide.leader("x") as term:`.

        Of all candidates for the name one leads. When the body is left the office is given up, and another
        candidate has it within milliseconds; when this process dies, after `ttl` and a tenth of it, at least 1 s.
        The body runs in a cancel scope: it is cancelled when the leadership is lost.

        Args:
            name: The election, such as `"reaper"`; slashes may divide it.
            ttl: Seconds after which a leader that cannot renew leads no more, more than 4.5. The same for all
                candidates, please.
            on_outage: What the leader does when etcd is away for longer than its ttl: `"step_down"`, or `"stay"`
                and be `UNCONFIRMED`. The same for all candidates. None means `"step_down"` with the profile
                `"safety"` and `"stay"` with `"availability"`.
            address: Where this process can be reached; `Election.observe` shows it to others.
            value: What else others are to see.

        Returns:
            A context manager, for one use; entering waits and gives the `Term`.

        Raises:
            ValueError: An option is out of range.
            ElectionMismatch: When entering: the election's record says another `on_outage`.
            RecordCorrupt: When entering: the record cannot be read.
            PermissionDenied: When entering: this user may not read or write the record.
            Closed: When entering: the coordinator is not open.
            LeadershipLost: When leaving: the body has outlived the leadership. An exception of the body is kept,
                and the loss becomes a note on it.

        When degraded:
            Nobody is elected without a quorum: entering waits. Who leads already goes on: under `"step_down"`
            until the deadline, under `"stay"` until it sees that another was elected; when etcd is back, with the
            same token.
        """
        return self._elections.leader(name, ttl=ttl, on_outage=on_outage, address=address, value=value)

    def election(self, name: str) -> Election:
        """Return a handle on an election: `campaign`, `proclaim`, `resign`, `observe`, `current`.

        Args:
            name: The election.

        Raises:
            ValueError: That is no name.

        When degraded:
            Its methods say.
        """
        return self._elections.election(name)

    def status(self) -> StatusReport:
        """Return everything an operator asks first. No I/O.

        When degraded:
            The same; this is what it is for.
        """
        lanes, health = self._lanes, self._health
        return StatusReport(
            sentence=self._sentence(),
            state=health.state,
            diagnosis=health.diagnosis,
            since=health.since,
            seconds=health.seconds,
            next_probe=max(0.0, lanes.retry_at - self._clock.monotonic()),
            outage_id=self._outages.outage_id,
            namespace=self.options.namespace,
            profile=str(self.options.profile),
            pid=os.getpid(),
            members=tuple(
                MemberStatus(m, m == lanes.active, lanes.answers(m), lanes.errors.get(m)) for m in lanes.members
            ),
            config=tuple(self._prefix_status(index) for index in range(len(self._views))),
            rejected=self.config.rejected,
            restarts=self._supervisor.restarts,
            elections=self._elections.status(),
        )

    def _sentence(self) -> str:
        state = self._health.state
        if self._loop is None:
            return "not entered yet: use it inside `async with connect(...) as tide:`"
        text = self._lanes.sentence
        if state is not HealthState.AVAILABLE:
            text += f"; {state} for {duration(self._health.seconds)}"
        led = (f"{name!r} is led here, {standing}." for name, standing in self._elections.leading())
        return f"{text}. " + " ".join([*map(_describe, self._views), *led])

    def _prefix_status(self, index: int) -> PrefixStatus:
        view = self._views[index]
        return PrefixStatus(
            prefix=self.options.follow[index],
            source=view.source,
            revision=view.freshness.reached,
            age=view.age,
            keys=len(view.entries),
            resets=view.resets,
            error=view.error,
            snapshot_error=self._keepers[index].error if self._keepers else None,
        )

    # Life ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start; see `connect`."""
        if self._loop is not None or self._closed:
            raise Closed(f"{self!r}: a coordinator is entered only once; call connect() again")
        began = self._clock.monotonic()
        self._loop = anyio.lowlevel.current_token()
        if self._store is None:
            # grpc takes a tenth of a second to import: not before it is needed, and not on the event loop.
            adapter = await anyio.to_thread.run_sync(importlib.import_module, "tideover.etcd.adapter")
            options = self.options
            self._store = adapter.EtcdStore(
                options.endpoints, tls=options.tls, username=options.username, password=options.password
            )
        self._gateway.connect(self._store)
        background = self._background(self._store)
        self.config.open()
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        self._tasks = tasks
        self._elections.open(self._store, tasks)
        try:
            for name, task in background.items():
                tasks.start_soon(self._supervisor.run, name, task)
            await self._await_start(began)
            self._check_required()
        except BaseException:
            await self._stop()
            raise
        open_coordinators.add(self)
        telemetry.observe(self)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the background tasks, write a last snapshot, close the connections."""
        await self._stop()

    async def _await_start(self, began: float) -> None:
        """Wait until all is live or etcd is known to be away, at the latest until `start_timeout` is over."""
        with anyio.move_on_after(began + self.options.start_timeout - self._clock.monotonic()):
            while True:
                events = [self._lanes.changed.next(), *(view.changed.next() for view in self._views)]
                if self._started():
                    break
                await first_of(events)

    def _started(self) -> bool:
        health, restored = self._lanes.health, all(keeper.restored for keeper in self._keepers)
        if not health.decided or health.state is HealthState.UNAVAILABLE:
            return health.decided and restored
        if health.state is HealthState.DEGRADED:
            return restored and all(view.synced or view.error for view in self._views)
        return all(view.denied or view.source is Source.LIVE for view in self._views)

    def _check_required(self) -> None:
        if self.options.require == "etcd" and self._health.state is not HealthState.AVAILABLE:
            away = AuthenticationFailed if self._lanes.unauthorized else Unreachable
            raise away(f"require='etcd': {self._health.sentence}")
        if self.options.require == "config":
            for view in self._views:
                if not view.synced:
                    text = f"require='config': nothing is known; {self._health.sentence}"
                    raise AuthenticationFailed(text) if self._lanes.unauthorized else NotSynced(view.name, text)

    async def _stop(self) -> None:
        open_coordinators.discard(self)
        telemetry.unobserve(self)
        self._closed = "the coordinator is closed"
        self.config.close(self._closed)
        try:
            # First of all: a rolling deployment then costs milliseconds without a leader, not a ttl.
            with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                await self._elections.close(self._closed)
            if self._tasks is not None:
                self._tasks.cancel_scope.cancel()
                await self._tasks.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                for keeper in self._keepers:
                    with anyio.move_on_after(_CLOSE_TIMEOUT):
                        await keeper.save()
                if self._store is not None:
                    with anyio.move_on_after(_CLOSE_TIMEOUT):
                        await self._store.aclose()
            self._outages.close()

    def poison(self) -> None:
        """Refuse everything: this is a forked child, and connections and tasks have stayed with the parent."""
        self._closed = (
            f"this process ({os.getpid()}) was forked from the one that connected ({self._pid}); "
            "connect after the fork, for example in the application's lifespan"
        )
        self.config.close(self._closed)
        self._elections.poison(self._closed)

    # Parts -----------------------------------------------------------------------------------------------------

    def _make_view(self, prefix: str) -> View:
        return View(
            (self.options.base + prefix).encode(),
            lanes=self._lanes,
            clock=self._clock,
            rules=ViewRules(rights_every=RIGHTS_EVERY) if self.options.has_identity else ViewRules(),
            on_change=self._take_changes,
        )

    def _take_changes(self, changes: Mapping[bytes, Entry | None], revision: int) -> None:
        self.config.take_changes(changes, revision)

    def _make_keepers(self) -> list[Keeper]:
        options = self.options
        if options.cache_dir is False:
            return []
        try:
            folder = default_folder() if options.cache_dir is None else Path(options.cache_dir)
        except RuntimeError as exc:
            _log.warning("tideover: no snapshots: %s", exc)
            return []
        exclude = tuple((options.base + prefix).encode() for prefix in options.exclude)
        keepers = []
        for view in self._views:
            file = SnapshotFile(
                folder,
                namespace=options.namespace,
                prefix=view.prefix,
                endpoints=self._lanes.members,
                user=options.username or "",
            )
            keepers.append(Keeper(view, file, clock=self._clock, exclude=exclude))
        return keepers

    def _why_unknown(self) -> str:
        """Say why a value is not known, or not fresh."""
        reading = any(not keeper.restored for keeper in self._keepers)
        return self._health.sentence + ("; the snapshot is still being read" if reading else "")

    def _make_config(self) -> Config:
        options = self.options
        return Config(
            options.base,
            self._views,
            gateway=self._gateway,
            coalescer=self._coalescer,
            lanes=self._lanes,
            clock=self._clock,
            limits=options.limits,
            exclude=options.exclude,
            cache=options.cache,
            retry=options.retry,
            namespace=options.namespace,
            record_keys=options.record_keys,
            outage_id=lambda: self._outages.outage_id,
            since=self._why_unknown,
        )

    def _background(self, store: Store) -> dict[str, Callable[[], Awaitable[object]]]:
        """Return the background tasks by name."""
        lanes, clock = self._lanes, self._clock
        monitor = Monitor(
            store,
            lanes,
            # Of what is followed, because a user may be allowed to read nothing else.
            probes=[
                Range((self.options.base + prefix).encode(), limit=1, keys_only=True)
                for prefix in self.options.follow or ("",)
            ],
            rules=_rules(self.options.tightest_limit),
            clock=clock,
            chance=self._chance,
            on_transition=self._transition,
            touch_every=RIGHTS_EVERY if self.options.username is not None else None,
        )
        background: dict[str, Callable[[], Awaitable[object]]] = {
            "monitor": monitor.run,
            "coalesce": self._coalescer.run,
        }
        for view in self._views:
            follower = Follower(view, store=store, gateway=self._gateway, lanes=lanes, clock=clock)
            background[f"follow {view.name}"] = follower.run
            background[f"tend {view.name}"] = partial(self.config.tend, view)
        for keeper in self._keepers:
            background[f"keep {keeper!r}"] = keeper.run
        return background

    def _transition(self, before: Health, after: Health) -> None:
        self._outages.transition(
            before.state,
            after.state,
            reason=reason_of(after.state, after.diagnosis),
            sentence=self._lanes.sentence,
            first=not before.decided,
        )
        self.config.refresh()

    # What observable instruments show --------------------------------------------------------------------------

    def observe_state(self) -> HealthState:
        """Return the health state now."""
        return self._health.state

    def observe_reads(self) -> Mapping[tuple[str, bool], int]:
        """Return how many configuration reads there were, by source and whether they were degraded."""
        return self.config.count_reads()

    def observe_age(self) -> float:
        """Return the age in seconds of the oldest followed prefix; infinite if unknown."""
        return max((view.age for view in self._views), default=0.0)

    def observe_leaders(self) -> Mapping[tuple[str, str], int]:
        """Return how many elections are led here, by election and standing."""
        return self._elections.leading()


def _rules(tightest_limit: float | None) -> HealthRules:
    """Return the numbers of the health state machine: a value is proven well before a limit would strike."""
    usual = HealthRules()
    if tightest_limit is None:
        return usual
    return replace(usual, idle_interval=min(usual.idle_interval, tightest_limit / 3))


_SERVED = {
    Source.LIVE: "live",
    Source.MEMBER: "served from a surviving member",
    Source.MEMORY: "served from memory",
    Source.DISK: "served from disk",
}


def _describe(view: View) -> str:
    source = view.source
    if source is None:
        return f"Config {view.name!r} has never been read."
    age = (
        ""
        if source is Source.LIVE
        else f", {duration(view.age)} old"
        if math.isfinite(view.age)
        else ", of unknown age"
    )
    return f"Config {view.name!r} is {_SERVED[source]}{age}."


def _poison_all() -> None:
    for coordinator in list(open_coordinators):
        coordinator.poison()
    open_coordinators.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_poison_all)
