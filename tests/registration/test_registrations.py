"""Registrations on a cluster in memory: whatever happens, they come back."""

from __future__ import annotations

import logging
import os
import random
from typing import Any

import anyio
import pytest

import tideover
from tests.registration.support import URL, back_within, heal, lose_all, published
from tests.sessions.test_session_keys import cancelled_at_every_await
from tests.support import connected
from tideover import Closed, Endpoint, RegistrationState
from tideover.registration import bulk, keeper
from tideover.registration.rules import SPREAD
from tideover.store.leases import LeaseGrant
from tideover.store.operations import Delete, Op, Put, Result
from tideover.store.transactions import Txn
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio


def is_put_of(folder: bytes) -> object:
    """Return what recognises a transaction that puts a key of a folder."""

    def recognises(op: Op[Result]) -> bool:
        return isinstance(op, Txn) and any(isinstance(s, Put) and s.key.startswith(folder) for s in op.then)

    return recognises


# The ordinary life ----------------------------------------------------------------------------------------------


async def test_it_is_in_etcd_as_long_as_the_block_lasts() -> None:
    """Inside the block the endpoint is in etcd as it was given, under a lease; after it, both are gone."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with tide.register("api", URL, metadata={"zone": "a"}, weight=3) as here:
            (found,) = published(store)
            assert here.registered
            assert found == here.endpoint
            assert (found.url, found.weight, found.metadata, found.instance) == (
                URL,
                3,
                {"zone": "a"},
                "10.0.0.7:8000",
            )
            await anyio.sleep(600)
            assert published(store) == [found]
            assert len(store.leases) == 1
            (status,) = tide.status().registrations
            assert (status.service, status.state, status.comebacks, status.error) == ("api", "registered", 0, None)
            assert status.seconds == pytest.approx(600, abs=1)
            assert tide.registrations == (here,)
        assert published(store) == []
        assert not store.leases
        assert tide.status().registrations == ()
        assert here.status.state is RegistrationState.ENDED


async def test_the_module_level_function_uses_the_ambient_coordinator() -> None:
    """`tideover.register` registers with the only open coordinator."""
    store = MemoryStore()
    async with connected(store), tideover.register("api", URL):
        assert len(published(store)) == 1


async def test_an_ordinary_start_waits_for_nothing() -> None:
    """With etcd well, entering a block takes no time at all, and the endpoint is in etcd then."""
    store = MemoryStore()
    async with connected(store) as tide:
        began = anyio.current_time()
        async with tide.register("api", URL):
            assert anyio.current_time() - began < 0.05
            assert len(published(store)) == 1


async def test_a_process_that_died_is_gone_after_its_ttl() -> None:
    """Nothing of a process that is no more stays: its lease ends by itself, and the key with it."""
    store = MemoryStore()
    async with connected(store) as tide, tide.register("api", URL, ttl=5):
        (lease,) = store.leases
        # What `kill -9` is for etcd: no renewals any more.
        store._leases.by_id[lease].expires_at = anyio.current_time() + 5
        lost = store._leases.by_id.pop(lease)
        store._leases.by_id[1] = lost
        await anyio.sleep(5.1)
        assert 1 not in store.leases


# Coming back ----------------------------------------------------------------------------------------------------


async def test_a_lease_that_etcd_took_away_costs_a_moment() -> None:
    """Lease and keys are gone although they were renewed: the endpoint is back within the spread."""
    store = MemoryStore()
    async with connected(store) as tide, tide.register("api", URL) as here:
        (lease,) = store.leases
        store.revoke(lease)
        assert published(store) == []
        await back_within(store, SPREAD + 0.5)
        await here.wait_registered()
        assert here.status.comebacks == 1
        assert here.status.error is None


@pytest.mark.parametrize("ttl", [5, 15, 60])
async def test_it_is_back_when_etcd_comes_back_with_nothing(ttl: int) -> None:
    """After an outage at whose end etcd is empty, the endpoint is there again within its ttl."""
    store = MemoryStore()
    async with connected(store) as tide, tide.register("api", URL, ttl=ttl) as here:
        lose_all(store)
        await anyio.sleep(3 * ttl)
        store.rebuild({})
        heal(store)
        await back_within(store, min(ttl, SPREAD + 2))
        await here.wait_registered()
        assert published(store) == [here.endpoint]


async def test_a_long_outage_ends_with_the_endpoint_there() -> None:
    """Etcd keeps leases while it is away; if it does not, the endpoint is put there anew, ten minutes later."""
    for forgets in (False, True):
        store = MemoryStore(1)
        async with connected(store) as tide, tide.register("api", URL) as here:
            lose_all(store)
            await anyio.sleep(700 if forgets else 300)
            assert not here.registered
            assert here.status.state is RegistrationState.UNCONFIRMED
            assert here.status.error is not None
            if forgets:
                # With all that stands under them, as etcd does: the session's own key as well.
                store.revoke(*store.leases)
            heal(store)
            await back_within(store, SPREAD + 2)
            await anyio.sleep(5)
            assert here.registered
            assert here.status.comebacks == int(forgets)


async def test_compaction_while_it_was_cut_off_changes_nothing() -> None:
    """A watch that cannot go on because history was compacted does not cost the endpoint."""
    store = MemoryStore()
    async with connected(store) as tide, tide.register("api", URL) as here:
        lose_all(store)
        await anyio.sleep(30)
        for n in range(100):
            store._apply([Put(b"/x", str(n).encode())], store.members[0])
        store.compact(store.revision)
        heal(store)
        await anyio.sleep(5)
        assert here.registered
        assert published(store) == [here.endpoint]
        store._apply([Delete(f"/{here.endpoint.key}".encode())], store.members[0])
        store.touch()
        await back_within(store, 1.5)


async def test_a_key_that_somebody_deleted_is_back_at_once() -> None:
    """With its lease well, the endpoint is put there again within 0.3 s, under the same lease."""
    store = MemoryStore()
    async with connected(store) as tide, tide.register("api", URL) as here:
        leases = store.leases
        await anyio.sleep(60)
        store._apply([Delete(f"/{here.endpoint.key}".encode())], store.members[0])
        store.touch()
        assert published(store) == []
        await back_within(store, 0.3)
        assert store.leases == leases
        assert here.status.comebacks == 1


async def test_who_deletes_it_again_and_again_is_not_answered_with_a_storm() -> None:
    """Against a script that deletes the key whenever it sees it, there are at most 3 puts a second."""
    store = MemoryStore()
    async with connected(store) as tide, tide.register("api", URL) as here:
        puts = 0
        for _ in range(6000):
            await anyio.sleep(0.01)
            if published(store):
                puts += 1
                store._apply([Delete(f"/{here.endpoint.key}".encode())], store.members[0])
                store.touch()
        assert 20 < puts < 180
        await back_within(store, 1.1)


async def test_registered_while_etcd_is_away() -> None:
    """Entering takes no time in a declared outage, says that nothing is registered, and etcd gets it later."""
    store = MemoryStore()
    async with connected(store) as tide:
        lose_all(store)
        await tide.health.wait_for(tideover.HealthState.UNAVAILABLE)
        began = anyio.current_time()
        async with tide.register("api", URL) as here:
            assert anyio.current_time() == began
            assert not here.registered
            (status,) = tide.status().registrations
            assert status.state is RegistrationState.WAITING
            assert status.error is not None
            assert "'api' is not registered" in tide.status().sentence
            await anyio.sleep(300)
            heal(store)
            await here.wait_registered()
            assert published(store) == [here.endpoint]
            # It never was there before.
            assert here.status.comebacks == 0


async def test_entering_is_bounded_when_members_are_silent() -> None:
    """As long as nobody knows what is the matter, entering waits for `start_timeout`, and no longer."""
    store = MemoryStore()
    async with connected(store, start_timeout=0.7) as tide:
        store.frozen = set(store.members)
        began = anyio.current_time()
        async with tide.register("api", URL) as here:
            assert anyio.current_time() - began == pytest.approx(0.7)
            assert not here.registered
        assert anyio.current_time() - began < 8


async def test_many_come_back_spread_over_the_spread() -> None:
    """60 registrations after a rebuild: the first and the last are 2 s or more apart, and none takes over 4 s."""
    store = MemoryStore(1)
    async with connected(store) as tide:
        for n in range(60):
            tide._parts.registrations.start(tideover.Registration("api", f"http://10.0.0.7:{8000 + n}"))
        await back_within(store, 5, count=60)
        lose_all(store)
        await anyio.sleep(8)
        store.rebuild({})
        heal(store)
        began = anyio.current_time()
        found: list[float] = []
        while len(found) < 60:
            await anyio.sleep(0.01)
            found += [anyio.current_time() - began] * (len(published(store)) - len(found))
            assert anyio.current_time() - began < 10
        assert found[-1] - found[0] >= 2.0
        assert found[-1] <= SPREAD + 1.5


# Other histories ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leased", [False, True])
async def test_a_key_from_a_backup_is_not_mistaken_for_the_own(leased: bool) -> None:
    """The own key is there from a backup, under no lease or under another one: another incarnation takes its
    place, and the old key is gone a ttl later."""
    store = MemoryStore()
    async with connected(store) as tide, tide.register("api", URL) as here:
        old = here.endpoint
        lose_all(store)
        await anyio.sleep(60)
        store.rebuild({})
        if leased:
            store._leases.grant(4711, 15, anyio.current_time())
        store._apply([Put(f"/{old.key}".encode(), old.encode(), 4711 if leased else 0)], store.members[0])
        heal(store)
        await anyio.sleep(SPREAD + 3)
        newest = published(store)[-1]
        assert newest == here.endpoint
        assert newest.incarnation != old.incarnation
        assert newest.instance == old.instance
        assert here.registered
        await anyio.sleep(20)
        assert published(store) == [newest]
    assert published(store) == []


async def test_a_key_that_was_overwritten_by_hand_is_taken_back() -> None:
    """`etcdctl put` takes a key from under its lease, so that it would outlive its process: within a minute it is
    replaced by one that does not."""
    store = MemoryStore()
    async with connected(store) as tide, tide.register("api", URL) as here:
        old = here.endpoint
        store._apply([Put(f"/{old.key}".encode(), Endpoint("http://evil:1").encode())], store.members[0])
        store.touch()
        await anyio.sleep(61)
        assert published(store) == [here.endpoint]
        assert here.endpoint.url == URL
        assert here.registered
    assert published(store) == []


async def test_a_key_whose_end_nobody_has_told_is_missed_within_a_minute() -> None:
    """Where watches have died unnoticed, the look at the key finds that it is gone."""
    store = MemoryStore()
    async with connected(store) as tide, tide.register("api", URL) as here:
        full = f"/{here.endpoint.key}".encode()
        # As if the deletion had never been delivered.
        del store._newest[full]
        await anyio.sleep(61)
        assert published(store) == [here.endpoint]


async def test_the_exit_of_an_old_process_leaves_its_successor_alone() -> None:
    """Two processes register the same instance; the older one leaves, and the newer one's endpoint stays."""
    store = MemoryStore()
    async with connected(store) as one, connected(store) as two:
        old = one._parts.registrations.start(tideover.Registration("api", URL))
        await old.wait_registered()
        async with two.register("api", URL) as new:
            assert published(store) == [old.endpoint, new.endpoint]
            await old.deregister()
            assert published(store) == [new.endpoint]
            await anyio.sleep(60)
            assert published(store) == [new.endpoint]


