"""The life of a process in which everything that is recorded happens; what an SDK and a Prometheus get of it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import Metric

from tests.support import mock_clock, request
from tests.telemetry.recording import Recorded, lose, put, recover
from tideover import CircuitOpen, HealthState, LockTimeout, telemetry
from tideover.coordinator.coordinator import Coordinator
from tideover.discovery.endpoint import Endpoint
from tideover.options import Options
from tideover.store.operations import Range
from tideover.testing import FaultyStore, MemoryStore

# What a Prometheus scrapes: the values of each label of each sample, by their names.
Exposed = dict[str, dict[str, set[str]]]


class Seen:
    """What an SDK has received in the course of a test."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        self.metrics: dict[str, Metric] = {}
        self.attributes: dict[str, set[str]] = {}
        self.exposed: Exposed = {}

    def collect(self) -> None:
        """Add what the instruments show now, to an SDK and to a Prometheus that scrapes it."""
        for name, metric in self._recorded.metrics().items():
            self.metrics[name] = metric
            for point in metric.data.data_points:
                self.attributes.setdefault(name, set()).update(point.attributes or {})
        for name, labels in self._recorded.exposed():
            known = self.exposed.setdefault(name, {})
            for label, value in labels.items():
                known.setdefault(label, set()).add(value)

    def events(self) -> Mapping[str, set[str]]:
        """Return the events by name, with all attributes that any of them had."""
        found: dict[str, set[str]] = {}
        for name, attributes, _ in self._recorded.events():
            found.setdefault(name, set()).update(attributes)
        return found


async def live(tide: Coordinator, store: MemoryStore, faulty: FaultyStore, seen: Seen) -> None:
    """Live through everything that is recorded, as an application would."""
    await anyio.sleep(1)
    faulty.inject("UNAVAILABLE", "Socket closed", op=Range)
    await tide.config.fetch("rate", int)
    tide.config.get("rate", int)
    await put(store, "/config/rate", b"six")
    await anyio.sleep(1)
    with request() as record:
        tide.config.get("rate", int)
    telemetry.finish_request(record)
    view = tide.discover("billing")
    await view.wait_for(1, timeout=5)
    for _ in range(3):
        view.report(view.endpoints[0], False)
    errors = [ZeroDivisionError()]

    async def settle() -> None:
        if errors:
            raise errors.pop()

    await tide.run_while_leading("settlement", settle)
    with pytest.raises(LockTimeout):
        async with tide.lock("held"), tide.lock("held", timeout=0.1):
            raise AssertionError
    async with (
        tide.leader("reaper", on_outage="stay"),
        tide.register("api", "http://10.0.0.7:8000"),
        tide.lock("orders", on_outage="local"),
    ):
        seen.collect()
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        with trace.get_tracer("framework").start_as_current_span("GET /"), request() as record:
            tide.config.get("rate", int)
        telemetry.finish_request(record)
        with trace.get_tracer("framework").start_as_current_span("GET /", end_on_exit=False) as ended:
            ended.end()
            with request():
                tide.config.get("rate", int)
        with pytest.raises(CircuitOpen):
            await tide.config.put("rate", 5)
        await anyio.sleep(30)
        seen.collect()
        recover(store)
        await anyio.sleep(20)
    store.rebuild({})
    await anyio.sleep(20)
    seen.collect()


def tell_the_rest() -> None:
    """Tell what takes real time, another cluster, or another process."""
    telemetry.snapshot_rejected("config", "/file", "damaged")
    telemetry.snapshot_written("config", "PermissionError")
    telemetry.environment_read("endpoints 10.0.0.1:2379, namespace ''", None)
    telemetry.namespace_misspelled("config", "shop/config/", "/shop/config/rate", "/shop")
    telemetry.config_unfound("/config/pool/", "Pool")
    telemetry.member_foreign("10.0.0.1:2379", "a", "b")
    telemetry.loop_stalled("reaper", token=5, late=1.0, stack="here")
    telemetry.endpoint_rejected("billing", "no URL")
    telemetry.task_failed("session 5f", ZeroDivisionError())
    telemetry.request_failed(PermissionError())
    telemetry.lock_lost("orders", "its lease has ended")
    telemetry.lock_conflict("orders", "two", certain=True)
    telemetry.config_restored(3, 60.0, ["disk"], away="no etcd member answers")
    telemetry.prefix_refused("discovery", "'/services/x/' may not be read")
    telemetry.snapshot_failed("discovery", "the disk is full")
    telemetry.snapshot_put_aside("config", "/file", "/file.aside-1", "sealed with another key")
    telemetry.backend_alarm("etcd refuses writes")
    telemetry.backend_untold("its list of members", "permission denied")
    telemetry.epoch_unshared("permission denied", level=logging.INFO)
    telemetry.hold_rejected("tideover/ledger/x", 5, "it is not JSON")
    telemetry.secret_exposed("everybody can read /etc/secret")
    telemetry.member_proxied("10.0.0.1:2379")
    telemetry.transport_proxied("10.0.0.1:2379", "by way of the proxy 10.0.0.9:3128, see http_proxy and no_proxy")
    telemetry.members_unlisted("10.0.0.1:2379", "cannot be read: Socket closed")
    telemetry.member_unused("m1", "http://10.0.0.1:2379 does not answer")
    telemetry.tls_kept("ca.pem is no certificate")
    telemetry.election_reset("reaper")
    telemetry.peers_noted("other candidates reach this process at 10.0.0.7:9000")
    telemetry.session_changed("session 5f: no renewal could be proven", ["a"], level=logging.WARNING)
    telemetry.session_left(95, ["locks/orders/5f"], "no leader", component="lock", within=16)
    telemetry.locks_unhosted("no home")
    telemetry.ledger_failed("the ledger cannot be written: the disk is full")
    telemetry.page_open()
    telemetry.config_stood_in("Pool at '/config/pool/'", "accepted", 7)


def at_once(patch: pytest.MonkeyPatch) -> None:
    """Let the disk be read and written without a thread: the mock clock does not wait for threads."""

    async def run(work: Callable[..., object], *args: object, **_: object) -> object:
        await anyio.lowlevel.checkpoint()
        return work(*args)

    patch.setattr(anyio.to_thread, "run_sync", run)


async def live_through_everything(recorded: Recorded, folder: Path) -> Seen:
    """Live through all that is recorded, in a coordinator of its own; return what an SDK has received.

    Args:
        recorded: The SDK.
        folder: Where its snapshots go.
    """
    store = MemoryStore()
    faulty = FaultyStore(store)
    await put(store, "/config/rate", b"5")
    for number in range(4):
        endpoint = Endpoint(f"http://10.0.0.{number}:80", 1, {}, f"i{number}", "x", "billing")
        await put(store, f"/{endpoint.key}", endpoint.encode())
    options = Options(endpoints=tuple(store.members), cache_dir=folder)
    seen = Seen(recorded)
    async with Coordinator(options, store=faulty, clock=mock_clock(), chance=random.Random(7).random) as tide:
        await live(tide, store, faulty, seen)
        tell_the_rest()
        seen.collect()
    return seen
