"""`tide.config` on a cluster in memory: what each operation gives and raises, with etcd and without it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypedDict

import anyio
import pytest

from tests.support import connected, request
from tideover import (
    CachePolicy,
    CircuitOpen,
    ConfigKeyError,
    ConfigValueError,
    InvalidRequest,
    NotFollowed,
    NotSynced,
    OutcomeUnknown,
    PermissionDenied,
    SpaceExhausted,
    StalenessLimit,
    TooStale,
    Unavailable,
    Unreachable,
)
from tideover.coordinator.coordinator import Coordinator
from tideover.store.operations import Put, Range
from tideover.testing import FaultyStore, MemoryStore
from tideover.types import HealthState, Source

pytestmark = pytest.mark.anyio


async def go_dark(store: MemoryStore, tide: Coordinator) -> None:
    """Take the whole cluster away and wait until that is declared."""
    store.down = set(store.members)
    store.touch()
    await tide.health.wait_for(HealthState.UNAVAILABLE)


async def come_back(store: MemoryStore, tide: Coordinator) -> None:
    """Bring the cluster back and wait until the configuration is live."""
    store.down = set()
    store.touch()
    await tide.health.wait_for(HealthState.AVAILABLE)
    await anyio.sleep(1)


# Reading -------------------------------------------------------------------------------------------------------


async def test_absent_differs_from_unknown() -> None:
    """An absent key raises ConfigKeyError; one of a prefix never read NotSynced, which says since when."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(ConfigKeyError, match="no configuration key 'a'") as absent:
            tide.config.get("a")
        assert not isinstance(absent.value, NotSynced)
        assert tide.config.read("a").source is Source.LIVE
        assert not tide.config.read("a").present
    store.down = set(store.members)
    async with connected(store) as tide:
        await anyio.sleep(90)
        with pytest.raises(NotSynced, match=r"no etcd member answers.* for 1 min 30 s, since 2001-09-09T"):
            tide.config.get("a")
        reading = tide.config.read("a", default="d")
        assert (reading.value, reading.source, reading.present) == ("d", Source.DEFAULT, False)
        assert reading.age == math.inf
        assert reading.stale


async def test_default_without_etcd_is_marked() -> None:
    """No etcd and no snapshot: the default is given, and the request is marked as degraded."""
    store = MemoryStore()
    store.down = set(store.members)
    async with connected(store) as tide:
        with request() as record:
            assert tide.config.get("a", float, default=2.0) == 2.0
        assert record.marks["config"].source is Source.DEFAULT


async def test_default_of_an_absent_key_is_no_degradation() -> None:
    """With etcd well, an absent key's default is what it should be: nothing is marked."""
    async with connected(MemoryStore()) as tide:
        with request() as record:
            assert tide.config.get("a", float, default=2.0) == 2.0
        assert not record.marks


async def test_not_followed() -> None:
    """A key outside the followed prefixes raises NotFollowed, which says what is followed; fetch serves it."""
    store = MemoryStore()
    async with connected(store, follow=("payments/", "limits/")) as tide:
        await tide.config.put("other", "1")
        with pytest.raises(NotFollowed, match="'payments/', 'limits/'"):
            tide.config.get("other")
        assert (await tide.config.fetch("other")).value == "1"


@pytest.mark.parametrize("key", ["", "a\0b", "\ud800", 7, None])
async def test_bad_keys(key: str) -> None:
    """A key that cannot be a key is refused by every operation, with ValueError."""
    async with connected(MemoryStore()) as tide:
        for operation in (tide.config.get, tide.config.read):
            with pytest.raises(InvalidRequest, match="key must be"):
                operation(key)
        with pytest.raises(InvalidRequest, match="key must be"):
            await tide.config.put(key, "1")
        with pytest.raises(InvalidRequest, match="key must be"):
            await tide.config.fetch(key)
        with pytest.raises(InvalidRequest, match="key must be"):
            await tide.config.delete(key)


async def test_last_good_value_stays() -> None:
    """A value that does not decode leaves the last good one, with its revision and the refused one's."""
    async with connected(MemoryStore()) as tide:
        good = await tide.config.put("a", 1.5)
        assert tide.config.get("a", float) == 1.5
        bad = await tide.config.put("a", "soon")
        assert tide.config.get("a", float) == 1.5
        assert tide.config.get("a") == "soon"
        reading = tide.config.read("a", float)
        assert (reading.revision, reading.rejected) == (good.revision, bad.revision)
        assert [r.key for r in tide.status().rejected] == ["a"]
        await tide.config.put("a", 2.5)
        assert tide.config.get("a", float) == 2.5
        assert tide.status().rejected == ()


