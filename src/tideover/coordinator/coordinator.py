"""The public face of one service's coordination: `Coordinator`, which `connect` returns."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from tideover.client.namespaces import Namespaces
from tideover.clock import Clock
from tideover.cluster.dns import Resolver, system_resolver
from tideover.cluster.health import ClusterHealth
from tideover.coordinator.catalog import Catalog
from tideover.coordinator.lifecycle import Life
from tideover.coordinator.parts import Parts, Surroundings
from tideover.coordinator.survey import survey
from tideover.discovery.service_view import ServiceView
from tideover.elections.claim import LeaderOptions
from tideover.elections.claim import OnOutage as ElectionOutage
from tideover.elections.election import Election
from tideover.elections.jobs import Job
from tideover.elections.leader_view import LeaderView
from tideover.elections.leadership import Leadership
from tideover.elections.leading import Work
from tideover.elections.peers.network import Network
from tideover.elections.term import Term
from tideover.errors import Closed
from tideover.locks.lock import Lock
from tideover.locks.options import OnOutage as OnLockOutage
from tideover.locks.options import lock_options
from tideover.options import Options
from tideover.prefixes.bootstrap import read_bootstrap
from tideover.registration.registered import Registered, RegistrationBlock
from tideover.registration.registration import Registration
from tideover.sessions.block import OnOutage, SessionBlock
from tideover.status import KeyPage, LockConflictStatus, RejectedValue, StatusReport
from tideover.store.protocol import Store
from tideover.types import Entry, Phase, Standing

if TYPE_CHECKING:
    from tideover.coordinator.status_report import Reporter

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
        resolver: Looks names up; None means the system's, or none with a store that was handed in.
        network: How candidates talk to each other, instead of HTTP: for tests.

    Raises:
        ValueError: The bootstrap file is of no use.

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
        resolver: Resolver | None = None,
        network: Network | None = None,
    ) -> None:
        resolver = resolver or (system_resolver if store is None else None)
        around = Surroundings(clock or Clock(), chance, resolver, network)
        bootstrap = _read_bootstrap(options)
        self._make_parts = partial(Parts, self, options, around, store=store, bootstrap=bootstrap)
        self._make()

    def _make(self) -> None:
        self._parts = self._make_parts()
        self._life = Life(self._parts)
        self._reporter: Reporter | None = None
        # A plain attribute, and there from the start: every read goes through it.
        self.config = self._parts.config

    def __repr__(self) -> str:
        """Show the namespace, the endpoints and the state."""
        options = self._parts.options
        state = {Phase.NEW: "not entered", Phase.CLOSED: "closed"}.get(self.phase, self.health.state)
        return f"<Coordinator {options.namespace!r} {','.join(options.endpoints)} {state}>"

    def __dir__(self) -> list[str]:
        """Name what is public."""
        return sorted(name for name in super().__dir__() if not name.startswith("_"))

    async def __aenter__(self) -> Self:
        """Start; see `connect`."""
        if self.phase is not Phase.NEW:
            raise Closed(f"{self!r}: a coordinator is entered only once; call connect() again")
        if os.getpid() != self._life.pid:
            # Made before a fork, as by gunicorn --preload; some parts have what is unique to a process.
            self._make()
        await self._life.open()
        open_coordinators.add(self)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the background tasks, write a last snapshot, close the connections.

        Raises:
            WrongLoop: It was entered in another event loop, where it goes on.
        """
        if os.getpid() != self._life.pid:
            # A forked child: all of it is the parent's.
            return
        self._parts.client.home.loop.check(self)
        open_coordinators.discard(self)
        await self._life.close()

    @property
    def health(self) -> ClusterHealth:
        """The state of etcd as this process sees it."""
        return self._parts.client.health

    @property
    def namespace(self) -> str:
        """The namespace given to `connect`."""
        return self._parts.options.namespace

    @property
    def namespaces(self) -> Namespaces:
        """What there is in etcd beside this namespace."""
        return self._parts.namespaces

    @property
    def phase(self) -> Phase:
        """How far its life has come."""
        return self._life.phase

    @property
    def epoch(self) -> int:
        """How many histories of etcd there have been, for fencing: `(epoch, token)` only grows.

        Raised when etcd was restored, rebuilt or replaced, and by `tideover doctor --bump-epoch`. Before etcd was
        first reached it is what the last process here has left on disk, or 0.

        When degraded:
            The last epoch known.
        """
        return self._parts.epoch.epoch

    @property
    def catalog(self) -> Catalog:
        """What this namespace has in etcd, listed: keys, elections, locks."""
        return Catalog(self._parts.client, self._parts.options.base)

    def status(self) -> StatusReport:
        """Return everything an operator asks first. No I/O.

        When degraded:
            The same; this is what it is for.
        """
        return self._reports.report(self.phase)

    def config_keys(self, containing: str = "", *, skip: int = 0, limit: int = 100) -> KeyPage:
        """Return some of the followed keys, each with how it stands, and never with its value. No I/O.

        Args:
            containing: What a key's name must have in it, as `get` names it; empty means nothing.
            skip: How many of the keys that match to leave out.
            limit: How many to return, from 1 to 1,000.

        Returns:
            The keys in their order, and how many there are.

        Raises:
            ValueError: `skip` is negative, or `limit` is out of range.

        When degraded:
            The same; each key says its source and age.
        """
        return self._reports.keys(containing, skip, limit)

    @property
    def _reports(self) -> Reporter:
        if self._reporter is None:
            # It and all its words are loaded when they are first asked for.
            from tideover.coordinator.status_report import Reporter

            self._reporter = Reporter(self._parts)
        return self._reporter

    async def foreign_values(self) -> tuple[RejectedValue, ...]:
        """Ask etcd for all that others have written under the keys that tideover reads for itself.

        Everything goes on without them, and leaves them alone; delete or replace them. `status().rejected` has
        those that this process has come across, and refused values of the configuration.

        Returns:
            Up to 100 of them; those that this user may not read are not among them.

        Raises:
            Unavailable: etcd is away.
            AuthenticationFailed: A quorum refuses the credentials.

        When degraded:
            Raises; in a declared outage at once and without a packet.
        """
        return (await survey(self._parts.client)).named

    def leader(
        self,
        name: str,
        *,
        ttl: float = 15.0,
        on_outage: ElectionOutage | None = None,
        address: str = "",
        value: str = "",
    ) -> Leadership:
        """Wait until elected, then run a body while this process leads: `async with tide.leader("x") as term:`.

        Of all candidates for the name one leads. When the body is left this process resigns, and another
        candidate has it within milliseconds; when this process dies, after `ttl` and a tenth of it, at least 1 s.
        The body runs in a cancel scope: it is cancelled when the leadership is lost.

        Args:
            name: The election, such as `"reaper"`; slashes may divide it.
            ttl: Seconds after which a leader that cannot renew leads no more, more than 4.5. The same for all
                candidates, please.
            on_outage: What the leader does when etcd is away for longer than its ttl: `"step_down"`; or `"peers"`,
                which needs `connect(failsafe=...)`, and lead on as long as all other candidates promise not to
                take over; or `"stay"` and be `UNCONFIRMED`. The same for all candidates. None means
                `"step_down"` with the profile `"safety"`, or `"peers"` if there is a failsafe, and `"stay"` with
                `"availability"`.
            address: Where this process can be reached; `Election.observe` shows it to others.
            value: What else others are to see.

        Returns:
            A context manager, for one use; entering waits and gives the `Term`.

        Raises:
            ValueError: An option is out of range, or `"peers"` was asked for without a failsafe.
            ElectionMismatch: When entering: the election's record says another `on_outage`.
            RecordCorrupt: When entering: the record cannot be read.
            PermissionDenied: When entering: this user may not read or write the record.
            Closed: When entering: the coordinator is not open.
            LeadershipLost: When leaving: the body has outlived the leadership. An exception of the body is kept,
                and the loss becomes a note on it.

        When degraded:
            No process is elected without a quorum: entering waits. The leader leads on: under `"step_down"`
            until the deadline, which under `"peers"` the other candidates may move; under `"stay"` until it sees
            that another was elected; when etcd is back, with the same token.
        """
        return Leadership(name, LeaderOptions(ttl, on_outage, address, value), self._parts.elections)

    async def run_while_leading(self, name: str, work: Work) -> object:
        """Run a function while this process leads, again whenever it is elected, and again after it has raised.

            await tide.run_while_leading("settlement", settle)

        As `while_leader`, and supervised: when the function raises, this process resigns first, so that another
        one leads, and is a candidate again after a pause of 1 to 60 s: full jitter, up to 2 s after the first
        failure and twice as much after each further one, until the function has run for a minute. Each failure is
        logged with its traceback, at ERROR, and counted; `status().jobs` shows it. A function that returns is not
        run again. Within it `tideover.current()` is this coordinator.

        Args:
            name: The election.
            work: A coroutine function without arguments, one decorated with `while_leader`, or
                `Leading(function, ttl=..., on_outage=...)`.

        Returns:
            What the function has returned.

        Raises:
            TypeError: `work` is none of these.
            ValueError: An option is out of range, or the decorator names another election.
            Closed: The coordinator is not open, or was closed meanwhile.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            As `leader`: the leader leads on as `on_outage` says, and no other is elected until etcd is back.
        """
        return await self.job(name, work).run()

    def job(self, name: str, work: Work) -> Job:
        """Return what `run_while_leading` runs, checked as a whole; it does not run yet. The middleware uses it.

        Args:
            name: The election.
            work: As of `run_while_leading`.

        Returns:
            The job: `await job.run()`, or `job.start()` in the background and `await job.stop()`.

        Raises:
            TypeError: As of `run_while_leading`.
            ValueError: As of `run_while_leading`.

        When degraded:
            The same; nothing is sent.
        """
        return self._parts.jobs.make(name, work)

    def election(self, name: str) -> Election:
        """Return a handle on an election: `campaign`, `proclaim`, `resign`, `observe`, `current`.

        Args:
            name: The election.

        Raises:
            ValueError: That is no name.

        When degraded:
            Its methods say.
        """
        return Election(name, self._parts.elections)

    def term(self, name: str) -> Term | None:
        """Return the term of an election that this process leads, by the clock at this instant. No I/O.

        Args:
            name: The election.

        Returns:
            The term, entered by a body, a job or a handle; None if it is not led here.

        When degraded:
            The same: `term.standing` says with which standing it is led.
        """
        return self._parts.elections.term(name)

    def standing(self, name: str) -> Standing | None:
        """Return the standing with which this process leads an election, by the clock at this instant. No I/O.

        Args:
            name: The election.

        Returns:
            As `Term.standing`; None if it is not led here.

        When degraded:
            The same; this is what tells.
        """
        return self._parts.elections.standing(name)

    def follow_leader(self, name: str) -> LeaderView:
        """Return who leads an election, kept up to date in the background: `tide.follow_leader("x").pick()`.

        This process need be no candidate. The first call begins to follow the election; at most 256 are followed,
        and then the one that was asked for first is given up.

        Args:
            name: The election.

        Returns:
            The view, the same for all callers: `pick()` says who leads without asking, and `await
            view.wait(timeout=5)` waits until a process does.

        Raises:
            ValueError: That is no name.
            Closed: The coordinator is not open.
            NotFollowed: The election is not followed yet, and cannot be from here.

        When degraded:
            The view says who led last, as long as that process may lead on.
        """
        return self._parts.elections.follow_leader(name)

    def leader_address(self, name: str) -> str | None:
        """Return where another process that leads an election says it can be reached. No I/O.

        Args:
            name: The election.

        Returns:
            The `address` it campaigns with, as the candidate in this process has last seen it; empty if no process
            leads, if it does not say, or if it is this process; None if no candidate for it is here.

        When degraded:
            What was last seen; the process there may have lost the leadership since.
        """
        return self._parts.elections.leader_address(name)

    def lock(
        self,
        name: str,
        *,
        ttl: int = 15,
        timeout: float | None = None,
        on_outage: OnLockOutage | None = None,
        handover: bool = True,
        lock_delay: float = 0.0,
    ) -> Lock:
        """Return a lock, to be entered: `async with tide.lock("orders/42", timeout=5) as held:`.

        Entering the body means holding the lock. The body is cancelled at its next await when the lock is lost:
        when its lease could not be proven until the deadline, or etcd says that its key is gone. Leaving it then
        raises `LockLost`, even if the body has ended by itself; an exception of the body is kept, and ours becomes
        a note on it. A body that acts without an await calls `held.check()` first, and what is
        elsewhere is fenced by `held.token` or `held.guard()`.

        Coroutines of this process hand the lock on among themselves without asking etcd, in order, as long as
        no other process waits for it: see `handover`. If they want it twice within 0.1 s, its key stays in etcd's
        queue for up to 0.1 s when it is let go, unless another process waits.

        Args:
            name: The lock; slashes may divide it. `{namespace}/locks/{name}/` in etcd, in the layout of etcd's own
                `concurrency` package, so that `etcdctl lock` and services in Go contend for it.
            ttl: Whole seconds after which etcd gives the lock of a process that has died to the next one; 5 at
                the least.
            timeout: Seconds to wait at the most; None waits without limit, 0 not at all.
            on_outage: What to do while an outage is declared. `"fail"`: refuse. `"wait"`: wait for its end, within
                the timeout. `"local"`: be content with a lock among the processes of this machine, held in the
                mode `LOCAL`; one that is held when the outage begins becomes LOCAL at its deadline instead of
                being lost. After the outage a LOCAL lock becomes DISTRIBUTED if no other process has it, and
                else is lost by `LockConflict`. None means `"fail"` with the profile `"safety"` and `"local"` with
                `"availability"`.
            handover: Whether the lock may be handed on inside this process. With False each holder has a key of
                its own, and `held.revision` grows strictly: for names shared with clients that fence by it.
            lock_delay: Seconds to wait on, after the holder before has vanished with its lease instead of letting
                go: it may not know yet.

        Returns:
            The lock, for one use; entering gives what is held.

        Raises:
            TypeError: An option is of the wrong type.
            ValueError: An option is out of range, or that is no name.
            RuntimeError: When entering: this is within the body of the same lock, and without a timeout it would
                wait for itself without end.
            LockUnavailable: When entering: an outage is declared, and the lock was to `"fail"`; or it was to be
                `"local"` and this machine has no place for host locks.
            LockTimeout: When entering: it was not to be had in time.
            PermissionDenied: When entering: this user may not write the lock's key.
            AuthenticationFailed: When entering: a quorum refuses the credentials.
            SpaceExhausted: When entering: etcd's quota is used up.
            DataCorrupt: When entering: etcd takes no writes, for it has found its data damaged.
            Closed: When entering: the coordinator is not entered, or closed, or this is a forked child.
            LockLost: When leaving: see above.
            LockConflict: When leaving: see above.

        When degraded:
            Until an outage is declared (3 s) entering waits. Then it does as `on_outage` says, without a packet.
        """
        options = lock_options(
            ttl=ttl,
            timeout=timeout,
            on_outage=self._parts.locks.on_outage if on_outage is None else on_outage,
            handover=handover,
            lock_delay=lock_delay,
        )
        return Lock(self._parts.locks, name, options)

    async def lock_conflicts(self) -> tuple[LockConflictStatus, ...]:
        """Return which locks two processes held at the same time, or may have, because etcd was away.

        That is what follows from the holds that all processes have published in the last seven days;
        `status().lock_conflicts` has those in which this process had a part.

        Raises:
            Unavailable: etcd is away.
            PermissionDenied: This user may not read `{namespace}/tideover/ledger/`.
            AuthenticationFailed: A quorum refuses the credentials.
            Closed: The coordinator is not open.

        When degraded:
            Raises; in a declared outage at once and without a packet.
        """
        self._parts.client.home.check(self)
        return await self._parts.locks.published_conflicts()

    def session(self, *, ttl: int = 15, on_outage: OnOutage = "lose") -> SessionBlock:
        """Return a session, to be entered: `async with tide.session(ttl=15) as session:`.

        A session is a lease in etcd, kept alive and proven, with the keys that stand under it. The body runs as
        long as the session may be relied upon: it is cancelled at its next await when the deadline passes or
        etcd says that the lease has ended. Leaving it then raises `SessionLost`, even if the body has ended by
        itself; an exception of the body is kept, and ours becomes a note on it. Leaving takes the keys away.

        Args:
            ttl: Whole seconds for which etcd waits for a renewal; 5 at the least. After a crash the keys stay
                for so long.
            on_outage: `"lose"`: passing the deadline is the loss, for good. `"wait"`: the session is SUSPENDED
                then, `check()` raises, but the body goes on; the same lease comes back with the cluster, unless
                a quorum says that it has ended.

        Returns:
            The session's block.

        Raises:
            TypeError: `ttl` is not a whole number.
            ValueError: `ttl` is too short, or `on_outage` is none of the two words.
            Unavailable: When entering: etcd is away.
            OutcomeUnknown: When entering: no verdict came in time; what may have been made ends by itself.
            PermissionDenied: When entering: this user may not write `{namespace}/tideover/sessions/`.
            SessionLost: When leaving: see above.
            Closed: When entering: the coordinator is not entered, or closed, or this is a forked child.

        When degraded:
            Entering waits within the retry policy's timeout, and raises `CircuitOpen` at once when an outage is
            declared. A session that is open is tried on: see `on_outage`.
        """
        return SessionBlock(self._parts.sessions, ttl, on_outage=on_outage)

    def register(
        self,
        name: str,
        url: str,
        *,
        metadata: Mapping[str, str] | None = None,
        weight: float = 1.0,
        ttl: int = 15,
        instance: str | None = None,
    ) -> RegistrationBlock:
        """Register an endpoint of a service: `async with tide.register("api", "http://10.0.0.7:8000") as here:`.

        Whatever happens meanwhile, it is there as long as the block lasts: after an outage of hours, when etcd was
        rebuilt from nothing or restored from a backup, or when its key was deleted, it is put there again
        as soon as that is possible. After an outage all do so within 2.25 s, each at a moment of its own. Leaving
        the block takes it away; a process that dies is gone after its `ttl` and a second.

        Args:
            name: The service, such as `"api"`.
            url: Where others reach this instance, with the port, such as `"http://10.0.0.7:8000"`.
            metadata: What else it says about itself, text to text, such as `{"zone": "a"}`.
            weight: Its share of the traffic, compared with the others' weights. 0 means none.
            ttl: Whole seconds after which it is gone when its process has died; 5 at the least.
            instance: Which instance it is: of several registrations of one instance the newest counts. None means
                host and port of the URL, so that a process started in place of another one takes its place.

        Returns:
            A block, for one use; entering gives a `Registered`. It waits for etcd, `start_timeout` at the most.

        Raises:
            TypeError: An option is of the wrong type.
            ValueError: An option is out of range, or others could not reach that URL.
            Closed: When entering: the coordinator is not entered, or closed, or this is a forked child.

        When degraded:
            Entering returns at once, and so does an etcd's refusal, such as for want of rights: `here.registered`
            is False, `here.status` says why, and it is registered as soon as possible. What is in etcd already
            stays there in an outage.
        """
        return self._parts.registrations.block(Registration(name, url, metadata or {}, weight, ttl, instance))

    @property
    def registrations(self) -> tuple[Registered, ...]:
        """What is registered here, the middleware's included."""
        return self._parts.registrations.handles()

    def discover(
        self, name: str, *, max_stale: float | None = None, on_stale: Literal["serve", "raise"] = "serve"
    ) -> ServiceView:
        """Return the endpoints of a service, kept up to date: `tide.discover("billing").pick()`. No I/O.

        The first call for a service begins to follow it in the background: wait for the first read with `await
        view.wait_for(1)`, or name the service in `connect(discover=[...])`, which waits for it at the start. Until
        then `pick()` knows at most what an earlier process has left on disk. All handles share what is known.

        What is registered is listed at once. What is gone has left the list at once in ordinary times; after an
        outage, or when many go together, after some time: see "Service discovery" in the documentation.

        Args:
            name: The service.
            max_stale: Seconds since the list was last proven in sync, beyond which it counts as stale even if
                nothing else is wrong; None means no limit.
            on_stale: What happens beyond that: `"serve"` the list all the same, or `"raise"` `TooStale`.

        Returns:
            The handle, good until the coordinator is closed.

        Raises:
            TypeError: The name or the limit is of the wrong type.
            ValueError: That is no name, or an option is out of range.
            NotFollowed: The service is not followed yet, and cannot be from here: 256 others are, with handles in
                use, or this is a thread that the coordinator's event loop knows nothing of.
            Closed: The coordinator is not open.

        When degraded:
            The same handle. Its list is frozen, labelled with source and age, and never emptied by an outage; a
            process that starts in one has it from disk.
        """
        return self._parts.discovery.discover(name, max_stale=max_stale, on_stale=on_stale)

    async def services(self) -> Mapping[str, int]:
        """Ask etcd which services there are, and how many registrations each has.

        Returns:
            Service to count, in the order of their names.

        Raises:
            Unavailable: etcd is away.
            PermissionDenied: A quorum refuses to let this client read them.
            AuthenticationFailed: A quorum refuses the credentials.

        When degraded:
            Raises: only a quorum knows all of them. What is followed here is in `status().services`.
        """
        self._parts.client.home.check(self)
        return await self._parts.discovery.count()


def life_of(tide: Coordinator) -> Life:
    """Return the life of a coordinator, and its parts with it: for the faces, which show what is inside."""
    return tide._life


def _read_bootstrap(options: Options) -> Mapping[bytes, Entry]:
    if options.bootstrap is None:
        return {}
    return read_bootstrap(Path(options.bootstrap), base=options.base, encryption=options.encryption)


def _poison_all() -> None:
    for coordinator in list(open_coordinators):
        coordinator._life.poison()
    open_coordinators.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_poison_all)
