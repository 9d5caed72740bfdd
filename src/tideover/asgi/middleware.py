"""`TideoverMiddleware`: the coordinator lives as long as the application, and every request has a record."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Literal, TypedDict

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import Unpack

from tideover import telemetry
from tideover.asgi.leading import LeadingJobs
from tideover.asgi.lifespan import Lifespan
from tideover.asgi.registration import Announcement
from tideover.asgi.runs import Runs
from tideover.asgi.status_header import status_field
from tideover.asgi.status_page.mount import StatusMount
from tideover.coordinator.coordinator import Coordinator
from tideover.elections.leading import Work
from tideover.elections.stall_watchdog import OnStall
from tideover.environment import ENDPOINTS
from tideover.errors import Closed
from tideover.functions import connect
from tideover.options import Require
from tideover.policies import CachePolicy, Failsafe, Password, RetryPolicy, StalenessLimit, Tls
from tideover.registration.registration import Registration
from tideover.request_record import RequestRecord, current_coordinator, current_record
from tideover.store.protocol import Store


class ConnectOptions(TypedDict, total=False):
    """The options of `connect`, which documents them.

    Spelled out because type checkers refuse a middleware that takes just any keyword: one might be called `app`.
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
    store: Store | None


class TideoverMiddleware:
    """Run a coordinator from the application's lifespan, and say which requests were served degraded.

        app = Starlette(routes=..., middleware=[Middleware(TideoverMiddleware, endpoints=["127.0.0.1:2379"])])

    Within a request and within the application's own lifespan `tideover.current()` is this coordinator. A request
    that got a degraded answer has `tideover.degraded` and its companions set on the framework's SERVER span.

    Args:
        app: The application.
        endpoints: The members' `host:port`; the coordinator is made and closed here. Without, and without a
            `coordinator`, they are those of the environment; see `connect`.
        coordinator: A coordinator that somebody else has entered and will leave; instead of `endpoints`.
        register: What others are to find: registered once the application has started, and gone from etcd the
            moment that SIGTERM, SIGINT or SIGQUIT arrives, while the requests under way are still answered. Where
            the signals cannot be heard (the server does not run in the main thread, or not on asyncio), it is gone
            when the server begins the application's shutdown.
        while_leading: What to run in one process of all, by the name of its election: coroutine functions without
            arguments, also decorated with `while_leader`, or `Leading(function, ttl=..., on_outage=...)`. Each
            begins once the application has started, and is run again after a failure as
            `Coordinator.run_while_leading` says; each is cancelled, and its end waited for, before the application
            hears of its shutdown.
        status_header: Whether degraded responses carry `Tideover-Status`, an RFC 9651 dictionary such as
            `config=memory;age=42`.
        status: Where the status page is mounted, such as `"/_tideover/status"`: `status_app()` for this
            coordinator, open to everybody who reaches it. Its requests have no record. None means nowhere.
        options: Everything else goes to `connect`.

    Raises:
        TypeError: Both of `endpoints` and `coordinator` were given, or neither and the environment has no
            endpoints; or `register` is no registration, or `while_leading` names what cannot be run.
        ValueError: An option is wrong, or a variable of the environment; see `connect`.
        ImportError: `status` was given, and the extra `status` is not installed.

    When degraded:
        Requests are served as ever; nothing waits for etcd.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        endpoints: Iterable[str] | None = None,
        coordinator: Coordinator | None = None,
        register: Registration | Iterable[Registration] = (),
        while_leading: Mapping[str, Work] | None = None,
        status_header: bool = False,
        status: str | None = None,
        **options: Unpack[ConnectOptions],
    ) -> None:
        _check_sources(endpoints, coordinator, options)
        if while_leading is not None and not isinstance(while_leading, Mapping):
            raise TypeError(f"while_leading must be a dict of functions by election, not {while_leading!r}")
        self._registrations = (register,) if isinstance(register, Registration) else tuple(register)
        for registration in self._registrations:
            if not isinstance(registration, Registration):
                raise TypeError(f"register must be Registration(...), or a list of them, not {register!r}")
        self.app = app
        self._status_header = status_header
        members = tuple(endpoints or ())
        if endpoints is not None and not members and "store" not in options:
            raise ValueError(f"give at least one endpoint, or leave endpoints out to take those of {ENDPOINTS}")
        self._store = options.get("store")
        self._own = coordinator is None
        # Made here so that a wrong option is found when the application is built, not when it starts. Requests get
        # it where there has been no run; later the coordinator of the last one.
        self._coordinator = connect(*members, **options) if coordinator is None else coordinator
        self._work = dict(while_leading or {})
        LeadingJobs(self._coordinator, self._work)
        self._runs = Runs(self._coordinator.options)
        self._status = StatusMount(status) if status is not None else None

    def __repr__(self) -> str:
        """Show the coordinator."""
        return f"<TideoverMiddleware {self._coordinator!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or run the lifespan."""
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            await self._lifespan(scope, receive, send)
            return
        if self._status is not None and (within := self._status.scope_of(scope)) is not None:
            await self._status(self._runs.of(scope) or self._coordinator, within, receive, send)
            return
        record = RequestRecord(self._runs.of(scope) or self._coordinator, telemetry.current_span())
        token = current_record.set(record)
        try:
            await self.app(scope, receive, self._announcing(send, record) if self._status_header else send)
        finally:
            current_record.reset(token)
            telemetry.finish_request(record)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" or not (self._own or self._registrations or self._work):
            await self._within(self._coordinator, scope, receive, send)
            return
        # A run of its own for each start of the application object: a coordinator is single-use.
        own = self._coordinator
        coordinator = Coordinator(own.options, store=self._store) if self._own else own
        announcement, jobs = Announcement(coordinator, self._registrations), LeadingJobs(coordinator, self._work)

        def begin() -> None:
            announcement.begin()
            jobs.begin()

        async def end() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(announcement.end)
                tasks.start_soon(jobs.end)

        lifespan = Lifespan(receive, send, on_started=begin, on_shutdown=end)
        try:
            async with AsyncExitStack() as stack:
                try:
                    await self._enter(coordinator, scope, stack)
                except Exception as exc:
                    await lifespan.refuse(exc)
                    raise
                # Also where the application ends without having been told to.
                stack.push_async_callback(end)
                await lifespan.run(partial(self._within, coordinator, scope))
        finally:
            await lifespan.finish()

    async def _enter(self, coordinator: Coordinator, scope: Scope, stack: AsyncExitStack) -> None:
        """Open the coordinator, or make sure that whoever made it has."""
        if self._own:
            stack.enter_context(self._runs.run(coordinator, scope))
            await stack.enter_async_context(coordinator)
            self._coordinator = coordinator
        elif coordinator.loop is None:
            raise Closed(
                f"{coordinator!r}: to register or lead, enter it before the application starts, or give endpoints"
            )

    async def _within(self, coordinator: Coordinator, scope: Scope, receive: Receive, send: Send) -> None:
        token = current_coordinator.set(coordinator)
        try:
            await self.app(scope, receive, send)
        finally:
            current_coordinator.reset(token)

    @staticmethod
    def _announcing(send: Send, record: RequestRecord) -> Send:
        async def announce(message: Message) -> None:
            if message["type"] == "http.response.start" and record.marks:
                field = (b"tideover-status", status_field(record.marks))
                message = {**message, "headers": [*message.get("headers", ()), field]}
            await send(message)

        return announce


def _check_sources(endpoints: object, coordinator: object, options: Mapping[str, object]) -> None:
    """Reject what is no coordinator, and makes none, or more than one."""
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
            "TideoverMiddleware needs endpoints=[...], coordinator=..., "
            f"{ENDPOINTS} in the environment or, in tests, store=..."
        )