async def test_value_without_a_good_one() -> None:
    """A value that never decoded raises ConfigValueError, or gives the default and the revision refused."""
    async with connected(MemoryStore()) as tide:
        written = await tide.config.put("a", "soon")
        with pytest.raises(ConfigValueError, match="not a number") as caught:
            tide.config.get("a", float)
        assert caught.value.revision == written.revision
        assert tide.config.get("a", float, default=1.0) == 1.0
        assert tide.config.read("a", float, default=1.0).rejected == written.revision


async def test_rejection_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """A refused revision is one line in the log, however often and as whatever types it is read."""
    async with connected(MemoryStore()) as tide:
        await tide.config.put("a", "soon")
        for form in (float, int, bool):
            for _ in range(10):
                tide.config.get("a", form, default=None)
        assert sum("tideover.config.rejected" in message for message in caplog.messages) == 1


async def test_reads_are_counted_by_source() -> None:
    """Every read is counted once, by source and whether it was degraded, on the fast path too."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        for _ in range(10):
            tide.config.get("a")
        await go_dark(store, tide)
        with request():
            for _ in range(7):
                tide.config.get("a")
        counts = tide._life.instruments.observe_reads()
        assert counts["live", False] == 10
        assert counts["memory", True] == 7


async def test_a_request_is_marked_once_with_the_first_answer() -> None:
    """The record holds the first degraded answer of the request: source, age, reason and outage."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        await go_dark(store, tide)
        await anyio.sleep(100)
        with request() as record:
            assert tide.config.get("a") == "1"
            mark = record.marks["config"]
            assert mark.source is Source.MEMORY
            assert 100 < mark.age < 110
            assert mark.reason == "backend_unavailable"
            assert mark.outage_id == tide.status().outage_id != ""
            await anyio.sleep(10)
            tide.config.get("a")
            assert record.marks["config"] is mark
        await come_back(store, tide)
        with request() as record:
            tide.config.get("a")
        assert not record.marks


# Limits --------------------------------------------------------------------------------------------------------


async def test_max_stale_raise() -> None:
    """`on_stale="raise"`: TooStale with the age once it is older, not before."""
    store = MemoryStore()
    limits = {"": StalenessLimit(60, on_stale="raise")}
    async with connected(store, limits=limits) as tide:
        await tide.config.put("a", "1")
        await go_dark(store, tide)
        await anyio.sleep(40)
        assert tide.config.get("a") == "1"
        await anyio.sleep(30)
        with pytest.raises(TooStale, match="1 min") as caught:
            tide.config.get("a")
        assert caught.value.max_stale == 60
        assert 60 < caught.value.age < 90
        await come_back(store, tide)
        assert tide.config.get("a") == "1"


async def test_max_stale_default_and_serve() -> None:
    """`"default"` gives the default, or raises without one; `"serve"` serves; the longest prefix decides."""
    store = MemoryStore()
    limits = {"": StalenessLimit(60, on_stale="serve"), "x/": StalenessLimit(60, on_stale="default")}
    async with connected(store, limits=limits) as tide:
        await tide.config.put("a", "1")
        await tide.config.put("x/a", "1")
        await go_dark(store, tide)
        await anyio.sleep(100)
        assert tide.config.get("a") == "1"
        assert tide.config.get("x/a", default="d") == "d"
        assert tide.config.read("x/a", default="d").source is Source.DEFAULT
        with pytest.raises(TooStale):
            tide.config.get("x/a")


async def test_limits_tighten_the_probing() -> None:
    """A limit below the usual probe interval is held while all is well: ten minutes without TooStale."""
    limits = {"": StalenessLimit(3, on_stale="raise")}
    async with connected(MemoryStore(), limits=limits) as tide:
        await tide.config.put("a", "1")
        for _ in range(600):
            await anyio.sleep(1)
            assert tide.config.get("a") == "1"


# Fetching ------------------------------------------------------------------------------------------------------


