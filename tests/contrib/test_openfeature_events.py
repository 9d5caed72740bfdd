"""What OpenFeature is told of a provider, and when: section 5 of its specification, and the provider's life."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import Reason
from openfeature.provider import ProviderStatus
from openfeature.provider.no_op_provider import NoOpProvider

from tests.asgi.support import degraded_store, lose, recover, store_with
from tests.contrib.flag_support import (
    CHANGED,
    ERROR,
    READY,
    STALE,
    Heard,
    flagged,
    openfeature_afterwards,
    settled,
    until,
)
from tests.support import connected, mock_trio, threads_stop_the_clock
from tideover import HealthState, connect
from tideover.contrib.openfeature import TideoverProvider
from tideover.home import EventLoop
from tideover.store.operations import Delete, Put, Range
from tideover.store.transactions import Txn
from tideover.testing import EtcdServer, FaultyStore, MemoryStore

__all__ = ["openfeature_afterwards", "threads_stop_the_clock"]

pytestmark = pytest.mark.anyio

AWAY, HERE = HealthState.UNAVAILABLE, HealthState.AVAILABLE


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Run on trio with a clock that jumps; with a real etcd on asyncio."""
    return "asyncio" if request.node.get_closest_marker("etcd") else mock_trio()


# Health ----------------------------------------------------------------------------------------------------------


async def test_an_outage_is_told_once_and_so_is_its_end() -> None:
    """Requirements 5.1.1, 5.1.2, 5.3.5: STALE with the status in words, then READY; the status follows."""
    store = await store_with(flags__a="true")
    async with flagged(store=store) as (tide, client):
        heard, everywhere = Heard(client), Heard()
        lose(store)
        await until(lambda: client.get_provider_status() is ProviderStatus.READY)
        await tide.health.wait_for(AWAY)
        await anyio.sleep(60)
        await until(lambda: client.get_provider_status() is ProviderStatus.STALE)
        assert client.get_boolean_details("a", False).reason is Reason.STALE
        recover(store)
        await tide.health.wait_for(HERE)
        await anyio.sleep(60)
        await until(lambda: client.get_provider_status() is ProviderStatus.READY)
        await settled()
        await until(lambda: len(everywhere.details) == 3)
        # The first is what a new handler hears at once.
        assert heard.events == everywhere.events == [READY, STALE, READY]
        stale = heard.last(STALE)
        assert (stale.message or "").startswith("no etcd member answers")
        assert (stale.error_code, stale.provider_name) == (None, "tideover")


async def test_a_denied_prefix_is_an_error() -> None:
    """Requirements 5.1.4, 5.1.5: ERROR has a text and a code; it is neither STALE nor FATAL, and it ends."""
    store = FaultyStore(MemoryStore())

    def follows(op: object) -> bool:
        return isinstance(op, Range) and op.end is not None

    store.inject("PERMISSION_DENIED", "etcdserver: permission denied", when=follows, times=4)
    async with connected(store) as tide:
        heard = Heard()
        with pytest.raises(ProviderNotReadyError, match="permission denied"):
            api.set_provider_and_wait(TideoverProvider(tide))
        client = api.get_client()
        assert client.get_provider_status() is ProviderStatus.ERROR
        found = client.get_boolean_details("a", True)
        assert (found.value, found.reason) == (True, Reason.ERROR)
        assert found.error_code is ErrorCode.PROVIDER_NOT_READY
        await anyio.sleep(30)
        await until(lambda: client.get_provider_status() is ProviderStatus.READY)
        await until(lambda: len(heard.events) == 3)
        # The first is OpenFeature's own provider, the one before ours.
        assert heard.events == [READY, ERROR, READY]
        error = heard.last(ERROR)
        assert "permission denied" in (error.message or "")
        assert error.error_code is ErrorCode.PROVIDER_NOT_READY


