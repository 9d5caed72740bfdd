"""One request for a service, and its attempts."""

from __future__ import annotations

import random
import time
from contextlib import suppress

import anyio

from tideover import telemetry
from tideover.contrib.rules.attempts import pause_before
from tideover.contrib.transports.call import Call, Rules
from tideover.contrib.transports.library import Error, Library, Request
from tideover.discovery.endpoint import Endpoint
from tideover.discovery.service_view import ServiceView
from tideover.errors import NoEndpoints, TideoverError
from tideover.shown import shown


class ServiceCall(Call[Endpoint]):
    """One request for a service: each further attempt goes to another endpoint, or after a pause to the same."""

    def __init__(self, library: Library, rules: Rules, view: ServiceView, request: Request) -> None:
        super().__init__(library, rules, request)
        self._view = view
        self._unusable: list[Endpoint] = []

    async def ready(self) -> None:
        """Wait for the service's first read."""
        if self._view.awaited:
            with suppress(TimeoutError):  # then from what is on disk; `begin` says if there is nothing
                await self._view.wait_for(0, timeout=self._patience.to_begin)

    def ready_in_thread(self) -> None:
        """Do the same in a thread."""
        if self._view.awaited:
            self._view.wait_in_thread(timeout=self._patience.to_begin)

    async def pause(self, pause: float) -> None:
        """Wait before the next attempt."""
        await anyio.sleep(pause)

    def pause_in_thread(self, pause: float) -> None:
        """Do the same in a thread."""
        time.sleep(pause)

    def begin(self) -> None:
        """Choose the first endpoint."""
        try:
            self._tried = [self._view.pick()]
        except NoEndpoints as exc:
            raise self._names.ConnectError(str(exc), request=self._request) from exc

    def _report(self, ok: bool, *, sent: bool = True) -> None:
        super()._report(ok, sent=sent)
        self._view.report(self._place, ok)

    def _refuse(self, error: Error) -> None:
        """Exclude this endpoint from the call, and log it."""
        self._unusable.append(self._place)
        url, why = repr(shown(self._place.url)), str(error)
        telemetry.endpoint_rejected(self._view.name, why if url in why else f"{url} cannot be called: {why}")

    def _plan_retry(self, *, sent: bool, again: bool = True) -> float | None:
        """Choose the endpoint of the next attempt; return how long to wait, or None without one."""
        asked = len(self._tried) - len(self._unusable)
        if asked >= self._rules.attempts or not self._may_repeat(sent=sent):
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
