"""`tide.discover(...)`: all services that one coordinator follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal
from urllib.parse import unquote
from weakref import WeakValueDictionary

import anyio
import anyio.lowlevel

from tideover.client.client import Client
from tideover.client.parts import Part
from tideover.discovery.endpoint import check_name, service_prefix
from tideover.discovery.service import Service
from tideover.discovery.service_status import describe_service
from tideover.discovery.service_view import ServiceView
from tideover.errors import NotFollowed
from tideover.policies import StalenessLimit
from tideover.prefixes.followed import Following
from tideover.prefixes.snapshotter import Snapshotter
from tideover.prefixes.view import View
from tideover.status import RejectedValue, ServiceStatus
from tideover.store.operations import Range, prefix_end

# The most services followed, each by a watch: the clients of a proxy that takes names from them must not be able
# to make it open any number.
MOST_SERVICES = 256
# Seconds for the last snapshots, when the coordinator is closed.
_SAVE_TIMEOUT = 2.0


class Discovery(Part):
    """The services that one coordinator follows, each once, however many handles there are."""

    def __init__(self, client: Client, *, names: Sequence[str] = (), following: Following) -> None:
        self._client = client
        self._base = client.base
        self._names = [check_name(name) for name in names]
        self._following = following
        self._home = client.home
        self._services: dict[str, Service] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}
        # A service without handles loses its place when another service needs one.
        self._kept: list[ServiceView] = []
        self._required: dict[str, Service] = {}
        self._views: WeakValueDictionary[tuple[str, StalenessLimit | None], ServiceView] = WeakValueDictionary()

    def __repr__(self) -> str:
        """Name the services."""
        return f"<Discovery of {', '.join(self._services) or 'nothing'}>"

    def discover(self, name: str, *, max_stale: float | None, on_stale: Literal["serve", "raise"]) -> ServiceView:
        """Return a handle on a service; see `Coordinator.discover`."""
        self._client.lifecycle.check()
        if on_stale not in ("serve", "raise"):
            raise ValueError(f"on_stale must be 'serve' or 'raise', not {on_stale!r}")
        limit = None if max_stale is None else StalenessLimit(max_stale, on_stale)
        view = self._views.get((name, limit))
        if view is None:
            service = self._services.get(name) or self._add(check_name(name))
            view = self._views[name, limit] = ServiceView(service, limit)
        return view

    def require(self, name: str) -> Service:
        """Return a service that is followed for good; see `Coordinator.require_service`."""
        self._client.lifecycle.check()
        service = self._required.get(name)
        if service is None:
            self._kept.append(self.discover(name, max_stale=None, on_stale="serve"))
            service = self._required[name] = self._services[name]
        return service

    def _add(self, name: str) -> Service:
        """Start following a service."""
        if self._home.loop.is_here:
            return self._start(name)
        if not self._home.loop.serves_this_thread:
            raise NotFollowed(
                f"service {name!r} is not followed yet, and this thread cannot see to it: "
                "call discover() in the coordinator's event loop first"
            )
        return anyio.from_thread.run_sync(self._start, name)

    def _start(self, name: str) -> Service:
        self._client.lifecycle.check()
        if name in self._services:  # another thread was faster
            return self._services[name]
        self._make_room()
        service = self._services[name] = Service(name, self._client, self._following)
        self._home.start(f"follow {name}", self._run, service)
        return service

    def _make_room(self) -> None:
        """Stop following a service without handles, if there are as many services as there may be."""
        if len(self._services) < MOST_SERVICES:
            return
        used = {name for name, _ in list(self._views)}
        idle = next((name for name in self._services if name not in used), None)
        if idle is None:
            raise NotFollowed(f"{MOST_SERVICES} services are followed already, and all are in use")
        self._services.pop(idle).close(f"{idle!r} is not followed any more: call discover() again")
        if (scope := self._scopes.pop(idle, None)) is not None:
            scope.cancel()

    async def _run(self, service: Service) -> None:
        if service.closed is not None:
            return
        with anyio.CancelScope() as scope:
            self._scopes[service.name] = scope
            async with anyio.create_task_group() as tasks:
                for name, task in service.tasks().items():
                    tasks.start_soon(self._home.run, name, task)

    async def count(self) -> Mapping[str, int]:
        """Ask etcd for all services, and count each one's registrations; see `Coordinator.services`."""
        prefix = (self._base + service_prefix("")).encode()
        answered = await self._client.calls.call(Range(prefix, prefix_end(prefix), keys_only=True))
        keys = (key[len(prefix) :].decode(errors="replace").split("/") for key in answered.result.entries)
        names = (unquote(segments[0]) for segments in keys if len(segments) == 3 and all(segments))
        return dict(sorted(Counter(names).items()))

    def health_changed(self) -> None:
        """Apply another state of etcd."""
        for service in self._services.values():
            service.health_changed()

    def reset(self, why: str, revision: int) -> None:
        """Hold back removals: etcd shows another history."""
        for service in self._services.values():
            service.reset()

    @property
    def awaited(self) -> bool:
        """Whether a service is about to be read for the first time."""
        return any(service.awaited for service in self._services.values())

    @property
    def restored(self) -> bool:
        """Whether each service's snapshot was read, or looked for."""
        return all(service.followed.restored for service in self._services.values())

    def followed_views(self) -> Iterator[View]:
        """Return the views of all followed services."""
        return (service.view for service in list(self._services.values()))

    def listed(self) -> Iterator[anyio.Event]:
        """Return events that are set when a service changes, one for each service."""
        return (service.listed.next() for service in self._services.values())

    def status(self) -> tuple[ServiceStatus, ...]:
        """Return the status of each service."""
        return tuple(describe_service(service) for _, service in sorted(self._services.items()))

    @property
    def rejected(self) -> tuple[RejectedValue, ...]:
        """The keys of followed services that are not valid endpoints."""
        return tuple(refused for service in list(self._services.values()) for refused in service.refused)

    def keepers(self) -> Iterator[Snapshotter]:
        """Return the snapshotters of all services."""
        return (s.followed.keeper for s in list(self._services.values()) if s.followed.keeper is not None)

    def active(self) -> Mapping[tuple[str, str], int]:
        """Count the endpoints that can be picked, by service and source."""
        counts = {}
        for status in self.status():
            source = "unknown" if status.source is None else status.source.value
            counts[status.name, source] = status.endpoints - status.drained - status.ejected
        return counts

    def begin(self) -> None:
        """Begin with the services that were named."""
        self._kept = [self.discover(name, max_stale=None, on_stale="serve") for name in self._names]

    def close(self, why: str) -> None:
        """Refuse everything from now on."""
        for service in self._services.values():
            service.close(why)

    def poison(self, why: str) -> None:
        """Refuse everything: this is a forked child."""
        self.close(why)

    async def save(self) -> None:
        """Write the last snapshots, when all tasks have ended."""
        with anyio.move_on_after(_SAVE_TIMEOUT):
            async with anyio.create_task_group() as tasks:
                for service in self._services.values():
                    tasks.start_soon(service.save)
