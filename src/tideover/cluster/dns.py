"""The addresses behind host names: one name may stand for a whole cluster.

gRPC would connect to one of them and never tell which, nor that another one has a quorum. So each address becomes
a member of its own, whose certificate must still bear the name that was given. A name with one address is left to
gRPC, which looks it up again by itself.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

import anyio

from tideover.daemon_thread import in_daemon_thread
from tideover.store.endpoints import Address, host_of, is_name

# Takes a host and a port, returns addresses; an `OSError` if there are none.
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host, as the system knows them, in its order; raise `OSError` where there is none.

    Asked in a thread that the process does not wait for at its end, because a look-up may hang.
    """

    def ask() -> list[str]:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError as exc:
            raise OSError(str(exc)) from exc
        return [str(info[4][0]) for info in infos]

    return await in_daemon_thread(ask, name=f"tideover-resolve-{host}")


class Names:
    """The given endpoints, with the names among them looked up; without a resolver names stay as they are."""

    def __init__(self, endpoints: Iterable[str], resolver: Resolver | None) -> None:
        self._endpoints = tuple(endpoints)
        self._resolver = resolver
        # Only names that have once had several addresses: those stay apart when but one is left.
        self._found: dict[str, tuple[str, ...]] = {}

    @property
    def any(self) -> bool:
        """Whether there is a name to look up."""
        return self._resolver is not None and any(map(is_name, self._endpoints))

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the members are, as far as was given and looked up; without repetitions, in the order given."""
        found: dict[str, Address] = {}
        for endpoint in self._endpoints:
            for address in self._of(endpoint):
                found.setdefault(address.endpoint, address)
        return tuple(found.values())

    def _of(self, endpoint: str) -> list[Address]:
        port = endpoint.rpartition(":")[2]
        addresses = self._found.get(endpoint)
        if addresses is None:
            return [Address(endpoint)]
        return [Address(f"[{a}]:{port}" if ":" in a else f"{a}:{port}", host_of(endpoint)) for a in addresses]

    async def look_up(self, timeout: float) -> None:
        """Look up all names at the same time; one that cannot be looked up in time stays as it was."""
        with anyio.move_on_after(timeout):
            async with anyio.create_task_group() as tasks:
                for endpoint in self._endpoints:
                    if is_name(endpoint):
                        tasks.start_soon(self._look_up, endpoint)

    async def _look_up(self, endpoint: str) -> None:
        if self._resolver is None:
            return
        try:
            answered = await self._resolver(host_of(endpoint), int(endpoint.rpartition(":")[2]))
        except OSError:
            return
        found = tuple(dict.fromkeys(answered))
        if len(found) > 1 or (found and endpoint in self._found):
            self._found[endpoint] = found
