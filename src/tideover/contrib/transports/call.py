"""One request for a discovered endpoint or leader, and its attempts. Decides; the transports act."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any, Generic, Protocol, TypeVar

from tideover.client.rules.retry_budget import RetryBudget
from tideover.contrib.rules.attempts import Patience, may_repeat
from tideover.contrib.rules.locations import as_called, at_endpoint, is_secure
from tideover.contrib.transports.bodies import Receiving, Sending
from tideover.contrib.transports.library import Error, Library, Request, Response
from tideover.shown import shown


class Rules(Protocol):
    """What all calls of a transport have in common; see `Discovering`."""

    attempts: int
    failures: frozenset[int]
    connect_timeout: float
    budget: RetryBudget


class Place(Protocol):
    """Where a request can be sent to."""

    @property
    def url(self) -> str:
        """The URL, as registered or advertised."""


PlaceT = TypeVar("PlaceT", bound=Place)


class Call(ABC, Generic[PlaceT]):
    """One request, and its attempts, each of which goes to one place.

    What was sent is repeated under gRPC's retry throttling (gRFC A6): when most requests fail, they are not
    multiplied.
    """

    def __init__(self, library: Library, rules: Rules, request: Request) -> None:
        self._library = library
        self._names = library.names
        self._rules = rules
        self._request = request
        self._sending = Sending()
        replayable = isinstance(request.stream, self._names.ByteStream)
        self._stream = request.stream if replayable else library.body(request.stream, self._sending)
        given = dict(request.extensions.get("timeout", {}))
        self._patience = Patience(given, rules.connect_timeout, time.monotonic())
        self._timeouts: dict[str, float | None] = {}
        self._tried: list[PlaceT] = []

    @abstractmethod
    async def ready(self) -> None:
        """Wait until a place for the request is known, as long as the request allows."""

    @abstractmethod
    def ready_in_thread(self) -> None:
        """Do the same in a thread."""

    @abstractmethod
    async def pause(self, pause: float) -> None:
        """Wait before the next attempt."""

    @abstractmethod
    def pause_in_thread(self, pause: float) -> None:
        """Do the same in a thread."""

    @abstractmethod
    def begin(self) -> None:
        """Choose the first place.

        Raises:
            ConnectError: There is none; its cause says why.
        """

    def _report(self, ok: bool, *, sent: bool = True) -> None:
        if sent:
            # Trying another endpoint instead of a dead one multiplies nothing.
            self._rules.budget = self._rules.budget.after(succeeded=ok)

    def _refuse(self, error: Error) -> None:
        """Record that this library cannot reach the present place at all."""

    def _plan_retry(self, *, sent: bool, again: bool = True) -> float | None:
        """Return the seconds to wait before another attempt, at the same place only if `again`; None for none."""

    def _fields(self) -> dict[str, str]:
        """Return our own header fields of a request."""
        return {}

    @property
    def _place(self) -> PlaceT:
        return self._tried[-1]

    def _may_repeat(self, *, sent: bool) -> bool:
        return may_repeat(
            self._request.method,
            sent=sent,
            body_begun=self._sending.begun,
            affordable=self._rules.budget.allows_retry,
        )

    def attempt(self) -> Request:
        """Return the request for the present place.

        Raises:
            UnsupportedProtocol: The place's URL is unusable, as foreign processes may register it.
            LocalProtocolError: The place is without TLS, and the caller has asked for it; or the caller's path is
                too long.
        """
        given, names = self._request, self._names
        base = self._library.read_base(self._place.url)
        if isinstance(base, str):
            raise names.UnsupportedProtocol(f"{shown(self._place.url)!r} cannot be called: {base}")
        if is_secure(given.url) and not is_secure(base):
            # Without what may be secret in either: who calls and with which query, and what is before the host.
            where, there = shown(given.url.host), shown(base.netloc.decode("ascii"))
            raise names.LocalProtocolError(f"{given.url.scheme}://{where}/ asks for TLS, and {there!r} is without")
        try:
            url = at_endpoint(given.url, base)
        except names.InvalidURL as exc:
            raise names.LocalProtocolError(f"behind {shown(self._place.url)!r}: {shown(str(exc))}") from exc
        headers: Any = given.headers.copy()
        if headers.get("host") == given.url.netloc.decode("ascii"):
            # The caller has asked for no other; and servers know themselves by their own name.
            headers["host"] = url.netloc.decode("ascii")
        headers.update(self._fields())
        self._timeouts = self._patience.of_attempt(time.monotonic())
        extensions = {**given.extensions, "timeout": self._timeouts}
        return names.Request(given.method, url, headers=headers, stream=self._stream, extensions=extensions)

    def failed(self, error: Error) -> float | None:
        """Record a failed attempt; return the seconds until the next, or None without one."""
        error.request = self._request
        if not isinstance(error, self._library.failures):
            return None
        sent = not isinstance(error, self._library.never_sent)
        if isinstance(error, self._names.UnsupportedProtocol):
            self._refuse(error)
        self._report(False, sent=sent)
        return self._plan_retry(sent=sent)

    def answered(self, response: Response) -> float | None:
        """Look at an answer.

        Returns:
            Seconds to wait before the next attempt, and close this answer; None if it is the caller's.

        Raises:
            RemoteProtocolError: The answer redirects to what is no URL, and is not closed yet.
        """
        if response.status_code not in self._rules.failures:
            # How reading the body goes is still to be seen.
            watcher = Receiving(self._library.failures, self._report)
            response.stream = self._library.body(response.stream, watcher)
        else:
            self._report(False)
            pause = self._plan_retry(sent=True, again="retry-after" not in response.headers)
            if pause is not None:
                return pause
        # It came in time: each part of its body has what the caller gives for one, not what is left.
        given = self._patience.given
        self._timeouts.update((phase, given[phase]) for phase in ("read", "write") if phase in given)
        if "location" in response.headers:
            self._rewrite_location(response)
        return None

    def _rewrite_location(self, response: Response) -> None:
        """Rewrite an answer's `Location` for the caller; what is no URL stays."""
        location, base = response.headers["location"], self._library.read_base(self._place.url)
        assert not isinstance(base, str)  # it has answered
        try:
            response.headers["location"] = as_called(location, base, self._request.url, self._names.URL)
        except self._library.no_url as exc:
            # httpx looks at it even if the caller follows no redirects, and not all it then raises is its own.
            # No failure of the endpoint, which may only repeat a caller's own text.
            if response.has_redirect_location:
                text = f"the answer redirects to {shown(location)!r}: {shown(str(exc))}"
                raise self._names.RemoteProtocolError(text, request=self._request) from exc