async def test_the_last_word_may_not_be_heard() -> None:
    """An etcd that hangs at the very moment delays leaving by 2.5 s at the most; one known to be away by 2 s."""
    for known in (False, True):
        store = MemoryStore()
        async with connected(store) as tide, tide.register("api", URL) as here:
            store.frozen = set(store.members)
            store.touch()
            if known:
                await anyio.sleep(20)
            began = anyio.current_time()
            await here.deregister()
            assert anyio.current_time() - began <= (2.01 if known else 2.51)


async def test_giving_one_up_leaves_the_others_and_locks_alone() -> None:
    """Two registrations share a lease, which is not the locks': the end of one deletes its key, and no other."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with tide.register("web", URL) as other, tide.lock("a") as held:
            async with tide.register("api", URL):
                assert len(store.leases) == 2
                created = other._publisher.own
            assert published(store) == []
            assert len(store.leases) == 2
            await anyio.sleep(30)
            held.check()
            assert other.registered
            assert other._publisher.own is created


# Refusals -------------------------------------------------------------------------------------------------------


async def test_a_refusal_is_told_and_tried_again_slowly(caplog: pytest.LogCaptureFixture) -> None:
    """Without rights: entering does not raise, status says why, one line in the log, a try every 4 to 5 s, and it
    is registered once the rights are there."""
    store = FaultyStore(MemoryStore())
    store.inject("PERMISSION_DENIED", "etcdserver: permission denied", times=9, when=is_put_of(b"/services/"))  # type: ignore[arg-type]
    caplog.set_level(logging.INFO, "tideover")
    async with connected(store) as tide:
        began = anyio.current_time()
        async with tide.register("api", URL) as here:
            assert anyio.current_time() - began < 0.1
            assert here.status.state is RegistrationState.REFUSED
            assert "permission denied" in (here.status.error or "").lower()
            await here.wait_registered()
            assert 9 * 4 <= anyio.current_time() - began <= 9 * 5 + 1
            assert len([r for r in caplog.records if "refused" in r.message]) == 1
            assert here.status.error is None


async def test_no_lease_to_be_had_is_a_refusal_too() -> None:
    """A full etcd refuses the grant: said so, and registered when there is room again."""
    store = MemoryStore()
    store.alarms = {"NOSPACE"}
    async with connected(store) as tide, tide.register("api", URL) as here:
        assert here.status.state is RegistrationState.REFUSED
        await anyio.sleep(60)
        assert published(store) == []
        store.alarms = set()
        await back_within(store, 5.5)


async def test_a_change_that_is_refused_does_not_cost_the_registration() -> None:
    """Rights that were taken away do not take the endpoint out of etcd; the change is made when they are back."""
    store = FaultyStore(memory := MemoryStore())
    async with connected(store) as tide, tide.register("api", URL) as here:
        store.inject("PERMISSION_DENIED", "etcdserver: permission denied", times=3, when=is_put_of(b"/services/"))  # type: ignore[arg-type]
        assert await here.update(weight=0) is False
        assert [found.weight for found in published(memory)] == [1.0]
        assert here.registered
        assert here.status.error is not None
        await anyio.sleep(20)
        assert [found.weight for found in published(memory)] == [0.0]
        assert here.status.error is None


async def test_a_lost_reply_makes_no_second_endpoint() -> None:
    """Grant and puts are applied and their replies lost: there is one endpoint in the end, and one lease."""
    for op in (LeaseGrant, Txn):
        store = FaultyStore(memory := MemoryStore())
        async with connected(store) as tide:
            store.inject("UNAVAILABLE", "Stream removed (Socket closed)", times=2, op=op, applied=True)
            async with tide.register("api", URL) as here:
                await here.wait_registered()
                await anyio.sleep(30)
                assert published(memory) == [here.endpoint]
                assert len(memory.leases) == 1
        assert not memory.leases


async def test_an_unexpected_error_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in our own code costs a moment, not the registration."""
    store = MemoryStore()
    real, failing = bulk.not_as_written, [True]

    async def fails(*args: Any) -> Any:
        if failing:
            failing.clear()
            raise ZeroDivisionError
        return await real(*args)

    monkeypatch.setattr(keeper, "not_as_written", fails)
    async with connected(store) as tide, tide.register("api", URL) as here:
        await anyio.sleep(180)
        assert not failing
        assert tide.status().restarts == 1
        assert here.registered
        assert published(store) == [here.endpoint]