async def test_fetch_walks_down_the_ladder() -> None:
    """QUORUM, then MEMBER without a quorum, then MEMORY without members; back to QUORUM."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        assert (await tide.config.fetch("a")).source is Source.QUORUM
        store.down = {m for m in store.members if m != tide._parts.client.state.active}
        store.touch()
        await tide.health.wait_for(HealthState.DEGRADED)
        assert (await tide.config.fetch("a")).source is Source.MEMBER
        await go_dark(store, tide)
        sent = len(store.calls)
        reading = await tide.config.fetch("a")
        assert (reading.value, reading.source) == ("1", Source.MEMORY)
        assert len(store.calls) == sent
        await come_back(store, tide)
        assert (await tide.config.fetch("a")).source is Source.QUORUM


async def test_fetch_of_an_unfollowed_key_in_an_outage() -> None:
    """The last answer is given for as long as `stale_if_error` says; then the default; then the error."""
    store = MemoryStore()
    cache = CachePolicy(stale_if_error=600)
    async with connected(store, follow=("x/",), cache=cache) as tide:
        await tide.config.put("a", "1")
        await tide.config.fetch("a")
        await go_dark(store, tide)
        await anyio.sleep(300)
        reading = await tide.config.fetch("a")
        assert (reading.value, reading.source) == ("1", Source.MEMORY)
        assert 300 <= reading.age < 310
        await anyio.sleep(300)
        assert (await tide.config.fetch("a", default="d")).source is Source.DEFAULT
        with pytest.raises(CircuitOpen):
            await tide.config.fetch("a")


async def test_fetch_with_a_soft_ttl_asks_once() -> None:
    """Within `ttl` the kept answer is given without asking; after it etcd is asked; a put forgets it."""
    store = MemoryStore()
    async with connected(store, follow=("x/",), cache=CachePolicy(ttl=10)) as tide:
        await tide.config.put("a", "1")
        await tide.config.fetch("a")
        store.calls.clear()
        assert (await tide.config.fetch("a")).age < 1
        assert not [op for _, op in store.calls if isinstance(op, Range) and op.key == b"/config/a"]
        await tide.config.put("a", "2")
        assert (await tide.config.fetch("a")).value == "2"


async def test_fetch_holds_its_timeout() -> None:
    """Members that are silent cost a fetch its timeout and not more; the last known value is given."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        store.frozen = set(store.members)
        for timeout in (0.2, 1.0, 2.0):
            began = anyio.current_time()
            assert (await tide.config.fetch("a", timeout=timeout)).value == "1"
            assert anyio.current_time() - began <= timeout + 0.001


async def test_fetch_survives_one_dead_member() -> None:
    """Whichever single member is down, frozen or new to it, a fetch succeeds from the quorum."""
    for broken in ("down", "frozen"):
        store = MemoryStore()
        async with connected(store) as tide:
            await tide.config.put("a", "1")
            setattr(store, broken, {tide._parts.client.state.active})
            began = anyio.current_time()
            assert (await tide.config.fetch("a")).source is Source.QUORUM
            assert anyio.current_time() - began < 1.5


async def test_fetch_passes_a_definite_no_on() -> None:
    """A refused permission is raised, never turned into an outage or a cached answer."""
    store = FaultyStore(MemoryStore())
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        store.inject("PERMISSION_DENIED", "etcdserver: permission denied", op=Range)
        with pytest.raises(PermissionDenied):
            await tide.config.fetch("a")
        assert tide.health.state is HealthState.AVAILABLE


async def test_fetch_timeout_must_be_positive() -> None:
    """A timeout of 0, below, or not a number is refused at once."""
    async with connected(MemoryStore()) as tide:
        for timeout in (0, -1, math.nan):
            with pytest.raises(InvalidRequest, match="timeout"):
                await tide.config.fetch("a", timeout=timeout)


# Writing -------------------------------------------------------------------------------------------------------


async def test_put_is_visible_at_once() -> None:
    """When put returns, get shows the value; delete likewise, also of nothing."""
    async with connected(MemoryStore()) as tide:
        for n in range(20):
            written = await tide.config.put("a", n)
            assert written.visible
            assert tide.config.get("a", int) == n
        assert (await tide.config.delete("a")).visible
        assert tide.config.get("a", default=None) is None
        assert (await tide.config.delete("a")).visible


async def test_put_outside_the_followed_prefixes_says_so() -> None:
    """A key that is not followed cannot be visible."""
    async with connected(MemoryStore(), follow=("x/",)) as tide:
        assert not (await tide.config.put("a", 1)).visible


async def test_put_with_a_lost_reply_is_unknown_and_not_repeated() -> None:
    """A write whose reply is lost raises OutcomeUnknown, is no Unavailable, and was sent exactly once."""
    memory = MemoryStore()
    store = FaultyStore(memory)
    async with connected(store) as tide:
        store.inject("UNAVAILABLE", "Stream removed (Socket closed)", op=Put, applied=True)
        with pytest.raises(OutcomeUnknown, match="read back") as caught:
            await tide.config.put("a", "1")
        assert not isinstance(caught.value, Unavailable)
        assert sum(isinstance(op, Put) for _, op in memory.calls) == 1
        await anyio.sleep(1)
        assert tide.config.get("a") == "1"


