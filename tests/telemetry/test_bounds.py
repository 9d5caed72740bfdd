"""Text of others without bound: a megabyte wherever others can write makes no line, error or record large.

What others write is put under every key that is read, into a store's errors, members' names and snapshots; their
names come back into lines, errors, spans, events and the status.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import connected
from tests.telemetry.recording import Recorded, lose, put, recover
from tests.test_status import REPORT
from tideover import ConfigKeyError, HealthState, InvalidValue, PermissionDenied, Registration, TideoverError
from tideover.coordinator.coordinator import Coordinator
from tideover.discovery.endpoint import Endpoint, decode
from tideover.elections.record_document import RecordDocument
from tideover.fencing.token import Fence
from tideover.holders import Holder
from tideover.shown import LONGEST_LINE
from tideover.status import LONGEST, MOST, RejectedValue
from tideover.store.faults import StoreFault, classify
from tideover.store.operations import Op, Result
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio

# Key and value together are what etcd just takes.
HUGE = "\x1b[31m" + "x" * 700_000
LONG = HUGE[:200_000]
RAW = HUGE.encode()
# Characters: of a log line with the event's name, of the status, and of an attribute.
LINE, STATUS, ATTRIBUTE = 1100, 100_000, 500


def texts(value: object) -> list[str]:
    """Return all texts in a value."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for each in pair for text in texts(each)]
    return [text for each in value for text in texts(each)] if isinstance(value, list | tuple) else []


def check_error(error: BaseException) -> None:
    """See that an error's text is one line with a bound."""
    assert str(error).isprintable()
    assert len(str(error)) <= LONGEST_LINE + 200


def check_status(tide: Coordinator) -> None:
    """See that the status is bounded, as attributes and as JSON."""
    report = tide.status()
    assert len(json.dumps(report.to_dict())) < STATUS
    assert all(len(text) <= LONGEST or text == report.sentence for text in texts(report.to_dict()))
    assert len(report.sentence) <= 4000
    assert len(repr(tide)) < LINE


def check_recorded(caplog: pytest.LogCaptureFixture, recorded: Recorded) -> None:
    """See that every line is one, and that no attribute of a span or an event is long."""
    lines = [record for record in caplog.records if record.name == "tideover"]
    for record in lines:
        assert len(record.getMessage()) <= LINE
        assert record.getMessage().isprintable()
    for name, attributes, body in recorded.events():
        assert max(map(len, [name, *texts(dict(attributes))])) <= ATTRIBUTE
        assert len(body) <= LINE
    for span in recorded.spans():
        assert max([0, *map(len, texts(dict(span.attributes or {})))]) <= ATTRIBUTE
        assert (
            max([0, *(len(t) for e in span.events for t in texts(dict(e.attributes or {})) if "\n" not in t)])
            <= LINE
        )


@asynccontextmanager
async def beside_harm(store: MemoryStore, **options: Any) -> AsyncIterator[Coordinator]:
    """Run a coordinator on a store in which others have written a megabyte under every key that is read."""
    document = RecordDocument(LONG, 1, "step_down", 15.0, LONG, address=LONG, value=LONG, candidates=(LONG,))
    reached = Endpoint(f"http://a/{LONG}", metadata={LONG: LONG}, process=LONG)
    for key, value in {
        f"config/{HUGE}": RAW,
        "config/rate": RAW,
        "services/api/1/x": RAW,
        "services/api/2/x": reached.encode(),
        f"services/api/{HUGE}/x": reached.encode(),
        f"services/{HUGE}/1/x": RAW,
        "elections/other": document.encode(),
        "elections/held": document.encode(),
        "elections/corrupt": RAW,
        f"elections/{HUGE}": RAW,
        "locks/orders/1": Holder(LONG, LONG).encode(),
        f"locks/orders/{HUGE}": RAW,
        "tideover/epoch": RAW,
        f"tideover/ledger/{HUGE}": RAW,
        f"tideover/sessions/{HUGE}": RAW,
    }.items():
        await put(store, f"/shop/{key}", value)
    async with connected(store, namespace="/shop", record_keys=True, **options) as tide:
        yield tide


async def raised(call: Callable[[], Awaitable[object]], *kinds: type[Exception]) -> None:
    """See that a call raises, and that the error's text is bounded."""
    with pytest.raises(kinds or TideoverError) as caught:
        await call()
    check_error(caught.value)


