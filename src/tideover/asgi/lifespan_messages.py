"""A coordinator around an application's lifespan.

The coordinator must be closed before the server hears that the shutdown is complete, because the server may end
the process right after; and it must live in the lifespan's own task, because it owns a task group.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.types import Message, Receive, Send


class LifespanMessages:
    """The messages of one lifespan, with the last one held back."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive_from_server = receive
        self._send_to_server = send
        self._on_started: Callable[[], None] | None = None
        self._on_shutdown: Callable[[], Awaitable[None]] | None = None
        self._started = False
        self._last: Message | None = None

    def __repr__(self) -> str:
        return f"<LifespanMessages {'ending' if self._last else 'started' if self._started else 'starting'}>"

    async def _receive(self) -> Message:
        message = await self._receive_from_server()
        if message["type"] == "lifespan.shutdown" and self._on_shutdown is not None:
            await self._on_shutdown()
        return message

    async def _send(self, message: Message) -> None:
        await self._send_to_server(message)
        if message["type"] == "lifespan.startup.complete" and self._on_started is not None:
            self._on_started()

    async def send(self, message: Message) -> None:
        """Pass a message on, unless it says that the shutdown is over."""
        if message["type"].startswith("lifespan.shutdown."):
            self._last = message
            return
        self._started = True
        await self._send(message)

    async def run(
        self,
        app: Callable[[Receive, Send], Awaitable[None]],
        *,
        on_started: Callable[[], None] | None = None,
        on_shutdown: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Run the application's lifespan.

        Args:
            on_started: Called after the server has heard that the application started.
            on_shutdown: Awaited before the application hears of its shutdown.

        Raises:
            Exception: The application's own, after its first answer. An earlier one means, by the ASGI
                specification, that the application has no lifespan, and one is run in its place.
        """
        self._on_started, self._on_shutdown = on_started, on_shutdown
        try:
            await app(self._receive, self.send)
        except Exception:
            if self._started or self._last:
                raise
        if not self._started and self._last is None:
            await self._run_for_app()

    async def _run_for_app(self) -> None:
        await self._send({"type": "lifespan.startup.complete"})
        self._started = True
        # The application may have received the startup message already; the next one is the shutdown.
        while (await self._receive())["type"] != "lifespan.shutdown":
            pass
        self._last = {"type": "lifespan.shutdown.complete"}

    async def refuse(self, error: Exception) -> None:
        """Answer that the startup failed, before the application starts.

        An exception alone would tell the server that there is no lifespan, and the server would serve requests.
        """
        await self._receive()
        self._started = True
        await self._send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})

    async def finish(self) -> None:
        """Send the message that was held back."""
        if self._last is not None:
            await self._send(self._last)


async def run_lifespan(receive: Receive, send: Send) -> None:
    """Run the lifespan of an application that does nothing in it."""
    messages = LifespanMessages(receive, send)
    await messages.run(_nothing)
    await messages.finish()


async def _nothing(receive: Receive, send: Send) -> None:
    return