async def test_put_that_provably_was_not_applied_is_repeated() -> None:
    """A refused connection and a member without a leader are tried again, elsewhere or later."""
    memory = MemoryStore()
    store = FaultyStore(memory)
    async with connected(store) as tide:
        store.inject("UNAVAILABLE", "failed to connect to all addresses", op=Put)
        store.inject("UNAVAILABLE", "etcdserver: no leader", op=Put)
        await tide.config.put("a", "1")
        assert sum(isinstance(op, Put) for _, op in memory.calls) == 1


async def test_put_timeout_is_unknown() -> None:
    """A write that was sent and never answered is OutcomeUnknown at its deadline."""
    store = FaultyStore(MemoryStore())
    async with connected(store) as tide:
        store.inject("", op=Put)
        began = anyio.current_time()
        with pytest.raises(OutcomeUnknown):
            await tide.config.put("a", "1", timeout=1.0)
        assert anyio.current_time() - began <= 1.001


async def test_put_when_unreachable() -> None:
    """No member accepts the write: Unreachable before the declaration, and the value is not written."""
    store = MemoryStore()
    async with connected(store) as tide:
        store.down = set(store.members)
        with pytest.raises(Unreachable):
            await tide.config.put("a", "1")


async def test_put_too_large() -> None:
    """A value over etcd's limit is refused as a ValueError that says how large it is."""
    async with connected(MemoryStore()) as tide:
        with pytest.raises(ValueError, match="too large") as caught:
            await tide.config.put("a", "x" * 2_000_000)
        assert "2000000 bytes" in "".join(caught.value.__notes__)
        assert tide.health.state is HealthState.AVAILABLE


async def test_put_without_space() -> None:
    """A used-up quota is its own error and diagnosis, no outage; a put that works ends it, a delete does not."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.put("b", "1")
        store.alarms = {"NOSPACE"}
        with pytest.raises(SpaceExhausted):
            await tide.config.put("a", "1")
        assert tide.health.diagnosis == "no_space"
        await anyio.sleep(1)
        assert tide.health.diagnosis == "no_space"
        assert tide.health.state is HealthState.AVAILABLE
        await tide.config.delete("b")
        assert tide.health.diagnosis == "no_space"
        store.alarms = set()
        await tide.config.put("a", "1")
        assert tide.health.diagnosis == "healthy"


async def test_put_of_what_cannot_be_stored() -> None:
    """A value of an unknown type is a TypeError, before anything is sent."""
    store = MemoryStore()
    async with connected(store) as tide:
        sent = len(store.calls)
        with pytest.raises(TypeError, match="cannot store"):
            await tide.config.put("a", object())
        assert len(store.calls) == sent


# Changes and bindings ------------------------------------------------------------------------------------------


async def test_changes_are_conflated_for_a_slow_reader() -> None:
    """A million changes of one key leave one waiting; different keys all come, in the order of revisions."""
    async with connected(MemoryStore()) as tide:
        changes = tide.config.changes("a/")
        for n in range(200):
            await tide.config.put("a/x", n)
        await tide.config.put("a/y", 1)
        await tide.config.put("b", 1)
        await tide.config.put("a/x", "last")
        assert [(c.key, c.value) for c in [await anext(changes), await anext(changes)]] == [
            ("a/y", "1"),
            ("a/x", "last"),
        ]
        with anyio.move_on_after(10) as scope:
            await anext(changes)
        assert scope.cancelled_caught


async def test_changes_end_with_the_coordinator() -> None:
    """`async for` over changes ends when the coordinator closes, so that no task hangs."""
    ended = anyio.Event()

    async with anyio.create_task_group() as tasks:
        async with connected(MemoryStore()) as tide:

            async def follow() -> None:
                async for _ in tide.config.changes():
                    pass
                ended.set()

            tasks.start_soon(follow)
            await anyio.sleep(1)
        with anyio.fail_after(1):
            await ended.wait()


async def test_changes_of_an_unfollowed_prefix() -> None:
    """Waiting for changes that can never come is refused."""
    async with connected(MemoryStore(), follow=("x/",)) as tide:
        with pytest.raises(NotFollowed):
            tide.config.changes("a/")
        tide.config.changes("")
        tide.config.changes("x/y")


@dataclass(frozen=True)
class Payments:
    """Settings for a test."""

    timeout: float
    retries: int = 3

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.timeout <= 0:
            raise ValueError("timeout must be positive")


async def test_bind_follows_and_keeps_the_last_valid_object() -> None:
    """A bound object changes as a whole; undecodable, refused or missing fields leave the former one."""
    async with connected(MemoryStore()) as tide:
        await tide.config.put("p/timeout", 2.5)
        live = tide.config.bind(Payments, prefix="p/")
        assert live.value == Payments(2.5, 3)
        await tide.config.put("p/retries", 5)
        assert live.value == Payments(2.5, 5)
        for bad in ("soon", -1):
            await tide.config.put("p/timeout", bad)
            assert live.value == Payments(2.5, 5)
            assert live.rejection is not None
        await tide.config.delete("p/timeout")
        assert live.value == Payments(2.5, 5)
        await tide.config.put("p/timeout", 1)
        assert live.value == Payments(1.0, 5)
        assert live.rejection is None


async def test_bind_without_its_keys() -> None:
    """A missing key raises ConfigKeyError; one of which nothing is known raises NotSynced."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(ConfigKeyError, match="p/timeout"):
            tide.config.bind(Payments, prefix="p/")
    store.down = set(store.members)
    async with connected(store) as tide:
        with pytest.raises(NotSynced):
            tide.config.bind(Payments, prefix="p/")


