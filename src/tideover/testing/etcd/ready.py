"""What one member and a whole cluster share: waiting until ready, and running in a block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from tideover.testing.etcd import http as etcd_http


class Readiness(ABC):
    """Something that is started, becomes ready, and is closed.

    As a context manager, `with` or `async with`, it runs and is ready inside the block, and nothing
    of it is left afterwards, whatever ended the block or the wait.
    """

    @abstractmethod
    def start(self) -> None:
        """Start and return at once."""

    @abstractmethod
    def close(self) -> None:
        """End everything for good."""

    @abstractmethod
    def settle(self) -> None:
        """Note that clients may know the endpoints from now on, so that they never change."""

    @abstractmethod
    def _to_probe(self) -> tuple[str, ...]:
        """Return the endpoints that must be healthy, or raise because waiting is useless."""

    @abstractmethod
    def _log_ends(self) -> str:
        """Return the last log lines of what is being waited for."""

    def wait_ready(self, timeout: float = 20.0) -> None:
        """Block until every running member reports health, for which it needs a quorum.

        Members of a cluster that were stopped, killed or paused on purpose are not waited for.
        What never was ready and finds a port taken moves to other ports.

        Raises:
            RuntimeError: Nothing was started.
            EtcdExited: A process ended by itself; the message has the end of its log.
            TimeoutError: Still not ready; the message has the end of the log.
        """
        try:
            etcd_http.wait_until(etcd_http.HEALTHY, self._to_probe, timeout=timeout)
        except TimeoutError as exc:
            raise self._late(timeout) from exc
        self.settle()

    async def ready(self, timeout: float = 20.0) -> None:
        """Wait as `wait_ready()` does, without blocking the event loop.

        Raises:
            RuntimeError: Nothing was started.
            EtcdExited: A process ended by itself; the message has the end of its log.
            TimeoutError: Still not ready; the message has the end of the log.
        """
        try:
            await etcd_http.until(etcd_http.HEALTHY, self._to_probe, timeout=timeout)
        except TimeoutError as exc:
            raise self._late(timeout) from exc
        self.settle()

    def _late(self, timeout: float) -> TimeoutError:
        return TimeoutError(f"{self!r} not ready in {timeout} s; the log ends:\n{self._log_ends()}")

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        try:
            self.start()
            await self.ready()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()  # SIGKILL and a few unlinks: milliseconds, and no cancellation can cut it short
