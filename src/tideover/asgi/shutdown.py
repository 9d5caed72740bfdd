"""Hearing that the process is asked to end, before the server acts upon it.

Servers tell an application of their shutdown only when the requests under way have been answered, and until then
others would still be sent here. The signal itself comes first. So the handlers that the server has set are put
behind ours, which calls them; asyncio's own (`loop.add_signal_handler`) are woken by the signal in another way,
past the handlers of Python.
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

_Handler = Callable[[int, FrameType | None], object]


class EarlyWarning:
    """Tells the event loop of a signal that ends the process, then lets it take its course.

    Args:
        tell: Called within the event loop, perhaps more than once.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._loop: asyncio.AbstractEventLoop | None = None
        self._former: dict[int, _Handler] = {}

    def __repr__(self) -> str:
        """Show which signals it hears."""
        return f"<EarlyWarning of {', '.join(signal.Signals(s).name for s in self._former) or 'nothing'}>"

    def listen(self) -> None:
        """Begin, where that is safe: in the main thread, under asyncio, and in front of a handler in Python.

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
        """Be the handler."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell)
        self._former[number](number, frame)

    def stop(self) -> None:
        """Put the former handlers back, except where somebody has set another one since."""
        for number, former in self._former.items():
            if signal.getsignal(number) is self:
                signal.signal(number, former)
        self._tell = _nothing


def _nothing() -> None:
    return
