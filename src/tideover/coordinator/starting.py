"""What a coordinator waits for when it is entered: etcd, or the certainty that it is away, and then the disk."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from tideover.broadcast import first_of
from tideover.coordinator.parts import Parts, any_of
from tideover.daemon_thread import in_daemon_thread
from tideover.errors import AuthenticationFailed, NotSynced, Unreachable
from tideover.policies import Transport
from tideover.types import HealthState, Source

if TYPE_CHECKING:
    from tideover.etcd.adapter import EtcdStore

# Seconds for the monitor to say what it has found, and for reading snapshots.
_TIE = 0.05
_DISK_TIMEOUT = 30.0
# Seconds for looking up names; one that takes longer is left to grpc, and looked up again later.
_NAMES_TIMEOUT = 0.5


async def open_etcd(parts: Parts) -> EtcdStore:
    """Look names up and connect."""
    options, names = parts.options, parts.names
    async with anyio.create_task_group() as tasks:
        if names.any:
            tasks.start_soon(names.look_up, min(_NAMES_TIMEOUT, options.start_timeout / 2))
        load = partial(_load_adapter, options.transport, options.endpoints)
        with anyio.CancelScope(shield=True):
            adapter = await in_daemon_thread(load, name="tideover-import")
    store: EtcdStore = adapter.EtcdStore(
        names.addresses,
        tls=options.tls,
        username=options.username,
        password=options.password,
        pause=parts.client.ticker.pause,
        transport=options.transport,
    )
    parts.client.state.begin(store.members, any_of(store.members, parts.client.random))
    return store


async def started(parts: Parts) -> None:
    """Wait until all is live or etcd is known to be away, then, if not all is live, for what is on disk.

    For etcd `start_timeout` is waited at the most; the disk has a bound of its own.
    """
    with anyio.move_on_after(parts.options.start_timeout):
        await until(parts, lambda: _answered(parts) and parts.accepted.restored)
    # The first round of probes ends in the same moment, unless it was given next to none.
    with anyio.move_on_after(_TIE):
        await until(parts, lambda: parts.client.state.health.decided)
    with anyio.move_on_after(_DISK_TIMEOUT):
        await until(parts, lambda: _answered(parts) or _restored(parts))


async def until(parts: Parts, done: Callable[[], bool]) -> None:
    """Wait until something holds of what is known of etcd, and of what is followed."""
    while True:
        views = (view.changed.next() for view in parts.views)
        state, accepted = parts.client.state.changed.next(), parts.accepted.changed.next()
        events = [state, accepted, *views, *parts.discovery.listed()]
        if done():
            return
        await first_of(events)


def _restored(parts: Parts) -> bool:
    config = all(followed.restored for followed in parts.followed) and parts.accepted.restored
    return config and parts.discovery.restored


def _answered(parts: Parts) -> bool:
    health, state = parts.client.state.health, parts.client.state
    if parts.discovery.awaited:
        return False
    if not health.decided or health.state is HealthState.UNAVAILABLE:
        return health.decided and _restored(parts)
    if health.state is HealthState.DEGRADED:
        return _restored(parts) and all(view.synced or view.error for view in parts.views)
    return state.alarms is not None and all(v.denied or v.source is Source.LIVE for v in parts.views)


def check_required(parts: Parts) -> None:
    """Return if what `connect(require=...)` demands is there; else raise as `connect` says."""
    health, unauthorized = parts.client.health, parts.client.state.health.unauthorized
    if parts.options.require == "etcd" and health.state is not HealthState.AVAILABLE:
        away = AuthenticationFailed if unauthorized else Unreachable
        raise away(f"require='etcd': {health.sentence}")
    if parts.options.require == "config":
        for view in parts.views:
            if not view.known:
                text = f"require='config': nothing is known; {health.sentence}"
                raise AuthenticationFailed(text) if unauthorized else NotSynced(view.name, text)


def _load_adapter(transport: Transport | None, endpoints: Sequence[str]) -> Any:
    """Load the transports, which takes up to a tenth of a second, and return the module of the real etcd."""
    transports = importlib.import_module("tideover.etcd.transports")
    for endpoint in endpoints:
        transports.load(transports.chosen(transport, endpoint))
    return importlib.import_module("tideover.etcd.adapter")
