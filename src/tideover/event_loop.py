"""The event loop that something belongs to, told apart from the one that runs here.

An event that is awaited in a second event loop binds itself to that one; set from another thread, it wakes nobody.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import anyio.from_thread
import anyio.lowlevel

from tideover.errors import WrongLoop

R = TypeVar("R")

# Seconds that another thread waits for an event loop: one that takes longer is blocked, or does not run any more.
_PATIENCE = 10.0


class EventLoop:
    """One event loop, of asyncio or trio, or none yet."""

    __slots__ = ("_ident", "_loop", "_thread")

    def __init__(self) -> None:
        self._loop: Any = None
        self._thread = ""
        self._ident = 0

    def __repr__(self) -> str:
        """Show the loop and its thread."""
        return _describe(self._loop, self._thread)

    @classmethod
    def here(cls) -> EventLoop:
        """Return the one that runs here."""
        loop = cls()
        loop.enter()
        return loop

    def enter(self) -> None:
        """Be the one that runs here, if any does."""
        self._loop, self._thread = _running(), threading.current_thread().name
        self._ident = threading.get_ident()

    def leave(self) -> None:
        """Be none any more, so that nothing is refused."""
        self._loop = None

    @property
    def is_here(self) -> bool:
        """Whether it runs here."""
        return self._loop is not None and _running() is self._loop

    @property
    def is_in_this_thread(self) -> bool:
        """Whether it belongs to the thread that asks, running or not; or is none."""
        return self._loop is None or self._ident == threading.get_ident()

    @property
    def serves_this_thread(self) -> bool:
        """Whether this is one of its worker threads, such as a synchronous endpoint's, and not another loop's."""
        try:
            return anyio.from_thread.run_sync(lambda: self.is_here)
        except RuntimeError:  # of none
            return False

    def check(self, caller: object) -> None:
        """Return if it runs here, or is none.

        Args:
            caller: What was called, for the message.

        Raises:
            WrongLoop: Another event loop runs here, or none.
        """
        if self._loop is not None and _running() is not self._loop:
            here = _describe(_running(), threading.current_thread().name)
            raise WrongLoop(
                f"{caller!r} is used in {here}, but its coordinator belongs to {self!r}. Call it there; from a "
                "worker thread of that loop, such as a synchronous endpoint's, with `anyio.from_thread.run(...)`; "
                "or connect() here"
            )

    def call(self, function: Callable[[], R], *, late: bool = False) -> R:
        """Call something in it from any thread, and return what comes of it.

        In its own thread, and where it is none, that is a plain call: nothing else runs there now.

        Args:
            function: What.
            late: Whether it is called all the same, later, when this has raised `TimeoutError`: for what undoes
                something. What begins something is not, because nobody would end it.

        Raises:
            TimeoutError: The event loop has not come to it within 10 s.
        """
        if self.is_in_this_thread:
            return function()
        answer: Future[R] = Future()

        def there() -> None:
            if not late and not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(function())
            except Exception as exc:  # noqa: BLE001  # raised in the thread that waits
                answer.set_exception(exc)

        self.soon(there)
        try:
            return answer.result(_PATIENCE)
        except TimeoutError:
            # It may have begun, or be done, at this very moment.
            if not answer.done() and (late or answer.cancel()):
                raise TimeoutError(f"{self!r} is blocked or has ended: no answer in {_PATIENCE:.0f} s") from None
            return answer.result()

    def soon(self, call: Callable[..., object], *args: Any) -> None:
        """Call something in it: now if it runs here, or is none, else as soon as it can.

        For what any thread may find out, and only the event loop may act upon.

        Args:
            call: What; not at all if the event loop has ended.
            args: Its arguments.
        """
        if self._loop is None or _running() is self._loop:
            call(*args)
            return
        later = getattr(self._loop, "call_soon_threadsafe", None) or self._loop.run_sync_soon
        with suppress(RuntimeError):  # it has ended; trio's error for that derives from this one, too
            later(call, *args)


def _running() -> object:
    """Return the event loop that runs here; None if none does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        pass
    try:
        # trio's; asyncio's has been looked for, also where it runs a callback and no task.
        return anyio.lowlevel.current_token().native_token
    except RuntimeError:
        return None


def _describe(loop: object, thread: str) -> str:
    if loop is None:
        return f"thread {thread!r}, where no event loop runs"
    return f"event loop {type(loop).__name__} at {id(loop):#x} of thread {thread!r}"
