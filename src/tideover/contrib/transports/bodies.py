"""Bodies that report how reading them goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any


class PassedBody:
    """A body that reports how reading it goes; combined with the library's own class of streams."""

    def __init__(self, stream: Any, watcher: Sending | Receiving) -> None:
        self._stream = stream
        self._watcher = watcher

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._watcher.reading():
            async for part in self._stream:
                yield part

    def __iter__(self) -> Iterator[bytes]:
        with self._watcher.reading():
            yield from self._stream

    async def aclose(self) -> None:
        """Close it."""
        try:
            await self._stream.aclose()
        finally:
            self._watcher.closed()

    def close(self) -> None:
        """Close it, without async."""
        try:
            self._stream.close()
        finally:
            self._watcher.closed()


class Sending:
    """Watches the body of a request being sent; `begun` says whether reading has begun."""

    def __init__(self) -> None:
        self.begun = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Record that reading has begun."""
        self.begun = True
        yield

    def closed(self) -> None:
        """Do nothing."""


class Receiving:
    """Watches the body of an answer being read.

    An endpoint that breaks off has failed; a caller's cancellation says nothing about the endpoint.

    Args:
        failures: The errors of a body that breaks off.
        finished: Called at most once, with whether reading succeeded.
    """

    def __init__(self, failures: tuple[type[BaseException], ...], finished: Callable[[bool], None]) -> None:
        self._failures = failures
        self._finished: Callable[[bool], None] | None = finished

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Record how reading ends."""
        try:
            yield
        except self._failures:
            self._finish(False)
            raise
        except GeneratorExit:
            raise
        except BaseException:
            self._finished = None
            raise

    def closed(self) -> None:
        """Record that reading has ended."""
        self._finish(True)

    def _finish(self, ok: bool) -> None:
        finished, self._finished = self._finished, None
        if finished is not None:
            finished(ok)
