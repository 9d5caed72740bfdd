"""One request for a service, and its attempts. Decides; the transports act."""

from __future__ import annotations

import random
import time
from typing import Protocol

from tideover import telemetry
from tideover.client.rules.retry_budget import RetryBudget
from tideover.contrib.rules.attempts import Patience, may_repeat, pause_before
from tideover.contrib.rules.locations import as_called, at_endpoint, is_secure
from tideover.contrib.transports.bodies import Receiving, Sending
from tideover.contrib.transports.library import Error, Library, Request, Response
from tideover.discovery.endpoint import Endpoint
from tideover.discovery.service_view import ServiceView
from tideover.errors import NoEndpoints, TideoverError
from tideover.shown import shown


class Rules(Protocol):
    """What all calls of a transport have in common.

    Attributes:
        attempts: How many attempts to make at the most.
        failures: Status codes that count as failures of the endpoint.
        connect_timeout: Seconds for connecting to one endpoint, if the request itself allows more.
        budget: The budget for further attempts.
    """

    attempts: int
    failures: frozenset[int]
    connect_timeout: float
    budget: RetryBudget


class Call:
    """One request, and its attempts.

    Each further attempt goes to another endpoint, or after a pause to the same, within the request's own timeouts.
    What was sent is repeated under gRPC's retry throttling (gRFC A6): when most requests fail, they are not
    multiplied.

    Args:
        library: Whose request it is.
        rules: The rules.
        view: The service.
        request: The request, as the caller made it.
    """

    def __init__(self, library: Library, rules: Rules, view: ServiceView, request: Request) -> None:
        self._library = library
        self._names = library.names
        self._rules = rules
        self._view = view
        self._request = request
        self._sending = Sending()
        self._replayable = isinstance(request.stream, self._names.ByteStream)
        self._stream = request.stream if self._replayable else library.body(request.stream, self._sending)
        given = dict(request.extensions.get("timeout", {}))
        self._patience = Patience(given, rules.connect_timeout, time.monotonic())
        self._timeouts: dict[str, float | None] = {}
        self._tried: list[Endpoint] = []
        self._unusable: list[Endpoint] = []
        # What we have raised for the endpoint whose turn it is, and have named it in.
        self._named: Error = None

    def __repr__(self) -> str:
        """Show the request and what was tried."""
        return f"<Call {self._request.method} {self._request.url}, tried {[e.url for e in self._tried]}>"

    @property
    def _endpoint(self) -> Endpoint:
        return self._tried[-1]

    @property
    def patience(self) -> float:
        """Seconds to wait for the service's first read."""
        return self._patience.to_begin

    def begin(self) -> None:
        """Choose the first endpoint.

        Raises:
            ConnectError: There is none; its cause is the `NoEndpoints`.
        """
        try:
            self._tried = [self._view.pick()]
        except NoEndpoints as exc:
            raise self._names.ConnectError(str(exc), request=self._request) from exc

    def attempt(self) -> Request:
        """Return the request for the endpoint whose turn it is.

        Raises:
            UnsupportedProtocol: It does not say where it is. Others write to the registry too.
            LocalProtocolError: It is without TLS, and the caller has asked for it; or the caller's path is too
                long.
        """
        given, names = self._request, self._names
        base = self._library.read_base(self._endpoint.url)
        if isinstance(base, str):
            self._named = names.UnsupportedProtocol(f"{shown(self._endpoint.url)!r} cannot be called: {base}")
            raise self._named
        if is_secure(given.url) and not is_secure(base):
            raise names.LocalProtocolError(f"{given.url} asks for TLS, and {self._endpoint.url!r} is without")
        try:
            url = at_endpoint(given.url, base)
        except names.InvalidURL as exc:
            raise names.LocalProtocolError(f"behind {shown(self._endpoint.url)!r}: {shown(str(exc))}") from exc
        headers = given.headers.copy()
        if headers.get("host") == given.url.netloc.decode("ascii"):
            # The caller has asked for no other; and servers know themselves by their own name.
            headers["host"] = url.netloc.decode("ascii")
        self._timeouts = self._patience.of_attempt(time.monotonic())
        extensions = {**given.extensions, "timeout": self._timeouts}
        return names.Request(given.method, url, headers=headers, stream=self._stream, extensions=extensions)

    def failed(self, error: Error) -> float | None:
        """Note that an attempt failed.

        Args:
            error: The library's error.

        Returns:
            Seconds to wait before the next one; None if there is to be none.
        """
        error.request = self._request
        if not isinstance(error, self._library.failures):
            return None
        sent = not isinstance(error, self._library.never_sent)
        if isinstance(error, self._names.UnsupportedProtocol):
            self._refuse(error)
        self._report(False, sent=sent)
        return self._go_on(sent=sent)

    def answered(self, response: Response) -> float | None:
        """Look at an answer.

        Returns:
            Seconds to wait before the next attempt, and close this answer; None if it is the caller's.

        Raises:
            RemoteProtocolError: It redirects to what is no URL. It has still to be closed.
        """
        if response.status_code not in self._rules.failures:
            # How reading the body goes is still to be seen.
            watcher = Receiving(self._library.failures, self._report)
            response.stream = self._library.body(response.stream, watcher)
        else:
            self._report(False)
            pause = self._go_on(sent=True, again="retry-after" not in response.headers)
            if pause is not None:
                return pause
        # It came in time: each part of its body has what the caller gives for one, not what is left.
        given = self._patience.given
        self._timeouts.update((phase, given[phase]) for phase in ("read", "write") if phase in given)
        if "location" in response.headers:
            self._put_as_called(response)
        return None

    def _put_as_called(self, response: Response) -> None:
        """Put where an answer leads into the caller's terms; what is no URL is left to the caller."""
        location, base = response.headers["location"], self._library.read_base(self._endpoint.url)
        assert not isinstance(base, str)  # it has answered
        try:
            response.headers["location"] = as_called(location, base, self._request.url, self._names.URL)
        except self._library.no_url as exc:
            # httpx looks at it even if the caller follows no redirects, and not all it then raises is its own.
            # No failure of the endpoint, which may only repeat what somebody has asked for.
            if response.has_redirect_location:
                text = f"the answer redirects to {shown(location)!r}: {shown(str(exc))}"
                raise self._names.RemoteProtocolError(text, request=self._request) from exc

    def _refuse(self, error: Error) -> None:
        """Never ask this endpoint within this call, and tell which one it is."""
        self._unusable.append(self._endpoint)
        named = error is self._named
        why = str(error) if named else f"{shown(self._endpoint.url)!r} cannot be called: {error}"
        telemetry.endpoint_rejected(self._view.name, why)

    def _report(self, ok: bool, *, sent: bool = True) -> None:
        if sent:
            # Trying another endpoint instead of a dead one multiplies nothing.
            self._rules.budget = self._rules.budget.after(succeeded=ok)
        self._view.report(self._endpoint, ok)

    def _go_on(self, *, sent: bool, again: bool = True) -> float | None:
        """Choose the endpoint of the next attempt; return how long to wait, or None if there is to be none.

        Args:
            sent: Whether the request was sent.
            again: Whether an endpoint may be asked twice.
        """
        asked = len(self._tried) - len(self._unusable)
        affordable = self._rules.budget.allows_retry
        begun, method = self._sending.begun, self._request.method
        if asked >= self._rules.attempts:
            return None
        if not may_repeat(method, sent=sent, body_begun=begun, affordable=affordable):
            return None
        try:
            endpoint = self._view.pick(avoid=self._tried)
            if endpoint in self._unusable:
                endpoint = self._view.pick(avoid=self._unusable)
        except TideoverError:
            return None
        if endpoint in self._unusable:
            return None
        times = self._tried.count(endpoint)
        pause = pause_before(times, random.random())
        if (times and not again) or pause >= self._patience.left(time.monotonic()):
            return None
        self._tried.append(endpoint)
        return pause
