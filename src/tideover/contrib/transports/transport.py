"""What the client of a library calls: the transports, without the library's own classes."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any, ClassVar, Generic, TypeVar

import anyio

from tideover.client.rules.retry_budget import RetryBudget
from tideover.contrib.rules.hosts import check_suffix, name_in
from tideover.contrib.transports.call import Call
from tideover.contrib.transports.library import Library
from tideover.coordinator.coordinator import Coordinator
from tideover.discovery.service_view import ServiceView
from tideover.functions import current_for_reads

SenderT = TypeVar("SenderT")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class Discovering(Generic[SenderT, RequestT, ResponseT]):
    """What both transports are: which hosts are services, what counts as a failure, and how often to try.

    Attributes:
        library: The library.
        attempts: How many attempts to make at the most.
        failures: Status codes that count as failures of the endpoint.
        connect_timeout: Seconds for connecting to one endpoint, if the request itself allows more.
        budget: The budget for further attempts.
    """

    library: ClassVar[Library]

    def __init__(
        self,
        coordinator: Coordinator | None = None,
        *,
        transport: SenderT | None = None,
        suffix: str = ".service",
        attempts: int = 3,
        failures: Collection[int] = (502, 503, 504),
        connect_timeout: float = 1.0,
        max_stale: float | None = None,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, not {attempts}")
        if not connect_timeout > 0:
            raise ValueError(f"connect_timeout must be more than 0 seconds, not {connect_timeout}")
        self.attempts = attempts
        self.failures = frozenset(failures)
        self.connect_timeout = connect_timeout
        self.budget = RetryBudget()
        self._coordinator = coordinator
        self._suffix = check_suffix("suffix", suffix)
        self._max_stale = max_stale
        self.library.check(type(self).__name__, transport)
        self._transport: Any = self._ordinary() if transport is None else transport

    def __repr__(self) -> str:
        """Show what sends the requests."""
        return f"<{type(self).__name__} by {self._transport!r}>"

    def _ordinary(self) -> SenderT:
        """Make the library's own transport."""
        raise NotImplementedError

    def _view(self, request: Any) -> ServiceView | None:
        """Return the service that a request is for; None if it is for an ordinary host."""
        self.library.check(type(self).__name__, request)
        name = name_in(request.url.host, self._suffix)
        if not name:
            return None
        tide = self._coordinator or current_for_reads()
        return tide.discover(name, max_stale=self._max_stale, on_stale="raise")


class AsyncDiscovering(Discovering[SenderT, RequestT, ResponseT]):
    """The transport of asynchronous clients."""

    async def handle_async_request(self, request: RequestT) -> ResponseT:
        """Send a request; the client calls this."""
        send = self._transport.handle_async_request
        view = self._view(request)
        if view is None:
            passed: ResponseT = await send(request)
            return passed
        call = Call(self.library, self, view, request)
        if view.awaited:
            with suppress(TimeoutError):  # then from what is on disk; `begin` says if there is nothing
                await view.wait_for(0, timeout=call.patience)
        call.begin()
        while True:
            try:
                response = await send(call.attempt())
            except self.library.names.TransportError as exc:
                pause = call.failed(exc)
                if pause is None:
                    raise
            else:
                try:
                    pause = call.answered(response)
                except BaseException:
                    await response.aclose()
                    raise
                if pause is None:
                    answer: ResponseT = response
                    return answer
                await response.aclose()
            await anyio.sleep(pause)

    async def aclose(self) -> None:
        """Close what sends the requests."""
        await self._transport.aclose()


class SyncDiscovering(Discovering[SenderT, RequestT, ResponseT]):
    """The transport of synchronous clients."""

    def handle_request(self, request: RequestT) -> ResponseT:
        """Send a request; the client calls this."""
        send = self._transport.handle_request
        view = self._view(request)
        if view is None:
            passed: ResponseT = send(request)
            return passed
        call = Call(self.library, self, view, request)
        if view.awaited:
            view.wait_in_thread(timeout=call.patience)
        call.begin()
        while True:
            try:
                response = send(call.attempt())
            except self.library.names.TransportError as exc:
                pause = call.failed(exc)
                if pause is None:
                    raise
            else:
                try:
                    pause = call.answered(response)
                except BaseException:
                    response.close()
                    raise
                if pause is None:
                    answer: ResponseT = response
                    return answer
                response.close()
            time.sleep(pause)

    def close(self) -> None:
        """Close what sends the requests."""
        self._transport.close()
