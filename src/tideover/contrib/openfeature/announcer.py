"""Reports a provider's changes to OpenFeature: each once, and in order.

The SDK calls from threads of its own. When `initialize` has ended, the SDK itself reports that the provider is
ready or has failed, which would overrule any earlier event. So events wait in a queue, and a thread that lives as
long as the queue has entries delivers them. The event loop never waits for the SDK, and no thread of the SDK
touches the event loop.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from openfeature.event import ProviderEvent, ProviderEventDetails
from openfeature.exception import ErrorCode
from openfeature.provider import FeatureProvider, ProviderStatus

Emit = Callable[[FeatureProvider, ProviderEvent, ProviderEventDetails], None]

# Seconds between two looks at whether the SDK has told how `initialize` has ended: at first, and at the most.
_PAUSE = 0.001
_LONGEST_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Condition:
    """A provider's state."""

    event: ProviderEvent
    cause: str = ""
    message: str = field(default="", compare=False)
    answers: bool = True

    def details(self) -> ProviderEventDetails:
        """Return the details of the event."""
        error = self.event is ProviderEvent.PROVIDER_ERROR
        return ProviderEventDetails(
            message=self.message or None, error_code=ErrorCode.PROVIDER_NOT_READY if error else None
        )


class Announcer:
    """The queue of one provider's events; `read_condition` is called in any thread."""

    def __init__(self, provider: FeatureProvider, read_condition: Callable[[], Condition]) -> None:
        self._provider = provider
        self._read_condition = read_condition
        self._lock = threading.Lock()
        self._emit: Emit | None = None
        # The last condition reported or queued; None until the provider is initialized.
        self._reported: Condition | None = None
        self._queue: deque[tuple[ProviderEvent, ProviderEventDetails]] = deque()
        self._thread: threading.Thread | None = None

    def attach(self, emit: Emit | None) -> None:
        """Set where events go once the provider is initialized; None drops them."""
        with self._lock:
            self._emit, self._reported = emit, None
            self._queue.clear()

    def initialize(self) -> Condition:
        """Return the provider's state. The SDK itself reports that the provider is ready, or its error."""
        with self._lock:
            self._reported = condition = self._read_condition()
            if condition.event is ProviderEvent.PROVIDER_STALE:
                # The SDK has no other word than "ready" for a provider that answers.
                self._add(condition.event, condition.details())
        return condition

    def report(self) -> None:
        """Report the provider's state if it has changed."""
        with self._lock:
            if self._reported is None:
                return
            condition = self._read_condition()
            if condition != self._reported:
                self._reported = condition
                self._add(condition.event, condition.details())

    def changed(self, flags: list[str]) -> None:
        """Report changed flags, unless no flag can be evaluated: the coming READY says more."""
        with self._lock:
            if self._reported is not None and self._reported.answers:
                event = ProviderEvent.PROVIDER_CONFIGURATION_CHANGED
                self._add(event, ProviderEventDetails(flags_changed=flags))

    def _add(self, event: ProviderEvent, details: ProviderEventDetails) -> None:
        self._queue.append((event, details))
        # It is not alive either in a process that was forked meanwhile.
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._deliver, name="tideover-flags", daemon=True)
            with suppress(RuntimeError):  # there are too many threads: the next event finds it not alive
                self._thread.start()

    def _deliver(self) -> None:
        while True:
            emit = self._emit
            if emit is not None:
                self._await_initialized(emit)
            with self._lock:
                if not self._queue or self._emit is None:
                    self._thread = None
                    return
                if self._emit is not emit:  # attached again meanwhile
                    continue
                event, details = self._queue.popleft()
            with suppress(RuntimeError):  # at the end of the process the SDK has no threads for handlers any more
                emit(self._provider, event, details)

    def _await_initialized(self, emit: Emit) -> None:
        """Wait until the SDK has reported the end of `initialize`, or detached; other listeners have no status."""
        status = getattr(getattr(emit, "__self__", None), "get_provider_status", None)
        pause = _PAUSE
        while status is not None and self._emit is emit and status(self._provider) is ProviderStatus.NOT_READY:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
