"""`TideoverMiddleware`: the coordinator lives as long as the application, and every request has a record."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import Unpack

from tideover import telemetry
from tideover.asgi.framework_lifespan import FrameworkLifespan
from tideover.asgi.health import HealthApp
from tideover.asgi.lifespan_messages import LifespanMessages
from tideover.asgi.misdirected import FIELD, misdirected
from tideover.asgi.paths import Paths, below, check_mount
from tideover.asgi.plan import ConnectOptions, Plan
from tideover.asgi.problems import refuse
from tideover.asgi.status_header import status_field
from tideover.asgi.status_page.app import StatusApp
from tideover.coordinator.coordinator import Coordinator
from tideover.elections.leading import Work
from tideover.registration.registration import Registration
from tideover.request_record import RequestRecord, current_coordinator, current_record

# Answers requests below its path, for the coordinator that is found.
Answerer = Callable[[Callable[[Scope], Coordinator], str, Scope, Receive, Send], Awaitable[None]]


class TideoverMiddleware:
    """Run a coordinator from the application's lifespan, and mark the requests that were served degraded.

        app = Starlette(routes=..., middleware=[Middleware(TideoverMiddleware, endpoints=["127.0.0.1:2379"])])

    Within a request and within the application's own lifespan `tideover.current()` is this coordinator. A request
    that got a degraded answer has `tideover.degraded` and its companions set on the framework's SERVER span.

    A request with the field `Tideover-Leader: NAME`, which `tideover.contrib.httpx` sends for `http://NAME.leader/`,
    reaches the application only while this process leads that election; else the answer is 421.

    Args:
        app: The application.
        endpoints: The members' `host:port`; the coordinator is made and closed here. Without, and without a
            `coordinator`, they are those of the environment; see `connect`.
        coordinator: A coordinator that the application enters and leaves itself; instead of `endpoints`.
        register: The registrations: made once the application has started, and deleted from etcd the moment that
            SIGTERM, SIGINT or SIGQUIT arrives, while the requests under way are still answered. Where the signals
            cannot be heard (the server does not run in the main thread, or not on asyncio), they are deleted when
            the server begins the application's shutdown.
        while_leading: Jobs that run in one process at a time, by the name of the election: coroutine functions
            without arguments, also decorated with `while_leader`, or `Leading(function, ttl=..., on_outage=...)`.
            Each begins once the application has started, and is run again after a failure as
            `Coordinator.run_while_leading` says; each is cancelled, and its end waited for, before the application
            hears of its shutdown.
        lifespan: The result of `tideover.asgi.lifespan` that the framework runs; instead of all the above.
        health: Where `HealthApp` answers, such as `"/_tideover"`; None means nowhere. These requests have no
            record and do not reach the application.
        exclude_paths: Paths whose requests have no record and are not counted, each with all below it, such as
            `"/static"`; below the `root_path`, if the server or a mount has one. `tideover.current()` works there.
        status_header: Whether degraded responses carry `Tideover-Status`, an RFC 9651 dictionary such as
            `config=memory;age=42`.
        status: Where the status page is mounted, such as `"/_tideover/status"`: `status_app()` for this
            coordinator, open to every client that reaches it. Its requests have no record. None means nowhere.
        options: Everything else goes to `connect`.

    Raises:
        TypeError: More than one of `endpoints`, `coordinator` and `lifespan` were given, or none and the
            environment has no endpoints; or `register` is no registration, or `while_leading` has an entry that
            cannot be run.
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
        lifespan: FrameworkLifespan | None = None,
        health: str | None = None,
        exclude_paths: Iterable[str] = (),
        status_header: bool = False,
        status: str | None = None,
        **options: Unpack[ConnectOptions],
    ) -> None:
        self.app = app
        self._status_header = status_header
        self._excluded = Paths("exclude_paths", exclude_paths)
        if lifespan is not None:
            _check_alone(lifespan, endpoints, coordinator, register, while_leading, options)
        self._plan = (
            lifespan.plan
            if lifespan is not None
            else Plan(
                "TideoverMiddleware",
                endpoints=endpoints,
                coordinator=coordinator,
                register=register,
                while_leading=while_leading,
                options=options,
            )
        )
        # The page may be below the health endpoints' path.
        self._mounts: list[tuple[str, Answerer]] = []
        if status is not None:
            self._mounts.append((check_mount("status", status), StatusApp().answer))
        if health is not None:
            self._mounts.append((check_mount("health", health), HealthApp().answer))
        # The first sign of the end can only be heard within a run.
        self._runs_lifespan = lifespan is None and (self._plan.lives or health is not None)

    def __repr__(self) -> str:
        return f"<TideoverMiddleware {self._plan.coordinator!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            await self._lifespan(scope, receive, send)
            return
        for mounted_at, answer in self._mounts:
            if (path := below(mounted_at, scope)) is not None:
                await answer(self._plan.of, path, scope, receive, send)
                return
        coordinator = self._plan.of(scope)
        # Inline, because each request pays for it: one more call is a tenth of the middleware's cost.
        for name, _ in scope.get("headers", ()):
            if name == FIELD and (problem := misdirected(scope, coordinator)) is not None:
                await refuse(problem, scope, receive, send)
                return
        if self._excluded and self._excluded.contain(scope):
            await self._within(coordinator, scope, receive, send)
            return
        record = RequestRecord(coordinator, telemetry.current_context(), scope=scope)
        token = current_record.set(record)
        try:
            await self.app(scope, receive, self._announcing(send, record) if self._status_header else send)
        finally:
            current_record.reset(token)
            telemetry.finish_request(record)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" or not self._runs_lifespan:
            await self._within(self._plan.coordinator, scope, receive, send)
            return
        messages = LifespanMessages(receive, send)
        try:
            async with AsyncExitStack() as stack:
                try:
                    run = await stack.enter_async_context(
                        self._plan.run(scope.get("state"), needed=self._plan.lives)
                    )
                except Exception as exc:
                    await messages.refuse(exc)
                    raise
                app = partial(self._within, run.coordinator, scope)
                await messages.run(app, on_started=run.begin, on_shutdown=run.end)
        finally:
            await messages.finish()

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


def _check_alone(lifespan: object, *others: object) -> None:
    """Reject a lifespan together with options of `lifespan` itself, and anything that is no lifespan."""
    if not isinstance(lifespan, FrameworkLifespan):
        raise TypeError(f"lifespan must be what tideover.asgi.lifespan() returns, not {lifespan!r}")
    if any(other is not None and other != () and other != {} for other in others):
        raise TypeError("give endpoints, coordinator, register, while_leading and options to lifespan() itself")
