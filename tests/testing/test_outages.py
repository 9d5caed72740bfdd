"""`declare_outage`: declared at once, for real, and over when it says so."""

from __future__ import annotations

import anyio
import pytest

from tests.support import connected, mock_trio
from tideover import Closed, LockUnavailable, Source, Unavailable, connect
from tideover.testing import FaultyStore, MemoryStore, declare_outage

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()


async def test_declared_at_once_and_for_as_long_as_it_lasts() -> None:
    """No time passes until the outage is declared; it lasts; and at its end all is live again within a second."""
    async with connected(MemoryStore(values={"a": "1"})) as tide:
        tide.discover("billing")
        began = anyio.current_time()
        async with declare_outage(tide):
            assert anyio.current_time() == began
            assert (tide.health.state, tide.health.diagnosis) == ("unavailable", "cut_off")
            assert tide.config.read("a").source is Source.MEMORY
            with pytest.raises(LockUnavailable):
                async with tide.lock("orders"):
                    pass
            with pytest.raises(Unavailable):
                await tide.config.put("a", "2")
            await anyio.sleep(60)
            assert tide.health.state == "unavailable"
            ending = anyio.current_time()
        assert anyio.current_time() - ending < 1
        assert tide.health.state == "available"
        assert tide.config.read("a").source is Source.LIVE
        assert tide.discover("billing").source is Source.LIVE
        async with tide.lock("orders"):
            await tide.config.put("a", "2")


async def test_it_is_one_outage_in_the_record() -> None:
    """The health tells one outage and its end, with an id, as of any other."""
    async with connected(MemoryStore()) as tide:
        changes = tide.health.changes()
        async with declare_outage(tide):
            outage_id = tide.health.outage_id
            assert outage_id
        told = [await anext(changes) for _ in range(3)]
        assert [change.state for change in told] == ["available", "unavailable", "available"]
        assert [change.outage_id for change in told] == ["", outage_id, outage_id]


async def test_outages_overlap() -> None:
    """The last of several that ends ends them all; members that a test has taken down itself stay down."""
    store = MemoryStore()
    async with connected(FaultyStore(store)) as tide:
        store.down.add("memory-3:2379")
        first, second = declare_outage(tide), declare_outage(tide)
        await first.recovered()
        await anyio.sleep(10)
        assert tide.health.state == "unavailable"
        await second.recovered()
        assert tide.health.state == "available"
        assert store.down == {"memory-3:2379"}
        await second.recovered()


async def test_the_end_in_its_own_loop_is_waited_for_by_itself() -> None:
    """`end()` where the coordinator lives returns at once, and the recovery follows."""
    async with connected(MemoryStore()) as tide:
        with declare_outage(tide) as outage:
            pass
        assert tide.health.state == "unavailable"
        await outage.recovered()
        assert tide._life.live


async def test_it_needs_a_cluster_in_memory() -> None:
    """Neither a real etcd nor a coordinator that is not open has an outage declared."""
    with pytest.raises(TypeError, match="a real etcd is killed"):
        declare_outage(connect("127.0.0.1:1"))
    tide = connect(store=MemoryStore())
    with pytest.raises(Closed, match="has not been entered"):
        declare_outage(tide)
    async with tide:
        pass
    with pytest.raises(Closed):
        declare_outage(tide)


def test_in_another_thread() -> None:
    """Where another thread's loop has the coordinator, the block begins declared and ends recovered."""
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(connect(store=MemoryStore(values={"a": "1"}))) as tide,
    ):
        with declare_outage(tide):
            assert tide.config.read("a").source is Source.MEMORY
        assert tide.config.read("a").source is Source.LIVE
        assert tide.health.state == "available"


async def test_values_are_stored_as_put_would() -> None:
    """What `MemoryStore` is made with is what `put` would have written, under its namespace."""
    store = MemoryStore(values={"a": 1.5, "b": {"x": [True]}, "c": "text"}, namespace="/shop")
    async with connected(store, namespace="/shop") as tide:
        for key, value in {"a": 1.5, "b": {"x": [True]}, "c": "text"}.items():
            await tide.config.put(f"put/{key}", value)
            assert tide.config.get(key, bytes) == tide.config.get(f"put/{key}", bytes)
    async with connected(store) as tide:
        assert tide.config.read("a").present is False