async def test_refused_credentials_are_an_error_and_memory_still_knows() -> None:
    """Never STALE, for nobody is away, and never FATAL, for then nobody would ask any more."""
    memory = await store_with(flags__a="true")
    store = FaultyStore(memory)
    async with connected(store) as tide:
        api.set_provider_and_wait(TideoverProvider(tide))
        client = api.get_client()
        heard = Heard(client)
        store.inject("UNAUTHENTICATED", "etcdserver: invalid auth token", times=10**6)
        memory.touch()
        await tide.health.wait_for(AWAY)
        await anyio.sleep(10)
        await until(lambda: client.get_provider_status() is ProviderStatus.ERROR)
        assert client.get_boolean_value("a", False) is True
        await settled()
        await until(lambda: len(heard.events) == 2)
        assert heard.events == [READY, ERROR]
        assert heard.last(ERROR).error_code is ErrorCode.PROVIDER_NOT_READY
        assert "credentials" in (heard.last(ERROR).message or "")


@pytest.mark.usefixtures("threads_stop_the_clock")  # one of them reads the snapshot
@pytest.mark.parametrize("set_provider", [api.set_provider, api.set_provider_and_wait])
async def test_a_start_from_disk_is_stale(tmp_path: Path, set_provider: Callable[..., None]) -> None:
    """READY, which the SDK says by itself, is not the last word, in whatever order the threads come."""
    store = await degraded_store(tmp_path, flags__a="true")
    async with connect(store=store, cache_dir=tmp_path) as tide:
        client = api.get_client()
        for _ in range(20):
            heard = Heard(client)
            set_provider(TideoverProvider(tide))
            await until(lambda: client.get_provider_status() is ProviderStatus.STALE)
            await settled()
            await until(partial(_have_told, heard, READY, STALE))
            assert client.get_provider_status() is ProviderStatus.STALE
            found = client.get_boolean_details("a", False)
            assert (found.value, found.reason) == (True, Reason.STALE)
            assert found.flag_metadata["tideover.source"] == "disk"
            api.shutdown()


@pytest.mark.usefixtures("threads_stop_the_clock")
async def test_ready_is_not_the_last_word_of_a_slow_sdk(tmp_path: Path) -> None:
    """What there is to tell waits until the SDK has told that the provider is ready, however late that is."""

    class Slow(TideoverProvider):
        def initialize(self, evaluation_context: EvaluationContext) -> None:
            super().initialize(evaluation_context)
            time.sleep(0.1)

    store = await degraded_store(tmp_path, flags__a="true")
    async with connect(store=store, cache_dir=tmp_path) as tide:
        client = api.get_client()
        heard = Heard(client)
        api.set_provider(Slow(tide))
        # The first is OpenFeature's own provider, the one before ours.
        await until(lambda: heard.events.count(READY) == 2)
        await settled()
        assert client.get_provider_status() is ProviderStatus.STALE


def _have_told(heard: Heard, *events: object) -> bool:
    return set(events) <= set(heard.events)


async def test_an_outage_without_a_snapshot_is_an_error_until_it_ends() -> None:
    """Requirements 5.3.2, 1.7.4: nothing is known, so that no flag is not found; READY comes by itself."""
    store = lose(await store_with(flags__a="true"))
    async with connected(store) as tide:
        provider = TideoverProvider(tide)
        heard = Heard()
        api.set_provider(provider)
        client = api.get_client()
        await until(lambda: client.get_provider_status() is ProviderStatus.ERROR)
        assert client.get_boolean_details("a", True).error_code is ErrorCode.PROVIDER_NOT_READY
        assert client.get_boolean_details("no such flag", True).error_code is ErrorCode.PROVIDER_NOT_READY
        recover(store)
        await tide.health.wait_for(HERE)
        await anyio.sleep(10)
        await until(lambda: client.get_provider_status() is ProviderStatus.READY)
        assert client.get_boolean_value("a", False) is True
        await until(lambda: heard.events[-1] is READY)
        assert [event for event in heard.events if event is not CHANGED] == [READY, ERROR, READY]
        assert "nothing is known of the flags" in (heard.last(ERROR).message or "")


