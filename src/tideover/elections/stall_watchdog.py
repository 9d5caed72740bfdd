"""A thread that notices when the event loop is blocked beyond the deadline of an election that this process leads.

A blocked loop cannot cancel the body that leads, and meanwhile another process is elected. `term.check()` protects
what comes after the block; the watchdog reports the block itself, with the stack of the code that blocks, or ends
the process before another one leads: a challenger waits for two margins beyond the deadline.

Guarantee: a loop that is blocked in Python code, in a system call or in anything else that lets other threads run
    is reported within a second of the deadline. Not guaranteed: a C extension that keeps the interpreter's lock
    blocks this thread as well; and nothing runs while the process is stopped or the machine suspended.

The thread lives only while this process leads an election.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from tideover import telemetry
from tideover.elections.record import ElectionRecord
from tideover.elections.rules.stall import Suspicion
from tideover.status import StallStatus

OnStall = Literal["report", "abort"]

# Seconds for the report before an abort: the loop may be stuck in logging, or in the pipe behind stderr.
_LAST_WORDS = 0.2
# Seconds to wait for the thread's end.
_JOIN = 1.0

_End = None


class Watchdog:
    """Watches the records of the elections that one event loop leads."""

    def __init__(
        self, boot: Callable[[], float], *, on_stall: OnStall = "report", abort: Callable[[], object] = os.abort
    ) -> None:
        self.stalls = 0
        self._last = ("", 0.0, 0.0, "")
        self._boot = boot
        self._on_stall = on_stall
        self._abort = abort
        self._pid = os.getpid()
        self._watched: dict[str, ElectionRecord] = {}
        self._orders: queue.SimpleQueue[tuple[str, ElectionRecord | None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ending: threading.Thread | None = None

    def __repr__(self) -> str:
        """Count the elections and the stalls."""
        state = "awake" if self._thread else "asleep"
        return f"<Watchdog {state}, {len(self._watched)} led, {self.stalls} stalls>"

    def watch(self, name: str, record: ElectionRecord) -> None:
        """Watch the deadline of a record. Called in the event loop."""
        if self._watched.get(name) is record:
            return
        self._watched[name] = record
        if self._thread is None:
            self._orders = queue.SimpleQueue()
            self._thread = threading.Thread(
                target=self._run,
                args=(self._orders, threading.get_ident()),
                name="tideover-watchdog",
                daemon=True,
            )
            self._thread.start()
        self._orders.put((name, record))

    def forget(self, name: str, record: ElectionRecord) -> None:
        """Stop watching a record; the thread ends with the last one."""
        if self._watched.get(name) is not record:
            return
        del self._watched[name]
        self._orders.put((name, None) if self._watched else _End)
        if not self._watched:
            self._ending, self._thread = self._thread, None

    def close(self) -> None:
        """End the thread, and wait until it has."""
        self._watched.clear()
        if self._thread is not None:
            self._orders.put(_End)
        for thread in (self._thread, self._ending):
            # A forked child has none: they have stayed with the parent.
            if thread is not None and os.getpid() == self._pid:
                thread.join(_JOIN)
        self._thread = self._ending = None

    def last(self) -> StallStatus | None:
        """Return the last stall; None if the loop never was blocked."""
        name, late, at, stack = self._last
        return StallStatus(name, late, self._boot() - at, stack) if self.stalls else None

    def _run(self, orders: queue.SimpleQueue[tuple[str, ElectionRecord | None] | None], loop_thread: int) -> None:
        watched: dict[str, tuple[ElectionRecord, Suspicion]] = {}
        wait = 0.0
        while True:
            try:
                order = orders.get(timeout=wait) if watched else orders.get()
            except queue.Empty:
                pass
            else:
                if order is _End:
                    return
                name, record = order
                watched.pop(name, None)
                if record is not None:
                    watched[name] = record, Suspicion()
            now = self._boot()
            for name, (record, before) in list(watched.items()):
                watched[name] = record, self._look(name, record, before, now, loop_thread)
            waits = (s.next_look(now, record.state.deadline) for record, s in watched.values())
            wait = min(waits, default=0.0)

    def _look(
        self, name: str, record: ElectionRecord, before: Suspicion, now: float, loop_thread: int
    ) -> Suspicion:
        state = record.state
        # The loop itself has ended a tenure that is not held any more.
        deadline = state.deadline if state.held else now + 1.0
        after = before.looked(now, deadline, record.looked_at)
        if after.blocked and not before.blocked:
            self._report(name, state.token, now - deadline, loop_thread)
        return after

    def _report(self, name: str, token: int, late: float, loop_thread: int) -> None:
        frame = sys._current_frames().get(loop_thread)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "(its thread has ended)\n"
        self._last = name, late, self._boot(), stack
        self.stalls += 1
        if self._on_stall == "abort":
            threading.Thread(target=self._abort_soon, name="tideover-abort", daemon=True).start()
            text = (
                f"tideover: the event loop is blocked, {late:.1f} s beyond the deadline for leading {name!r} "
                f"(token {token}): ending this process, because on_stall='abort'. The loop is here:\n{stack}"
            )
            with suppress(OSError):
                os.write(2, text.encode(errors="backslashreplace"))
        telemetry.loop_stalled(name, token=token, late=late, stack=stack)
        if self._on_stall == "abort":
            self._abort()

    def _abort_soon(self) -> None:
        time.sleep(_LAST_WORDS)
        self._abort()
