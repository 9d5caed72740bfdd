"""`tideover status --serve`: the status page of a client of the command line's own."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

import anyio
import click
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from tideover.addresses import is_wildcard
from tideover.asgi import status_app
from tideover.asgi.problems import refuse
from tideover.asgi.status_page.answers import problem
from tideover.cli.exit_codes import Exit, Failure
from tideover.cli.printer import print_line
from tideover.coordinator.coordinator import Coordinator
from tideover.foreign_bytes import Malformed, decimal

_LOOPBACK = "127.0.0.1"
_NOT_THIS_HOST = "this host is not served here: ask by the address that the page was told to listen at"
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


def split_address(given: str) -> tuple[str, int]:
    """Return host and port of `[HOST:]PORT`.

    Raises:
        click.BadParameter: It is none.
    """
    host, _, port = given.rpartition(":")
    try:
        number = decimal(port, "the port", most=65535)
    except Malformed as exc:
        raise click.BadParameter(f"{given!r} is not [HOST:]PORT: {exc}", param_hint="--serve") from exc
    return host.removeprefix("[").removesuffix("]") or _LOOPBACK, number


class HostCheck:
    """Refuses requests by a foreign name that was pointed at this machine, as in DNS rebinding."""

    def __init__(self, app: ASGIApp, given: str) -> None:
        self._app = app
        self._given = given.lower().rstrip(".")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._admits(scope):
            await refuse(problem(421, _NOT_THIS_HOST), scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1:
            return False
        try:
            asked = urlsplit(f"//{hosts[0].decode('ascii')}")
            host, _ = (asked.hostname or "").rstrip("."), asked.port
        except ValueError:  # of a port that is none, too
            return False
        if asked.geturl() != f"//{asked.netloc}" or "@" in asked.netloc:
            return False
        if host in (self._given, "localhost"):
            return bool(host)
        address = _address(host)
        if address is None:
            return False
        # An address cannot be pointed elsewhere: one that is listened at with all others is as good as given.
        return address.is_loopback or address == _address(self._given) or is_wildcard(self._given)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a host is, however it is written; None if it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


class _Server(uvicorn.Server):
    """Ends when it is told to, and leaves signals to the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(tide: Coordinator, host: str, port: int) -> int:
    """Serve the page until a signal comes.

    Raises:
        Failure: It cannot be listened there.
    """
    page = HostCheck(status_app(tide, authorize=lambda scope: True), host)
    config = uvicorn.Config(page, access_log=False, log_config=None, lifespan="off", timeout_graceful_shutdown=3)
    with _listening(host, port) as listening:
        server, ended = _Server(config), 0
        with anyio.open_signal_receiver(*_signals()) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve, [listening])
                shown = f"[{host}]" if ":" in host else host
                print_line(f"The status page is at http://{shown}:{listening.getsockname()[1]}/ until Ctrl-C.")
                async for number in signals:
                    ended = 128 + number
                    break
                server.should_exit = True
    return ended


def _signals() -> tuple[signal.Signals, ...]:
    return tuple(getattr(signal, name) for name in _ENDING if hasattr(signal, name))


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with ExitStack() as opened:
            listening = opened.enter_context(socket.socket(family))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()  # uvicorn does so after the address is printed: who is quick would be refused
            opened.pop_all()
            return listening
    except OSError as exc:
        raise Failure(f"--serve {host}:{port}: {exc.strerror or exc}", code=Exit.FAILED) from exc
