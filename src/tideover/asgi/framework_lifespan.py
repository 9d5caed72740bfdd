"""`lifespan`: the coordinator for frameworks that accept a lifespan, but hide theirs from middleware."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from typing_extensions import Unpack

from tideover.asgi.plan import ConnectOptions, Plan
from tideover.coordinator.coordinator import Coordinator
from tideover.elections.leading import Work
from tideover.registration.registration import Registration
from tideover.request_record import current_coordinator

# A framework's own lifespan: called with the application, entered at its start and left at its end.
OwnLifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]

_made = itertools.count(1)


class FrameworkLifespan:
    """A lifespan that runs a coordinator; made by `lifespan`, which documents it."""

    def __init__(self, own: OwnLifespan | None, plan: Plan) -> None:
        self.plan = plan
        self._own = own

    def __repr__(self) -> str:
        return f"<FrameworkLifespan of {self.plan!r}>"

    @asynccontextmanager
    async def __call__(self, app: object) -> AsyncIterator[Mapping[str, Any]]:
        """Run the coordinator, and the application's own lifespan within it."""
        state: dict[str, Any] = {}
        async with AsyncExitStack() as stack:
            run = await stack.enter_async_context(self.plan.run(state))
            # Not by a token: some frameworks leave in another context than they entered.
            before = current_coordinator.get()
            stack.callback(current_coordinator.set, before)
            current_coordinator.set(run.coordinator)
            if self._own is not None:
                yielded: Mapping[str, Any] | None = await stack.enter_async_context(self._own(app))
                state.update(yielded or {})
            # Before the application's own lifespan closes what its jobs use.
            stack.push_async_callback(run.end)
            run.begin()
            yield state


def lifespan(
    own: OwnLifespan | None = None,
    *,
    endpoints: Iterable[str] | None = None,
    coordinator: Coordinator | None = None,
    register: Registration | Iterable[Registration] = (),
    while_leading: Mapping[str, Work] | None = None,
    **options: Unpack[ConnectOptions],
) -> FrameworkLifespan:
    """Return a lifespan that runs a coordinator as long as the application.

        tide = lifespan(endpoints=["127.0.0.1:2379"])
        app = Litestar([...], lifespan=[tide], middleware=[DefineMiddleware(TideoverMiddleware, lifespan=tide)])

    For frameworks with `lifespan=`: Litestar, whose middleware sees no lifespan, and also Starlette and FastAPI.
    `TideoverMiddleware(app, lifespan=...)` then gives each request a record, and the coordinator of its own run.
    Without that middleware `tideover.current()` is the coordinator while it is the only one in its event loop.

    The state that it yields is what Starlette and FastAPI hand on to requests; their servers must hand on
    `scope["state"]`, as all current ones do.

    Args:
        own: The application's own lifespan: a function that is given the application and returns an async context
            manager, such as one decorated with `@asynccontextmanager`. It is entered when the coordinator is open,
            and left before it is closed; what it yields is yielded. `lifespan` may be given to `lifespan`.
        endpoints: As in `TideoverMiddleware`, like all that follows.
        coordinator: A coordinator that the application enters and leaves itself; instead of `endpoints`.
        register: The registrations: made when `own` has been entered, a moment before the server hears that the
            application has started.
        while_leading: What to run in one process of all; each begins when `own` has been entered, and has ended
            before `own` is left.
        options: Everything else goes to `connect`.

    Raises:
        TypeError: See `TideoverMiddleware`; or `own` is no such function.
        ValueError: An option is wrong, or a variable of the environment; see `connect`.

    When degraded:
        The application starts as ever; nothing waits for etcd.
    """
    if own is not None and not callable(own):
        raise TypeError(f"own must be a function that is given the application, not {own!r}")
    if inspect.isasyncgenfunction(own) or inspect.iscoroutinefunction(own):
        raise TypeError(f"own must return an async context manager: put @asynccontextmanager above {own!r}")
    plan = Plan(
        "lifespan",
        endpoints=endpoints,
        coordinator=coordinator,
        register=register,
        while_leading=while_leading,
        options=options,
        apart=f" {next(_made)}",
    )
    return FrameworkLifespan(own, plan)
