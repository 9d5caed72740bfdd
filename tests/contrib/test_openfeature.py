"""Flags by OpenFeature's client: what is answered, and what section 2 of its specification asks of a provider."""

from __future__ import annotations

import json
import threading
from typing import Any

import anyio
import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagEvaluationOptions, Reason
from openfeature.hook import Hook, HookContext, HookHints
from openfeature.provider import ProviderStatus
from openfeature.telemetry import EvaluationEvent, TelemetryAttribute, create_evaluation_event
from openfeature.track import TrackingEventDetails

from tests.asgi.support import lose, store_with
from tests.canaries import canary
from tests.contrib.flag_support import CHANGED, Heard, flagged, openfeature_afterwards, until
from tests.support import connected, mock_trio, request
from tideover import HealthState, InvalidRequest, NotFollowed, StalenessLimit
from tideover.contrib.openfeature import TideoverProvider
from tideover.testing import MemoryStore, overriding

__all__ = ["openfeature_afterwards"]

pytestmark = pytest.mark.anyio

ON = json.dumps({"variants": {"on": True, "off": False}, "default": "on"})


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()


def details(client: OpenFeatureClient, kind: str, key: str, default: Any) -> FlagEvaluationDetails[Any]:
    """Evaluate a flag of any type."""
    found: FlagEvaluationDetails[Any] = getattr(client, f"get_{kind}_details")(key, default)
    return found


# What is answered ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "written", "default", "expected"),
    [
        ("boolean", "true", False, True),
        ("string", '"blue"', "", "blue"),
        ("integer", "7", 0, 7),
        ("integer", "1.0", 0, 1),
        ("float", "2.5", 0.0, 2.5),
        ("float", "1", 0.0, 1.0),
        ("object", '{"a": [1, null]}', {}, {"a": [1, None]}),
        ("object", "[1, 2]", [], [1, 2]),
    ],
)
async def test_values_of_each_type(kind: str, written: str, default: object, expected: object) -> None:
    """Requirements 2.2.1, 2.2.2.1, 2.2.3, 2.2.6, 2.3.2: a value of the type asked for, and no error beside it."""
    async with flagged(a=written) as (_, client):
        found = details(client, kind, "a", default)
        assert (found.value, type(found.value)) == (expected, type(expected))
        assert (found.reason, found.error_code, found.error_message) == (Reason.STATIC, None, None)


async def test_a_variant_is_named() -> None:
    """Requirement 2.2.4: a value that has a name comes with it; plain JSON has none."""
    async with flagged(a=ON, b="true") as (_, client):
        assert details(client, "boolean", "a", False).variant == "on"
        assert details(client, "boolean", "b", False).variant is None


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ('{"variants": {"on": true}, "default": "on", "disabled": true}', Reason.DISABLED),
        ('{"variants": {"on": true}}', Reason.DEFAULT),
    ],
)
async def test_a_flag_that_is_left_to_the_caller(written: str, reason: Reason) -> None:
    """Requirement 2.2.5: the caller's default is no error, and its reason is DISABLED or DEFAULT."""
    async with flagged(a=written) as (_, client):
        for default in (True, False):
            found = details(client, "boolean", "a", default)
            assert (found.value, found.reason, found.error_code) == (default, reason, None)
            assert found.flag_metadata["tideover.source"] == "live"


@pytest.mark.parametrize(
    ("kind", "written", "default", "code"),
    [
        ("boolean", "1", True, ErrorCode.TYPE_MISMATCH),
        ("integer", "true", 3, ErrorCode.TYPE_MISMATCH),
        ("float", "true", 3.0, ErrorCode.TYPE_MISMATCH),
        ("string", "null", "x", ErrorCode.TYPE_MISMATCH),
        ("object", '"text"', {"a": 1}, ErrorCode.TYPE_MISMATCH),
        ("boolean", "yes", True, ErrorCode.PARSE_ERROR),
        ("string", '{"variants": {"a": "b"}, "default": "c"}', "x", ErrorCode.PARSE_ERROR),
        ("object", '{"variants": 1}', {}, ErrorCode.PARSE_ERROR),
        ("string", None, "x", ErrorCode.FLAG_NOT_FOUND),
    ],
)
async def test_errors_have_codes(kind: str, written: str | None, default: object, code: ErrorCode) -> None:
    """Requirements 2.2.7, 2.3.3: what cannot be answered is an error with a code, a text and the default."""
    store = MemoryStore() if written is None else await store_with(flags__a=written)
    async with flagged(store=store) as (_, client):
        found = details(client, kind, "a", default)
        assert (found.value, found.reason, found.error_code) == (default, Reason.ERROR, code)
        assert found.error_message


