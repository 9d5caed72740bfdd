"""What the client of a library calls: the transports, without the library's own classes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, Generic, TypeVar

from tideover.client.rules.retry_budget import RetryBudget
from tideover.contrib.rules.hosts import check_suffix, name_in
from tideover.contrib.transports.leader_call import LeaderCall
from tideover.contrib.transports.library import Library
from tideover.contrib.transports.service_call import ServiceCall
from tideover.coordinator.coordinator import Coordinator
from tideover.functions import current_for_reads
from tideover.shown import shown

SenderT = TypeVar("SenderT")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class Discovering(Generic[SenderT, RequestT, ResponseT]):
    """The base of both transports: the discovered hosts, the failures, and the number of attempts.

    Attributes:
        connect_timeout: Seconds for connecting to one endpoint, if the request itself allows more.
    """

    library: ClassVar[Library]
    # The class of the library's own transport.
    ordinary: ClassVar[type[Any]]

    def __init__(
        self,
        coordinator: Coordinator | None = None,
        *,
        transport: SenderT | None = None,
        suffix: str = ".service",
        leader_suffix: str = ".leader",
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
        self._leader_suffix = check_suffix("leader_suffix", leader_suffix)
        if suffix.endswith(leader_suffix) or leader_suffix.endswith(suffix):
            raise ValueError(f"suffix={suffix!r} and leader_suffix={leader_suffix!r}: a host may end with both")
        self._max_stale = max_stale
        self.library.check(type(self).__name__, transport)
        self._transport: Any = self.ordinary() if transport is None else transport

    def __repr__(self) -> str:
        return f"<{type(self).__name__} by {self._transport!r}>"

    def _call(self, request: Any) -> ServiceCall | LeaderCall | None:
        """Return the call that a request becomes; None if it is for an ordinary host."""
        self.library.check(type(self).__name__, request)
        host = request.url.host
        try:
            if service := name_in(host, self._suffix):
                view = self._tide.discover(service, max_stale=self._max_stale, on_stale="raise")
                return ServiceCall(self.library, self, view, request)
            if election := name_in(host, self._leader_suffix):
                return LeaderCall(self.library, self, self._tide.follow_leader(election), request)
        except ValueError as exc:
            text = f"{shown(host)!r} names nothing that could be found: {shown(str(exc))}"
            raise self.library.names.LocalProtocolError(text, request=request) from exc
        return None

    @property
    def _tide(self) -> Coordinator:
        return self._coordinator or current_for_reads()


class AsyncDiscovering(Discovering[SenderT, RequestT, ResponseT]):
    """The transport of asynchronous clients."""

    async def handle_async_request(self, request: RequestT) -> ResponseT:
        """Send a request; the client calls this."""
        send = self._transport.handle_async_request
        call = self._call(request)
        if call is None:
            passed: ResponseT = await send(request)
            return passed
        await call.ready()
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
            await call.pause(pause)

    async def aclose(self) -> None:
        """Close what sends the requests."""
        await self._transport.aclose()


class SyncDiscovering(Discovering[SenderT, RequestT, ResponseT]):
    """The transport of synchronous clients."""

    def handle_request(self, request: RequestT) -> ResponseT:
        """Send a request; the client calls this."""
        send = self._transport.handle_request
        call = self._call(request)
        if call is None:
            passed: ResponseT = send(request)
            return passed
        call.ready_in_thread()
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
            call.pause_in_thread(pause)

    def close(self) -> None:
        """Close what sends the requests."""
        self._transport.close()
