"""The scope of a body that ends when what it relies on is lost.

*Guarantee.* A body that was ended by its loss ends with that loss, whatever it was awaiting, and a body that
another scope or task cancelled ends as cancelled, also when both happen in the same moment.

anyio's scopes tell their own cancellation by the message it carries. Libraries that wait for something of their
own, such as grpc.aio and `asyncio.gather`, answer a cancellation with a new `CancelledError` that has none; anyio
then takes it for another's and lets it pass, although nothing else has cancelled the task. Here the scope
remembers that it has cancelled, and whether another has too is asked of what knows: the task, which
counts native requests, and the scopes around this one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import anyio


class BodyScope:
    """Runs a body until it is left or lost: `enter`, then `leave` in the same task.

    Args:
        on_stray: Called with the reason if the body turns out to run in another task than the one that has
            entered, where no cancellation reaches it: what it relies on must be lost for it at once.

    Attributes:
        cancel_scope: The scope the body runs in; its deadline ends the body.
        stray: Whether the body has turned out to run elsewhere.
    """

    def __init__(self, on_stray: Callable[[str], None]) -> None:
        self.cancel_scope = anyio.CancelScope()
        self.stray = False
        self._on_stray = on_stray
        # None on trio, which knows no cancellation but that by scopes, and refuses other tasks by itself.
        self._task: asyncio.Task[object] | None = None
        self._others: Cancellations | None = None
        self._running = False

    def enter(self) -> None:
        """Begin the body, in the running task."""
        self._task = running_task()
        self._others = Cancellations()
        if self._task is not None:
            self._task.add_done_callback(self._outlived)
        self.cancel_scope.__enter__()
        self._running = True

    def leave(self, exc: BaseException | None) -> bool:
        """End the body.

        Returns:
            Whether `exc` is nothing but the cancellation by this scope. If so the caller raises the loss instead;
            if not, it raises `exc`.
        """
        self._running = False
        if self._task is not None:
            self._task.remove_done_callback(self._outlived)
            if running_task() is not self._task:
                # The task that has entered goes on with something else.
                self.cancel_scope.deadline = math.inf
                self._stray("is left in another task than it was entered in")
                return False
        caught = self.cancel_scope.__exit__(type(exc) if exc else None, exc, exc.__traceback__ if exc else None)
        ours = caught or (self.cancel_scope.cancel_called and is_cancellation(exc))
        return exc is not None and ours and self._others is not None and not self._others.wanted

    @property
    def running(self) -> bool:
        """Whether the body has yet to be left, by the task that has entered it."""
        return self._running and not self.stray

    def has_failed(self, exc: BaseException | None) -> bool:
        """Whether what a body has raised is a failure of its own, such as a stray cancellation."""
        if exc is None or isinstance(exc, Exception):
            return exc is not None
        return self._others is not None and not self.cancel_scope.cancel_called and not self._others.explain(exc)

    def end(self) -> None:
        """End the body, unless it has been left: then its task has gone on with something else."""
        if self.running:
            self.cancel_scope.cancel()

    def _outlived(self, task: asyncio.Task[object]) -> None:
        self._stray(f"was entered in the task {task.get_name()!r}, which has ended")

    def _stray(self, what: str) -> None:
        if not self.stray:
            self.stray = True
            self._on_stray(f"its body {what}, and so nothing could end it: enter and leave it in one task")


class Cancellations:
    """Tells a cancellation of the running task from one that comes out of what it runs: made before that runs.

    A library, or an asyncio task that was cancelled elsewhere, may raise a `CancelledError` in a task that
    goes on.
    """

    def __init__(self) -> None:
        self._task = running_task()
        self._requests = 0 if self._task is None else self._task.cancelling()

    @property
    def wanted(self) -> bool:
        """Whether the task was cancelled since, or a scope around it."""
        if anyio.current_effective_deadline() == -math.inf:  # an enclosing scope is cancelled
            return True
        return self._task is not None and self._task.cancelling() > self._requests

    def explain(self, exc: BaseException) -> bool:
        """Whether what was raised is no failure: a cancellation that is wanted, or the end of the process."""
        return ends_process(exc) or (self.wanted and is_cancellation(exc))


def running_task() -> asyncio.Task[object] | None:
    """Return the running task of asyncio; None on trio."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def ends_process(exc: BaseException) -> bool:
    """Whether it is what ends the process, or its event loop; or a group with such."""
    ends = (KeyboardInterrupt, SystemExit, GeneratorExit)
    return exc.subgroup(ends) is not None if isinstance(exc, BaseExceptionGroup) else isinstance(exc, ends)


def is_cancellation(exc: BaseException | None) -> bool:
    """Whether it is a cancellation, or a group of nothing else."""
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(cancelled)[1] is None
    return isinstance(exc, cancelled)


def raise_loss(loss: Exception, exc: BaseException | None, *, ended: bool) -> None:
    """Raise a loss at the end of a body, or note it on what the body has raised for a reason of its own.

    Args:
        ended: Whether that is only the cancellation by the body's scope.
    """
    if exc is None or ended:
        raise loss
    if isinstance(exc, Exception) and not isinstance(exc, type(loss)):
        exc.add_note(f"{type(loss).__name__}: {loss}")