# Changes --------------------------------------------------------------------------------------------------------


async def test_weight_and_metadata_can_be_changed() -> None:
    """`update` returns when etcd has it: the same key under the same lease, with the new content."""
    store = MemoryStore()
    async with connected(store) as tide, tide.register("api", URL, metadata={"zone": "a"}) as here:
        key, leases = here.endpoint.key, store.leases
        assert await here.update(weight=0)
        (found,) = published(store)
        assert (found.weight, found.metadata, found.key) == (0.0, {"zone": "a"}, key)
        assert await here.update(metadata={"zone": "b"})
        (found,) = published(store)
        assert (found.weight, found.metadata) == (0.0, {"zone": "b"})
        assert store.leases == leases
        assert here.status.comebacks == 0
        with pytest.raises(ValueError, match="weight"):
            await here.update(weight=-1)
        with pytest.raises(ValueError, match="65536 bytes"):
            await here.update(metadata={"a": "x" * 70_000})
        assert published(store) == [found]


async def test_a_change_in_an_outage_is_made_afterwards() -> None:
    """In an outage `update` says after 2 s that etcd does not have it; when etcd is back it gets it."""
    store = MemoryStore()
    async with connected(store) as tide, tide.register("api", URL) as here:
        lose_all(store)
        await anyio.sleep(60)
        began = anyio.current_time()
        assert await here.update(weight=0) is False
        assert anyio.current_time() - began == pytest.approx(2)
        heal(store)
        await anyio.sleep(SPREAD + 2)
        assert [found.weight for found in published(store)] == [0.0]


