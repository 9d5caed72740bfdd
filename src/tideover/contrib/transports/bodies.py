"""Bodies that are passed on, and how reading them goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any


class PassedBody:
    """A body that is passed on while somebody looks on; the library's own class of a stream is added to it.

    Args:
        stream: The body.
        watcher: Looks on.
    """

    def __init__(self, stream: Any, watcher: Sending | Receiving) -> None:
        self._stream = stream
        self._watcher = watcher

    def __repr__(self) -> str:
        """Show the body."""
        return f"<{type(self).__name__} of {self._stream!r}>"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Pass it on."""
        with self._watcher.reading():
            async for part in self._stream:
                yield part

    def __iter__(self) -> Iterator[bytes]:
        """Pass it on, without async."""
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
    """Looks on while the body of a request is sent.

    Attributes:
        begun: Whether anybody has begun to read it.
    """

    def __init__(self) -> None:
        self.begun = False

    def __repr__(self) -> str:
        """Say whether it was begun."""
        return f"<Sending {'begun' if self.begun else 'not begun'}>"

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Note that it is read."""
        self.begun = True
        yield

    def closed(self) -> None:
        """Nothing follows from that."""


class Receiving:
    """Looks on while the body of an answer is read.

    An endpoint that breaks off in it has failed; a caller that is cancelled says nothing about the endpoint.

    Args:
        failures: What is raised if it breaks off.
        finished: Called at most once, with whether it went well.
    """

    def __init__(self, failures: tuple[type[BaseException], ...], finished: Callable[[bool], None]) -> None:
        self._failures = failures
        self._finished: Callable[[bool], None] | None = finished

    def __repr__(self) -> str:
        """Say whether it is over."""
        return f"<Receiving {'over' if self._finished is None else 'on'}>"

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See how it is read."""
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
        """Note that it was read, as far as anybody wanted."""
        self._finish(True)

    def _finish(self, ok: bool) -> None:
        finished, self._finished = self._finished, None
        if finished is not None:
            finished(ok)