async def test_no_error_shows_a_value() -> None:
    """A secret under a flag's key stands in no error and no log, whatever it is asked for as."""
    secret = canary("flag")
    async with flagged(a=json.dumps(secret), b=secret, c=json.dumps({"variants": secret})) as (_, client):
        for key in "abc":
            for kind in ("boolean", "integer", "float", "object"):
                found = details(client, kind, key, None)
                assert found.error_code in (ErrorCode.TYPE_MISMATCH, ErrorCode.PARSE_ERROR)
                assert secret not in repr(found)


async def test_what_is_no_flag_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The line names the key and the revision; the next such value is another line."""
    async with flagged(a="on") as (tide, client):
        for _ in range(3):
            details(client, "boolean", "a", False)
        (line,) = [r.getMessage() for r in caplog.records if "config.rejected" in r.getMessage()]
        assert "'flags/a' at revision 2: no flag: it is not JSON" in line
        await tide.config.put("flags/a", True)
        assert client.get_boolean_value("a", False) is True


@pytest.mark.parametrize(
    "key", ["", "/", "/a", "../a", "a/../a", "a\0", "\x1b[2J", "\ud800", "x" * 100_000, "A", "a/"]
)
async def test_hostile_keys_are_not_found(key: str) -> None:
    """Whatever stands in a flag's key, it is looked for below the prefix only, and no error repeats all of it."""
    store = await store_with(flags__a="true", flags__="true", a="true")
    async with flagged(store=store) as (_, client):
        found = details(client, "boolean", key, False)
        assert (found.value, found.error_code) == (False, ErrorCode.FLAG_NOT_FOUND)
        assert len(found.error_message or "") < 300
        assert (found.error_message or "").isprintable()


@pytest.mark.parametrize("key", [None, 7, b"a", ["a"]])
async def test_keys_that_are_no_strings_are_not_found(key: Any) -> None:
    """The SDK does not check what its caller's types say."""
    async with flagged(a="true") as (_, client):
        assert client.get_boolean_details(key, False).error_code is ErrorCode.FLAG_NOT_FOUND


async def test_keys_may_have_slashes() -> None:
    """A flag `checkout/new` is the key `flags/checkout/new`."""
    async with flagged(checkout__new="true") as (_, client):
        assert client.get_boolean_value("checkout/new", False) is True


async def test_a_change_is_seen_with_its_revision() -> None:
    """What was put is evaluated as soon as the configuration shows it, and what was deleted is not found."""
    async with flagged(a="1") as (tide, client):
        assert client.get_integer_value("a", 0) == 1
        written = await tide.config.put("flags/a", 2)
        found = details(client, "integer", "a", 0)
        assert (found.value, found.flag_metadata["version"]) == (2, str(written.revision))
        await tide.config.delete("flags/a")
        assert details(client, "integer", "a", 0).error_code is ErrorCode.FLAG_NOT_FOUND
        assert isinstance(client.provider, TideoverProvider)
        assert client.provider._known == {}, "nothing is kept of what is gone"


# Metadata --------------------------------------------------------------------------------------------------------


async def test_metadata_says_where_a_value_comes_from() -> None:
    """Requirements 2.2.9, 2.2.10, 1.4.14: revision, source, age and namespace, as strings and numbers."""
    store = MemoryStore()
    async with connected(store, namespace="/shop") as tide:
        await tide.config.put("flags/a", True)
        await tide.config.put("flags/b", True)
        api.set_provider_and_wait(TideoverProvider(tide))
        await anyio.sleep(1)
        reading = tide.config.read("flags/a", bytes)
        metadata = dict(api.get_client().get_boolean_details("a", False).flag_metadata)
        assert metadata == {
            "version": str(reading.revision),
            "tideover.source": "live",
            "tideover.age": reading.age,
            "flagSetId": "/shop",
        }


async def test_degraded_values_are_stale() -> None:
    """In an outage the last known value comes with the reason STALE, its variant, its source and its age."""
    store = await store_with(flags__a=ON)
    async with flagged(store=store) as (tide, client):
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        await anyio.sleep(100)
        with request() as record:
            found = details(client, "boolean", "a", False)
        assert (found.value, found.variant, found.reason, found.error_code) == (True, "on", Reason.STALE, None)
        assert found.flag_metadata["tideover.source"] == "memory"
        assert isinstance(age := found.flag_metadata["tideover.age"], float)
        assert age >= 100
        assert "config" in record.marks, "the request is marked as degraded"