# Leaving --------------------------------------------------------------------------------------------------------


async def test_leaving_in_an_outage_is_bounded() -> None:
    """With etcd away the block is left within 5 s, and the key goes when its lease ends after the outage."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with tide.register("api", URL, ttl=5):
            lose_all(store)
            await anyio.sleep(60)
            began = anyio.current_time()
        assert anyio.current_time() - began <= 5
        heal(store)
        await anyio.sleep(7)
        assert published(store) == []


async def test_closing_the_coordinator_takes_all_out() -> None:
    """What the middleware began is gone when the coordinator is closed, in milliseconds; its handle says so."""
    store = MemoryStore()
    async with connected(store) as tide:
        handle = tide._parts.registrations.start(tideover.Registration("api", URL))
        await handle.wait_registered()
        began = anyio.current_time()
    assert anyio.current_time() - began < 0.1
    assert published(store) == []
    for use in (handle.wait_registered, lambda: handle.update(weight=0)):
        with pytest.raises(Closed, match="the coordinator is closed"):
            await use()
    with pytest.raises(Closed):
        tide._parts.registrations.start(tideover.Registration("api", URL))


async def test_a_block_is_entered_once() -> None:
    """A second entry of the same block is refused, and so is one before the coordinator is open."""
    store = MemoryStore()
    async with connected(store) as tide:
        block = tide.register("api", URL)
        async with block:
            pass
        with pytest.raises(Closed, match="only once"):
            await block.__aenter__()
    late = tide.register("api", URL)
    with pytest.raises(Closed, match="closed"):
        await late.__aenter__()


async def test_cancelled_at_every_await_it_leaves_nothing() -> None:
    """Wherever entering, the body or leaving is cancelled, no key and no lease stay."""
    store = MemoryStore()
    store.delay = 0.001
    async with connected(store) as tide:

        async def run() -> None:
            async with tide.register("api", URL) as here:
                await here.update(weight=2)

        async def after(place: int) -> None:
            await anyio.sleep(1)
            assert published(store) == [], place
            assert not store.leases, place
            assert tide.status().registrations == ()
            assert tide.status().sessions == ()

        assert await cancelled_at_every_await(run, after) > 3


async def test_left_at_any_moment_it_leaves_nothing() -> None:
    """Wherever its background task is when the block is left, no key and no lease stay."""
    store = MemoryStore()
    store.delay = 0.01
    async with connected(store, start_timeout=0.001) as tide:
        for step in range(40):
            async with tide.register("api", URL):
                await anyio.sleep(0.001 * step)
            await anyio.sleep(0.5)
            assert published(store) == [], step
            assert not store.leases, step


async def test_closed_at_any_moment_it_leaves_nothing() -> None:
    """Wherever its background task is when block and coordinator are left at once, no key and no lease stay."""
    for step in range(40):
        store = MemoryStore()
        store.delay = 0.01
        async with connected(store, start_timeout=0.001) as tide, tide.register("api", URL):
            await anyio.sleep(0.002 * step)
        assert published(store) == [], step
        assert not store.leases, step


async def test_cancelled_as_a_whole_it_leaves_nothing() -> None:
    """Ctrl-C at whichever await of connecting, registering, the body or leaving: no key and no lease stay."""
    stores: list[MemoryStore] = []

    async def run() -> None:
        stores.append(MemoryStore())
        stores[-1].delay = 0.001
        async with connected(stores[-1], start_timeout=0.01) as tide, tide.register("api", URL) as here:
            await here.update(weight=2)

    async def after(place: int) -> None:
        assert published(stores[-1]) == [], place
        assert not stores[-1].leases, place

    assert await cancelled_at_every_await(run, after) > 5


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_forked_child_is_told() -> None:
    """In a forked child every use of the handle raises `Closed`, showing it does not, and the parent goes on."""
    store = MemoryStore()
    async with connected(store) as tide, tide.register("api", URL) as here:
        here._poison = lambda: "this process was forked"  # what Coordinator.poison leads to
        with pytest.raises(Closed, match="forked"):
            _ = here.registered
        with pytest.raises(Closed, match="forked"):
            await here.update(weight=0)
        assert "another process" in repr(here)
        assert here.status.service == "api"
        here._poison = lambda: None
        assert here.registered
        assert os.getpid() == tide.status().pid


async def test_outages_at_random_never_lose_it() -> None:
    """A quarter of an hour of random trouble (away, rebuilt, lease revoked, key deleted, silent): each time all is
    well for 20 s, exactly this endpoint is there."""
    chance = random.Random(5)
    store = MemoryStore()
    async with connected(store) as tide, tide.register("api", URL, ttl=5) as here:
        for turn in range(12):
            trouble = chance.randrange(6)
            if trouble == 0:
                lose_all(store)
            elif trouble == 1:
                store.frozen = set(store.members)
                store.touch()
            elif trouble == 2:
                store.electing = True
                store.touch()
            elif trouble == 3:
                for lease in store.leases:
                    store.revoke(lease)
            elif trouble == 4:
                for endpoint in published(store):
                    store._apply([Delete(f"/{endpoint.key}".encode())], store.members[0])
                store.touch()
            else:
                lose_all(store)
                store.rebuild({}, revision=chance.randrange(1, 1000))
            await anyio.sleep(chance.choice([0.1, 1, 5, 60, 120]))
            heal(store)
            await anyio.sleep(20)
            assert published(store) == [here.endpoint], (turn, trouble)
            assert here.registered, (turn, trouble)


async def test_a_forked_child_is_shown_what_it_does_not_own() -> None:
    """In a forked child, whose sessions refuse everything, the status says so, and raises nothing."""
    async with connected(MemoryStore()) as tide, tide.register("api", URL) as here:
        (session,) = tide._parts.sessions
        session.poison("this process was forked")
        assert here.status.state is RegistrationState.UNCONFIRMED
        assert here.status.error == "this process was forked"
        session._poison = None
        assert here.registered