@pytest.mark.etcd
@pytest.mark.any_etcd
async def test_through_a_real_outage(etcd_server: EtcdServer) -> None:
    """etcd dies and comes back: READY, STALE, READY, each handler called once, and the flag never missing."""
    etcd_server.etcdctl("put", "/shop/config/flags/a", "true")
    async with connect(etcd_server.endpoint, namespace="/shop", cache_dir=False, start_timeout=5) as tide:
        await anyio.to_thread.run_sync(lambda: api.set_provider(TideoverProvider(tide)))
        client = api.get_client()
        heard = Heard(client)

        async def status(wanted: ProviderStatus) -> None:
            with anyio.fail_after(30):
                while client.get_provider_status() is not wanted:
                    assert client.get_boolean_value("a", False) is True or wanted is ProviderStatus.READY
                    await anyio.sleep(0.01)

        await status(ProviderStatus.READY)
        etcd_server.kill()
        await status(ProviderStatus.STALE)
        assert client.get_boolean_details("a", False).reason is Reason.STALE
        await anyio.to_thread.run_sync(etcd_server.restart)
        await status(ProviderStatus.READY)
        assert client.get_boolean_details("a", False).reason is Reason.STATIC
        await settled()
        await until(lambda: len(heard.events) == 3)
        assert heard.events == [READY, STALE, READY]


# Handlers --------------------------------------------------------------------------------------------------------


async def test_a_handler_that_blocks_delays_nothing() -> None:
    """Requirement 5.2.5: neither one that hangs nor one that raises delays others, evaluations or the loop."""
    store = await store_with(flags__a="true")
    released = threading.Event()
    logging.getLogger("openfeature").setLevel(logging.CRITICAL)

    def hang(details: EventDetails) -> None:
        released.wait(30)

    def fail(details: EventDetails) -> None:
        raise ValueError("a fault of the handler's own")

    try:
        async with flagged(store=store) as (tide, client):
            for event in (STALE, CHANGED):
                api.add_handler(event, hang)
                api.add_handler(event, fail)
            heard = Heard(client)
            await tide.config.put("flags/a", False)
            lose(store)
            await tide.health.wait_for(AWAY)
            await until(lambda: heard.events == [READY, CHANGED, STALE])
            assert client.get_boolean_value("a", True) is False
            recover(store)
            await tide.health.wait_for(HERE)
            await anyio.sleep(10)
            await until(lambda: heard.events == [READY, CHANGED, STALE, READY])
        assert not released.is_set()
    finally:
        released.set()
        logging.getLogger("openfeature").setLevel(logging.NOTSET)


async def test_only_clients_of_the_provider_are_told() -> None:
    """Requirements 5.1.3, 5.2.6: a client of another domain hears nothing; handlers stay when providers change."""
    store = await store_with(flags__a="true")
    async with connected(store) as tide:
        client, other = api.get_client("ours"), api.get_client("others")
        heard, nothing = Heard(client), Heard(other)
        api.set_provider_and_wait(NoOpProvider(), "others")
        for _ in range(2):
            api.set_provider_and_wait(TideoverProvider(tide), "ours")
        await tide.config.put("flags/a", False)
        await until(lambda: CHANGED in heard.events)
        await settled()
        # One for the provider that was there before, and one for each of ours.
        assert sorted(heard.events, key=str) == sorted([READY, READY, READY, CHANGED], key=str)
        assert CHANGED not in nothing.events


# Changes ---------------------------------------------------------------------------------------------------------


async def test_changed_flags_are_named_without_their_prefix() -> None:
    """What one transaction has changed is one event; other keys, and keys that no flag can have, are none."""
    store = await store_with(flags__a="1", flags__b="2", flags__c="3", other="4")
    async with flagged(store=store) as (tide, client):
        heard = Heard(client)
        member = store.members[0]
        await store.call(Put(b"/config/other", b"5"), member=member, timeout=1)
        await store.call(Put(b"/config/flags/", b"5"), member=member, timeout=1)
        await store.call(Put(b"/config/flags/\xff", b"5"), member=member, timeout=1)
        both = (Put(b"/config/flags/a", b"10"), Delete(b"/config/flags/b"), Put(b"/config/flags/new/d", b"4"))
        await store.call(Txn((), then=both), member=member, timeout=1)
        await anyio.sleep(1)
        await until(lambda: CHANGED in heard.events)
        await settled()
        assert heard.events == [READY, CHANGED]
        assert sorted(heard.last(CHANGED).flags_changed or []) == ["a", "b", "new/d"]
        assert client.get_integer_value("a", 0) == 10
        await tide.config.put("flags/a", 11)
        await until(lambda: heard.events == [READY, CHANGED, CHANGED])
        assert heard.last(CHANGED).flags_changed == ["a"]


