"""Whether the server still lives: a PING after a silence, and patience for any word of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tideover.etcd.http2.options import Options


class Liveness:
    """Looks at a connection while calls are under way; one timer, however many calls there are.

    Whatever arrives is a sign of life: the answer to a PING waits behind a large reply, which must not be cut. So
    does a PING behind what is still to be sent; as long as that gets less, the server is not called silent.

    Without calls nothing is sent: etcd takes more than two PINGs of a connection without calls for an attack.
    `heard` is when something has arrived, by the event loop's clock.
    """

    def __init__(
        self,
        options: Options,
        *,
        busy: Callable[[], bool],
        unsent: Callable[[], int],
        ping: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._options = options
        self._busy, self._unsent, self._ping, self._lost = busy, unsent, ping, lost
        self._timer: asyncio.TimerHandle | None = None
        # What waited to be sent when the server was asked; None while it is not.
        self._asked: int | None = None
        self._asked_at = 0.0
        self.heard = self._loop.time()

    def watch(self) -> None:
        """Begin to look, unless that goes on: a call begins."""
        if self._timer is None:
            # What was silent because nobody asked anything has all the time again.
            self.heard = self._loop.time()
            self._timer = self._loop.call_later(self._options.ping_after, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if not self._busy():
            self._asked = None
            return
        now, wait = self._loop.time(), self._options.ping_after
        if self._asked is None or self.heard > self._asked_at:
            self._asked = None
            wait -= now - self.heard
            if wait <= 0:
                self._asked, self._asked_at = self._unsent(), now
                self._ping()
                wait = self._options.ping_timeout
        elif (unsent := self._unsent()) < self._asked:
            self._asked, wait = unsent, self._options.ping_timeout
        else:
            self._lost()
            return
        self._timer = self._loop.call_later(wait, self._look)