async def test_an_unknown_age_is_left_out() -> None:
    """Metadata has numbers only, and infinity is none for whoever writes JSON."""
    store = await store_with(flags__a="true")
    async with flagged(store=store) as (tide, client):
        (view,) = tide.config.views_under("flags/")
        view.freshness = type(view.freshness)(reached=view.freshness.reached)
        found = details(client, "boolean", "a", False)
        assert (found.value, found.reason) == (True, Reason.STALE)
        assert "tideover.age" not in found.flag_metadata


@pytest.mark.parametrize(
    ("on_stale", "reason", "code"),
    [("serve", Reason.STALE, None), ("default", Reason.DEFAULT, None), ("raise", Reason.ERROR, ErrorCode.GENERAL)],
)
async def test_limits_hold_for_flags(on_stale: Any, reason: Reason, code: ErrorCode | None) -> None:
    """Beyond `max_stale` a flag is served, left to the caller or refused, as the limit of its prefix says."""
    store = await store_with(flags__a="true")
    async with connected(store, limits={"flags/": StalenessLimit(60, on_stale=on_stale)}) as tide:
        api.set_provider_and_wait(TideoverProvider(tide))
        client = api.get_client()
        assert details(client, "boolean", "a", False).reason is Reason.STATIC
        lose(store)
        await anyio.sleep(100)
        found = details(client, "boolean", "a", False)
        assert (found.value, found.reason, found.error_code) == (on_stale == "serve", reason, code)


async def test_a_test_may_lay_a_flag_over_etcds() -> None:
    """What `overriding` says is evaluated, told as a change, and gone with the block."""
    async with flagged(a="false") as (tide, client):
        heard = Heard(client)
        with overriding(tide, {"flags/a": True, "flags/b": {"variants": {"x": "y"}, "default": "x"}}):
            found = details(client, "boolean", "a", False)
            assert (found.value, found.reason) == (True, Reason.STATIC)
            assert found.flag_metadata["tideover.source"] == "override"
            assert details(client, "string", "b", "").variant == "x"
            await until(lambda: CHANGED in heard.events)
        assert client.get_boolean_value("a", True) is False
        assert details(client, "string", "b", "").error_code is ErrorCode.FLAG_NOT_FOUND


# Life ------------------------------------------------------------------------------------------------------------


async def test_the_provider_has_a_name_and_no_hooks() -> None:
    """Requirements 2.1.1, 2.3.1: it identifies the implementation, and brings no hooks of its own."""
    async with flagged() as (tide, client):
        assert client.provider.get_metadata().name == "tideover"
        assert client.provider.get_provider_hooks() == []
        assert repr(client.provider) == f"<TideoverProvider of 'flags/' in {tide!r}>"


async def test_a_context_is_accepted_and_not_looked_at() -> None:
    """Requirements 2.2.1, 2.4.1: nothing is made of who asks; targeting is another provider's."""
    context = EvaluationContext("user-1", {"country": "DE"})
    api.set_evaluation_context(context)
    async with flagged(a="true") as (_, client):
        assert client.get_boolean_value("a", False, context) is True


async def test_the_async_methods_do_the_same() -> None:
    """Each awaits nothing, and gives the same details."""
    async with flagged(a="true", b='"x"', c="1", d="1.5", e="[]") as (_, client):
        for key, kind, default in (
            ("a", "boolean", False),
            ("b", "string", ""),
            ("c", "integer", 0),
            ("d", "float", 0.0),
            ("e", "object", {}),
            ("none", "object", {}),
        ):
            found = await getattr(client, f"get_{kind}_details_async")(key, default)
            assert found == details(client, kind, key, default)


async def test_tracking_events_are_dropped() -> None:
    """Condition 2.7.1: there is nobody to send them to, and nothing fails."""
    async with flagged() as (_, client):
        client.track("bought", EvaluationContext("user-1"), TrackingEventDetails(99.5, {"currency": "EUR"}))


async def test_before_it_is_entered_nothing_is_ready() -> None:
    """Requirement 2.4.2.1: initializing fails, flags cannot be evaluated, and each says why."""
    async with flagged(a="true") as (tide, _):
        pass
    provider = TideoverProvider(tide)
    api.set_provider(provider, "late")
    client = api.get_client("late")
    await until(lambda: client.get_provider_status() is ProviderStatus.ERROR)
    found = client.get_boolean_details("a", True)
    assert (found.value, found.error_code) == (True, ErrorCode.PROVIDER_NOT_READY)
    assert found.error_message == "the coordinator is closed"