async def test_what_changed_in_an_outage_is_told_after_it() -> None:
    """The full read that follows names the flags that are not as they were."""
    store = await store_with(flags__a="1", flags__b="2")
    async with flagged(store=store) as (tide, client):
        heard = Heard(client)
        lose(store)
        await tide.health.wait_for(AWAY)
        store.rebuild({b"/config/flags/a": b"1", b"/config/flags/b": b"3"})
        recover(store)
        await tide.health.wait_for(HERE)
        await anyio.sleep(30)
        await until(lambda: client.get_provider_status() is ProviderStatus.READY)
        await until(lambda: CHANGED in heard.events)
        assert client.get_integer_value("b", 0) == 3


# Life ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # where no time passes, and nothing else looks again
async def test_a_provider_that_is_set_early_becomes_ready_by_itself() -> None:
    """Requirements 5.3.1, 5.3.2, 5.3.3: set before the coordinator is entered it has failed, then it is ready."""
    store = await store_with(flags__a="true")
    tide = connect(store=store)
    heard = Heard()
    api.set_provider(TideoverProvider(tide))
    client = api.get_client()
    await until(lambda: client.get_provider_status() is ProviderStatus.ERROR)
    assert client.get_boolean_details("a", True).error_code is ErrorCode.PROVIDER_NOT_READY
    async with tide:
        await until(lambda: client.get_provider_status() is ProviderStatus.READY)
        assert client.get_boolean_value("a", False) is True
        late = Heard(client)
        await until(lambda: late.events == [READY])
    await until(lambda: client.get_provider_status() is ProviderStatus.ERROR)
    found = client.get_boolean_details("a", False)
    assert (found.value, found.error_code) == (False, ErrorCode.PROVIDER_NOT_READY)
    await settled()
    await until(lambda: heard.events == [READY, ERROR, READY, ERROR])
    assert heard.last(ERROR).message == "the coordinator is closed"


async def test_entering_and_setting_in_one_breath_is_ready() -> None:
    """Made before, set right after entering, by what waits: nothing has to have run meanwhile."""
    tide = connect(store=await store_with(flags__a="true"))
    provider = TideoverProvider(tide)
    async with tide:
        api.set_provider_and_wait(provider)
        assert api.get_client().get_boolean_value("a", False) is True


async def test_after_a_shutdown_nothing_is_told() -> None:
    """Requirements 1.7.6, 2.5.2: the SDK lets go of the provider; what becomes of it concerns nobody."""
    store = await store_with(flags__a="true")
    async with flagged(store=store) as (tide, client):
        provider = client.provider
        api.shutdown()
        heard = Heard(client)
        await tide.config.put("flags/a", False)
        lose(store)
        await tide.health.wait_for(AWAY)
        await settled()
        assert heard.events == [READY]  # OpenFeature's own provider
        api.set_provider_and_wait(provider)
        await until(lambda: heard.events[1:] == [READY, STALE])
    api.shutdown()


async def test_a_provider_that_comes_back_is_told_of_again() -> None:
    """The shutdown of one that was replaced runs later, in a thread, and may come after it was set again."""
    store = await store_with(flags__a="1")
    async with connected(store) as tide:
        provider, other = TideoverProvider(tide), TideoverProvider(tide)
        for _ in range(20):
            api.set_provider_and_wait(provider)
            api.set_provider_and_wait(other)
        api.set_provider_and_wait(provider)
        client = api.get_client()
        heard = Heard(client)
        await tide.config.put("flags/a", 2)
        await until(lambda: CHANGED in heard.events)
        lose(store)
        await tide.health.wait_for(AWAY)
        await until(lambda: client.get_provider_status() is ProviderStatus.STALE)
        await settled()
        await until(lambda: len(heard.events) == 3)
        assert heard.events == [READY, CHANGED, STALE]


