"""An application's coordinator, registrations and jobs, from its start to its end."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping, MutableMapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypedDict

import anyio
from starlette.types import Scope

from tideover.asgi.runs import Runs
from tideover.asgi.shutdown import EarlyWarning
from tideover.coordinator.coordinator import Coordinator, life_of
from tideover.elections.jobs import Job
from tideover.elections.leading import Work
from tideover.elections.stall_watchdog import OnStall
from tideover.encryption import Encryption
from tideover.environment import ENDPOINTS
from tideover.errors import Closed
from tideover.functions import connect
from tideover.options import Require
from tideover.policies import CachePolicy, Failsafe, Password, RetryPolicy, StalenessLimit, Tls, Transport
from tideover.registration.registered import Registered
from tideover.registration.registration import Registration
from tideover.store.protocol import Store


class ConnectOptions(TypedDict, total=False):
    """The options of `connect`, which documents them.

    All of them, because type checkers refuse a middleware that takes just any keyword: one might be called `app`.
    """

    namespace: str | None
    follow: Sequence[str]
    discover: Sequence[str]
    cache_dir: str | Path | Literal[False] | None
    profile: str
    start_timeout: float
    require: Require | None
    limits: Mapping[str, StalenessLimit] | None
    retry: RetryPolicy | None
    cache: CachePolicy | None
    exclude: Sequence[str]
    record_keys: bool
    tls: Tls | None
    username: str | None
    password: Password | None
    sync_members: bool
    failsafe: Failsafe | None
    on_stall: OnStall
    encryption: Encryption | None
    bootstrap: str | Path | None
    transport: Transport | None
    store: Store | None


class Plan:
    """The parts of each run of an application object; checked when the application is built.

    Args:
        apart: Distinguishes its runs from others with the same options, in the state of one lifespan.
    """

    def __init__(
        self,
        face: str,
        *,
        endpoints: Iterable[str] | None,
        coordinator: Coordinator | None,
        register: Registration | Iterable[Registration],
        while_leading: Mapping[str, Work] | None,
        options: ConnectOptions,
        apart: str = "",
    ) -> None:
        _check_sources(face, endpoints, coordinator, options)
        if while_leading is not None and not isinstance(while_leading, Mapping):
            raise TypeError(f"while_leading must be a dict of functions by election, not {while_leading!r}")
        self._registrations = (register,) if isinstance(register, Registration) else tuple(register)
        for registration in self._registrations:
            if not isinstance(registration, Registration):
                raise TypeError(f"register must be Registration(...), or a list of them, not {register!r}")
        members = tuple(endpoints or ())
        if endpoints is not None and not members and "store" not in options:
            raise ValueError(f"give at least one endpoint, or leave endpoints out to take those of {ENDPOINTS}")
        self._store = options.get("store")
        self._own = coordinator is None
        # Made here so that a wrong option is found when the application is built, not when it starts.
        self.coordinator = connect(*members, **options) if coordinator is None else coordinator
        self._work = dict(while_leading or {})
        _jobs(self.coordinator, self._work)
        self._runs = Runs(life_of(self.coordinator).parts.options, apart=apart)

    def __repr__(self) -> str:
        return f"<Plan of {self.coordinator!r}>"

    @property
    def lives(self) -> bool:
        """Whether there is anything to begin and to end with the application."""
        return self._own or bool(self._registrations or self._work)

    def of(self, scope: Scope) -> Coordinator:
        """Return the coordinator of a request's run; before the first run, one that is not entered."""
        return self._runs.of(scope) or self.coordinator

    @asynccontextmanager
    async def run(self, state: MutableMapping[str, Any] | None, *, needed: bool = True) -> AsyncIterator[Run]:
        """Run all parts for a block, in which the application starts and ends.

        A coordinator is single-use, so each run makes its own, unless the application gave one.

        Args:
            needed: Whether a given coordinator must have been entered.

        Raises:
            AmbiguousCoordinator: Another run is active, and the requests of the two could not be told apart.
            Closed: A given coordinator is not entered.
            TideoverError: What `connect` raises when entered.
        """
        own = self.coordinator
        coordinator = Coordinator(life_of(own).parts.options, store=self._store) if self._own else own
        async with AsyncExitStack() as stack:
            if self._own:
                stack.enter_context(self._runs.run(coordinator, state))
                await stack.enter_async_context(coordinator)
                self.coordinator = coordinator
            elif life_of(coordinator).loop is None and needed:
                raise Closed(
                    f"{coordinator!r}: to register or lead, enter it before the application starts, or give "
                    "endpoints"
                )
            run = Run(coordinator, self._registrations, self._work)
            # Also where the application ends on its own.
            stack.push_async_callback(run.end)
            yield run


class Run:
    """One run of an application."""

    def __init__(
        self, coordinator: Coordinator, registrations: Sequence[Registration], work: Mapping[str, Work]
    ) -> None:
        self.coordinator = coordinator
        self._registrations = registrations
        self._registered: list[Registered] = []
        self._jobs = _jobs(coordinator, work)
        self._warning = EarlyWarning(self._withdraw, unheard=lambda: self._listed)

    def begin(self) -> None:
        """Register and start the jobs, without waiting for etcd."""
        life = life_of(self.coordinator)
        life.ending = False
        self._registered = [life.parts.registrations.start(each) for each in self._registrations]
        for job in self._jobs:
            job.start()
        self._warning.listen()

    @property
    def _listed(self) -> bool:
        """Whether callers may still find an endpoint: etcd has not confirmed all deletions."""
        return any(each in self.coordinator.registrations for each in self._registered)

    def _withdraw(self) -> None:
        """Start to deregister all, without waiting for etcd: the process will end."""
        life_of(self.coordinator).ending = True
        for each in self._registered:
            each.begin_deregistering()

    async def end(self) -> None:
        """Deregister, and end the jobs, before the application shuts down; bounded in time. Again is a no-op."""
        self._warning.stop()
        life_of(self.coordinator).ending = True
        registered, self._registered = self._registered, []
        async with anyio.create_task_group() as tasks:
            for stop in (*(each.deregister for each in registered), *(job.stop for job in self._jobs)):
                tasks.start_soon(stop)


def _jobs(coordinator: Coordinator, work: Mapping[str, Work]) -> list[Job]:
    return [coordinator.job(name, each) for name, each in work.items()]


def _check_sources(face: str, endpoints: object, coordinator: object, options: Mapping[str, object]) -> None:
    """Reject arguments that give no coordinator, or more than one."""
    if isinstance(endpoints, Coordinator):
        raise TypeError(f"endpoints must be a list of host:port; give {endpoints!r} as coordinator=")
    if isinstance(endpoints, str):
        raise TypeError(f"endpoints must be a list, such as [{endpoints!r}], not a string")
    if coordinator is not None:
        if not isinstance(coordinator, Coordinator):
            raise TypeError(f"coordinator must be what connect() returns, not {coordinator!r}")
        if endpoints is not None:
            raise TypeError("give endpoints or a coordinator, not both")
        if options:
            raise TypeError(f"{', '.join(options)}: give options to connect(), where the coordinator is made")
    elif endpoints is None and "store" not in options and not os.environ.get(ENDPOINTS):
        raise TypeError(
            f"{face} needs endpoints=[...], coordinator=..., "
            f"{ENDPOINTS} in the environment or, in tests, store=..."
        )