async def test_shutting_down_twice_is_shutting_down_once() -> None:
    """Requirements 2.5.1, 2.5.2, 2.5.3: afterwards it is as before it was initialized, and can be again."""
    async with flagged(a="true") as (_, client):
        provider = client.provider
        api.clear_providers()
        provider.shutdown()
        provider.shutdown()
        api.set_provider(provider)
        await until(lambda: client.get_provider_status() is ProviderStatus.READY)
        assert client.get_boolean_value("a", False) is True


async def test_wrong_arguments_are_found_at_once() -> None:
    """Neither at the first evaluation nor by an SDK that swallows errors."""
    async with connected(MemoryStore(), follow=("other/",)) as tide:
        with pytest.raises(NotFollowed, match=r"flags/"):
            TideoverProvider(tide)
        TideoverProvider(tide, prefix="other/flags")
        with pytest.raises(InvalidRequest):
            TideoverProvider(tide, prefix="/other/flags")
        with pytest.raises(TypeError, match=r"coordinator must be"):
            TideoverProvider(tide.config)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"prefix must be"):
            TideoverProvider(tide, prefix=None)  # type: ignore[arg-type]


async def test_a_part_of_the_prefix_may_be_followed() -> None:
    """What is not followed is told apart from what does not exist."""
    store = await store_with(flags__a__x="true", flags__b__x="true")
    async with connected(store, follow=("flags/a/",)) as tide:
        api.set_provider_and_wait(TideoverProvider(tide, prefix="flags"))
        client = api.get_client()
        assert client.get_boolean_value("a/x", False) is True
        assert details(client, "boolean", "b/x", False).error_code is ErrorCode.GENERAL
        assert details(client, "boolean", "a/y", False).error_code is ErrorCode.FLAG_NOT_FOUND


async def test_threads_may_evaluate() -> None:
    """Flags are read in worker threads while they change, always with the value of their revision."""
    async with flagged(a="0") as (tide, client):
        seen: set[tuple[int, str]] = set()
        ended = threading.Event()

        def evaluate() -> None:
            while not ended.is_set():
                found = client.get_integer_details("a", -1)
                seen.add((found.value, str(found.flag_metadata["version"])))

        threads = [threading.Thread(target=evaluate) for _ in range(2)]
        written = {0: str(tide.config.read("flags/a").revision)}
        for thread in threads:
            thread.start()
        try:
            for number in range(1, 20):
                written[number] = str((await tide.config.put("flags/a", number)).revision)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert len(seen) > 1
        assert seen <= set(written.items())


# Telemetry -------------------------------------------------------------------------------------------------------


class Recorder(Hook):
    """OpenFeature's own record of evaluations."""

    def __init__(self) -> None:
        self.events: list[EvaluationEvent[Any]] = []

    def finally_after(
        self, hook_context: HookContext, details: FlagEvaluationDetails[Any], hints: HookHints
    ) -> None:
        """Keep what would be recorded."""
        self.events.append(create_evaluation_event(hook_context, details))


async def test_openfeatures_own_events_have_our_words() -> None:
    """Reasons and codes are those of OpenTelemetry's `feature_flag.evaluation`, sources those of our metrics."""
    store = await store_with(flags__a=ON, flags__b='{"variants": {}, "disabled": true}')
    hook = Recorder()
    async with flagged(store=store, namespace="") as (tide, client):
        options = FlagEvaluationOptions(hooks=[hook])
        for key in ("a", "b", "none"):
            client.get_boolean_details(key, False, None, options)
        live = client.get_boolean_details("a", False).flag_metadata["tideover.source"]
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        memory = client.get_boolean_details("a", False, None, options).flag_metadata["tideover.source"]
        assert {(live, False), (memory, True)} <= set(tide._life.instruments.observe_reads())
    reasons = [event.attributes[TelemetryAttribute.EVALUATION_REASON] for event in hook.events]
    assert reasons == ["static", "disabled", "error", "stale"]
    first, _, missing, _ = hook.events
    assert first.name == "feature_flag.evaluation"
    assert first.attributes == {
        TelemetryAttribute.KEY: "a",
        TelemetryAttribute.EVALUATION_REASON: "static",
        TelemetryAttribute.VARIANT: "on",
        TelemetryAttribute.VERSION: "2",
        TelemetryAttribute.PROVIDER_NAME: "tideover",
    }
    assert not first.body, "what has a variant is recorded without its value"
    assert missing.attributes[TelemetryAttribute.ERROR_TYPE] == "flag_not_found"