async def test_two_providers_of_one_coordinator() -> None:
    """Each has its prefix and its events; one that is set for two domains is told of once in each."""
    store = await store_with(flags__a='"flags"', beta__a='"beta"')
    async with connected(store) as tide:
        flags, beta = TideoverProvider(tide), TideoverProvider(tide, prefix="beta")
        api.set_provider_and_wait(flags)
        api.set_provider_and_wait(flags, "also")
        api.set_provider_and_wait(flags, "also")
        api.set_provider_and_wait(beta, "beta")
        clients = [api.get_client(domain) for domain in (None, "also", "beta")]
        assert [client.get_string_value("a", "") for client in clients] == ["flags", "flags", "beta"]
        heard = [Heard(client) for client in clients]
        await tide.config.put("flags/a", '"changed"')
        await tide.config.put("beta/b", '"changed"')
        await until(lambda: all(CHANGED in each.events for each in heard))
        await settled()
        assert [each.events for each in heard] == [[READY, CHANGED]] * 3
        assert [each.last(CHANGED).flags_changed for each in heard] == [["a"], ["a"], ["b"]]


async def test_threads_of_the_sdk_leave_the_event_loop_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the SDK calls in its threads, nothing of ours is handed to the loop from there."""
    touched: set[str] = set()
    soon = EventLoop.soon

    def noting(self: EventLoop, call: Callable[..., object], *args: Any) -> None:
        touched.add(threading.current_thread().name)
        soon(self, call, *args)

    monkeypatch.setattr(EventLoop, "soon", noting)
    store = await store_with(flags__a="true")
    async with connected(store) as tide:
        provider = TideoverProvider(tide)
        api.set_provider(provider)
        client = api.get_client()
        await until(lambda: client.get_provider_status() is ProviderStatus.READY)
        api.set_provider(NoOpProvider())
        await until(lambda: not hasattr(provider, "_on_emit"))
        provider.initialize(EvaluationContext())
        await tide.config.put("flags/a", False)
        lose(store)
        await tide.health.wait_for(AWAY)
    assert touched <= {threading.main_thread().name}


async def test_after_the_loop_is_closed_the_sdk_may_still_shut_down() -> None:
    """Each of its calls ends, none raises."""

    async def serve() -> TideoverProvider:
        async with connect(store=await store_with(flags__a="true")) as tide:
            provider = TideoverProvider(tide)
            api.set_provider_and_wait(provider)
            assert await api.get_client().get_boolean_value_async("a", False) is True
            await tide.config.put("flags/a", False)
        return provider

    found: list[TideoverProvider] = []
    thread = threading.Thread(target=lambda: found.append(anyio.run(serve)))
    thread.start()
    thread.join()
    client = api.get_client()
    await until(lambda: client.get_provider_status() is ProviderStatus.ERROR)
    assert client.get_boolean_details("a", True).error_code is ErrorCode.PROVIDER_NOT_READY
    api.set_provider(NoOpProvider())
    await until(lambda: not hasattr(found[0], "_on_emit"))
    with pytest.raises(ProviderNotReadyError, match="closed"):
        api.set_provider_and_wait(found[0])
    found[0].shutdown()


async def test_listeners_that_are_no_sdk_are_told_at_once() -> None:
    """Whoever attaches without a registry, such as a test or a composite of providers, waits for nothing."""
    store = await store_with(flags__a="true")
    async with connected(store) as tide:
        provider = TideoverProvider(tide)
        told: list[object] = []
        provider.attach(lambda _, event, details: told.append(event))
        provider.initialize(EvaluationContext())
        await tide.config.put("flags/a", False)
        await until(lambda: told == [CHANGED])
        provider.detach()
        await tide.config.put("flags/a", True)
        await settled()
        assert told == [CHANGED]