class Limits(TypedDict, total=False):
    """Settings as a dict."""

    rate: int


async def test_bind_typed_dict_with_validator() -> None:
    """A TypedDict binds too, and a validator's refusal keeps the last valid one."""

    def validate(limits: Limits) -> None:
        if limits.get("rate", 0) > 100:
            raise ValueError("too fast")

    async with connected(MemoryStore()) as tide:
        live = tide.config.bind(Limits, prefix="l/", validate=validate)
        assert live.value == {}
        await tide.config.put("l/rate", 50)
        assert live.value == {"rate": 50}
        await tide.config.put("l/rate", 500)
        assert live.value == {"rate": 50}


async def test_bound_value_marks_the_request() -> None:
    """Using a bound object in an outage marks the request."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.put("p/timeout", 2.5)
        live = tide.config.bind(Payments, prefix="p/")
        with request() as record:
            assert live.value.timeout == 2.5
        assert not record.marks
        await go_dark(store, tide)
        with request() as record:
            assert live.value.timeout == 2.5
        assert record.marks["config"].source is Source.MEMORY


async def test_bind_refuses_other_types() -> None:
    """Only dataclasses and TypedDicts have fields to bind."""
    async with connected(MemoryStore()) as tide:
        with pytest.raises(TypeError, match="dataclass or a TypedDict"):
            tide.config.bind(int)


async def test_denied_prefix_raises_from_get() -> None:
    """A followed prefix that a quorum refuses raises PermissionDenied from get: no cache masks it."""
    memory = MemoryStore()
    store = FaultyStore(memory)

    def follows(op: object) -> bool:
        return isinstance(op, Range) and op.end is not None

    store.inject("PERMISSION_DENIED", "etcdserver: permission denied", when=follows, times=4)
    async with connected(store) as tide:
        with pytest.raises(PermissionDenied):
            tide.config.get("a", default="d")
        await anyio.sleep(30)
        assert tide.config.get("a", default="d") == "d"


async def test_bound_value_holds_its_limit() -> None:
    """A bound object under a limit that raises does not outlive the limit silently."""
    store = MemoryStore()
    async with connected(store, limits={"p/": StalenessLimit(60, on_stale="raise")}) as tide:
        await tide.config.put("p/timeout", 2.5)
        live = tide.config.bind(Payments, prefix="p/")
        await go_dark(store, tide)
        assert live.value.timeout == 2.5
        await anyio.sleep(100)
        with pytest.raises(TooStale):
            _ = live.value


async def test_repeated_reads_outside_a_request_are_counted() -> None:
    """Outside a request a degraded read is counted each time, although the span is marked once."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        tide.config.get("a")
        await go_dark(store, tide)
        for _ in range(7):
            tide.config.get("a")
        assert tide._life.instruments.observe_reads()["memory", True] == 7


async def test_a_change_that_comes_while_closing_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing can be read any more, so settings objects stay as they are, and the watch does not fail."""
    store = MemoryStore(values={"p/timeout": 1})
    async with connected(store) as tide, connected(store) as other:
        live = tide.config.bind(Payments, prefix="p/")
        tide._parts.client.lifecycle.close("the coordinator is closing")  # which is the first that it does
        tide.config.close()
        await other.config.put("p/timeout", 2)
        await anyio.sleep(1)
        assert repr(live) == f"<Live Payments of 'p/' at revision {live.revision}>"
    assert "tideover.task.failed" not in caplog.text


async def test_the_warm_path_has_few_attributes_beside_it() -> None:
    """CPython 3.11 keeps up to 28 attributes of an object outside a dict: a warm read is a fifth quicker."""
    async with connected(MemoryStore()) as tide:
        assert len(vars(tide.config)) <= 28
