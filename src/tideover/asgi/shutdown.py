"""Hears that the process is asked to end, before the server acts.

Servers tell an application of their shutdown only when the requests under way have been answered, and until then
others would still be sent here. The signal itself comes first. So the handlers that the server has set are put
behind ours, which calls them; asyncio's own (`loop.add_signal_handler`) are woken by the signal in another way,
past the handlers of Python.

A server that hears of its end closes its idle connections, uvicorn within 0.1 s. A request that is sent on one of
them at that moment is lost, and one that may have been applied goes to no other endpoint. So the server's handler
is held back until callers know: for half a second at the most, and a moment more for them to hear of it.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType

# SIGQUIT is how gunicorn tells its workers of a quick end, SIGBREAK what Ctrl-Break sends on Windows.
_ENDINGS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGBREAK") if hasattr(signal, name)
)

# Seconds: the longest that a server's handler is held back, between two looks, and for callers to hear of it; also
# of the other workers at this address, which are asked to end at the same moment and may run a little later.
_HELD, _LOOK, _HEARD = 0.5, 0.02, 0.3

_Handler = Callable[[int, FrameType | None], object]


class EarlyWarning:
    """Reports a signal that ends the process to the event loop, then passes the signal on.

    Args:
        report: Called within the event loop, perhaps more than once.
        unheard: Whether callers cannot know yet that this process ends. While true, the server's handlers wait; a
            second signal passes at once, with the first.
    """

    def __init__(self, report: Callable[[], None], *, unheard: Callable[[], bool] = lambda: False) -> None:
        self._report = report
        self._unheard = unheard
        self._loop: asyncio.AbstractEventLoop | None = None
        self._former: dict[int, _Handler] = {}
        self._held: list[tuple[int, FrameType | None]] = []

    def __repr__(self) -> str:
        return f"<EarlyWarning of {', '.join(signal.Signals(s).name for s in self._former) or 'nothing'}>"

    def listen(self) -> None:
        """Listen where that is safe: in the main thread, under asyncio, and before a handler in Python.

        Where a signal's default action would end the process at once, nothing is changed.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        for number in _ENDINGS:
            former = signal.getsignal(number)
            if callable(former):
                self._former[number] = former
                signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        first = not self._held
        self._held.append((number, frame))
        loop = self._loop
        if loop is None or loop.is_closed():
            self._pass_on()
        elif first and self._unheard():
            loop.call_soon_threadsafe(self._report)
            loop.call_soon_threadsafe(self._wait, loop, loop.time() + _HELD)
        else:
            loop.call_soon_threadsafe(self._report)
            self._pass_on()

    def _wait(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        if self._held and self._unheard() and loop.time() < until:
            loop.call_later(_LOOK, self._wait, loop, until)
        else:
            loop.call_later(_HEARD, self._pass_on)

    def _pass_on(self) -> None:
        """Call the server's handlers."""
        held, self._held = self._held, []
        for number, frame in held:
            self._former[number](number, frame)

    def stop(self) -> None:
        """Restore the former handlers, unless another was set since, and pass on the signals held back."""
        self._pass_on()
        for number, former in self._former.items():
            if signal.getsignal(number) is self:
                signal.signal(number, former)
        self._report = _nothing


def _nothing() -> None:
    return