async def test_what_others_have_written_stays_short(caplog: pytest.LogCaptureFixture, recorded: Recorded) -> None:
    """Keys, values, holders, records, registrations, ledger of a megabyte: everything said is bounded."""
    caplog.set_level(logging.DEBUG, "tideover")
    store = MemoryStore()
    async with beside_harm(store, discover=["api"]) as tide:
        with suppress(TideoverError):
            tide.config.get("rate", int)
        with suppress(TideoverError):
            tide.config.get(HUGE, int)
        with pytest.raises(TideoverError) as refused:
            tide.config.get("rate", bool)
        check_error(refused.value)
        await raised(lambda: _enter(tide.lock("orders", timeout=0.1)))
        await raised(lambda: _enter(tide.leader("corrupt")))
        with anyio.move_on_after(1):
            await _enter(tide.leader("held"))
        await raised(lambda: tide.config.fetch(HUGE, int), ConfigKeyError, TideoverError)
        with suppress(TideoverError):
            await tide.lock_conflicts()
        for value in await tide.foreign_values():
            assert len(value.key) <= LONGEST
            assert len(value.reason) <= LONGEST
        assert len(tide.discover("api").endpoints) == 2
        check_status(tide)
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        check_status(tide)
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(40)
        check_status(tide)
    assert len(caplog.records) > 5
    check_recorded(caplog, recorded)


async def _enter(block: Any) -> None:
    async with block:
        pass


async def test_names_that_a_caller_was_given_stay_short(
    caplog: pytest.LogCaptureFixture, recorded: Recorded
) -> None:
    """A name from a request, of a lock, an election, a key, a service, is cut wherever it comes back."""
    caplog.set_level(logging.DEBUG, "tideover")
    store = MemoryStore()
    async with connected(store, namespace="/shop", record_keys=True) as tide:
        with pytest.raises(TideoverError) as absent:
            tide.config.get(HUGE)
        check_error(absent.value)
        for wrong in (HUGE + "\0", f"/{HUGE}", HUGE + "\ud800", ""):
            for call in (tide.config.get, tide.lock, tide.leader, tide.discover):
                try:
                    call(wrong)
                except (ValueError, TideoverError) as exc:
                    check_error(exc)
        for url in (
            f"http://{HUGE}",
            f"http://{'x' * 2**20}",
            f"http://a:{'1' * 2**20}",
            f"{'x' * 2**20}://a",
            HUGE,
        ):
            with pytest.raises(ValueError) as unfit:
                Registration("api", url)
            check_error(unfit.value)
        with pytest.raises(ValueError) as field:
            Fence.from_field(HUGE)
        check_error(field.value)
        async with tide.lock(HUGE, timeout=1):
            check_status(tide)
            await raised(lambda: _enter(tide.lock(HUGE, timeout=0)))
        async with tide.leader(HUGE):
            check_status(tide)
        async with tide.session() as session:
            await session.put(HUGE, RAW)
            check_status(tide)
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        await raised(lambda: _enter(tide.lock(HUGE)))
        await raised(lambda: tide.config.put(HUGE, 1))
    check_recorded(caplog, recorded)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "PERMISSION_DENIED"])
async def test_what_a_server_says_stays_short(
    code: str, caplog: pytest.LogCaptureFixture, recorded: Recorded
) -> None:
    """The details of an error, from etcd or from what stands before it, are cut wherever they are repeated."""
    caplog.set_level(logging.DEBUG, "tideover")
    store = FaultyStore(MemoryStore())

    def every(op: Op[Result]) -> bool:
        return True

    async with connected(store, namespace="/shop", record_keys=True) as tide:
        store.inject(code, f"etcdserver: permission denied {HUGE}", times=10**6, when=every)
        with suppress(TideoverError, TimeoutError):
            await tide.config.put("rate", 1, timeout=2)
        with pytest.raises(TideoverError) as refused:
            await tide.config.fetch("rate", int, timeout=2)
        check_error(refused.value)
        await anyio.sleep(20)
        check_status(tide)
    check_error(StoreFault(classify(code, HUGE)))
    check_recorded(caplog, recorded)


def test_a_list_that_others_can_make_longer_says_how_much_is_left_out() -> None:
    """The status has 100 refused values, and how many more there are; lists of words end in that."""
    found = replace(REPORT, rejected=tuple(RejectedValue(f"k{n}", n, HUGE) for n in range(1000)))
    assert (len(found.rejected), found.more) == (MOST, {"rejected": 900})
    assert len(json.dumps(found.to_dict())) < STATUS
    assert found.to_dict()["more"] == {"rejected": 900}


@given(st.text(st.characters(exclude_categories=())) | st.just(HUGE))
def test_every_error_is_one_line(text: str) -> None:
    """Whatever is put into an error of ours, its text is one printable line, and not long."""
    for error in (TideoverError(text), PermissionDenied(text), ConfigKeyError("k", text), InvalidValue(text)):
        assert str(error).isprintable()
        assert len(str(error)) <= LONGEST_LINE


@pytest.mark.parametrize("raw", [RAW, b'{"needs": 1, "url": ' + json.dumps(HUGE).encode() + b', "weight": []}'])
def test_a_refused_registration_is_quoted_in_part(raw: bytes) -> None:
    """What is said of a registration of no use has its first characters, escaped."""
    with pytest.raises(ValueError) as refused:
        decode(f"services/api/{HUGE}/x", raw)
    assert len(str(refused.value)) < 600
    assert str(refused.value).isprintable()
