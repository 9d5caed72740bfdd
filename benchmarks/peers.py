"""The libraries compared with: the only place that imports them, when a row asks.

They come with the dependency group `bench`; listing and testing the rows must not need them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

Function = Callable[..., Any]


def ttl_cache(key: str, value: object) -> Any:
    """Return a `cachetools.TTLCache` that holds a value."""
    cache = import_module("cachetools").TTLCache(maxsize=1024, ttl=3600)
    cache[key] = value
    return cache


async def cashews_cache(key: str, value: object) -> Any:
    """Return a `cashews` cache in memory that holds a value."""
    cache = import_module("cashews").Cache()
    cache.setup("mem://")
    await cache.set(key, value, expire="1h")
    return cache


async def aiocache_cache(key: str, value: object) -> Any:
    """Return an `aiocache.SimpleMemoryCache` that holds a value."""
    cache = import_module("aiocache").SimpleMemoryCache(ttl=3600)
    await cache.set(key, value)
    return cache


async def cashews_cached(function: Callable[..., Awaitable[Any]]) -> Function:
    """Return a coroutine function behind cashews' caching decorator, its answer cached."""
    cache = import_module("cashews").Cache()
    cache.setup("mem://")
    cached: Function = cache(ttl="1h", key="benchmark")(function)
    await cached()
    return cached


def stamina_retried(function: Function) -> Function:
    """Return a function, of either kind, behind `stamina.retry`."""
    retried: Function = import_module("stamina").retry(on=ConnectionError)(function)
    return retried


def circuit_broken(function: Function) -> Function:
    """Return a function, of either kind, behind the decorator of `circuitbreaker`."""
    broken: Function = import_module("circuitbreaker").circuit(function)
    return broken


@asynccontextmanager
async def aetcd_client(endpoint: str) -> AsyncIterator[Any]:
    """Open an `aetcd.Client`."""
    host, _, port = endpoint.rpartition(":")
    async with import_module("aetcd").Client(host=host, port=int(port)) as client:
        yield client


def record_spans() -> None:
    """Let the OpenTelemetry SDK record every span of this process, and keep none."""
    provider = import_module("opentelemetry.sdk.trace").TracerProvider()
    import_module("opentelemetry.trace").set_tracer_provider(provider)


def sdk_installed() -> bool:
    """Whether the OpenTelemetry SDK is there, without which nothing is recorded."""
    return find_spec("opentelemetry.sdk") is not None


def uvloop_installed() -> bool:
    """Whether uvloop is there, which does not run everywhere."""
    return find_spec("uvloop") is not None


def records_spans() -> bool:
    """Whether the OpenTelemetry SDK records the spans of this process."""
    if not sdk_installed():
        return False
    provider = import_module("opentelemetry.trace").get_tracer_provider()
    return isinstance(provider, import_module("opentelemetry.sdk.trace").TracerProvider)


def openfeature_api() -> Any:
    """Return OpenFeature's module-level API."""
    return import_module("openfeature.api")


def constant_flags() -> Any:
    """Return a provider for OpenFeature that knows one value for every flag."""
    evaluation, provider = import_module("openfeature.flag_evaluation"), import_module("openfeature.provider")

    def resolve(self: Any, flag_key: str, default_value: object, evaluation_context: object = None) -> Any:
        return evaluation.FlagResolutionDetails(True, reason=evaluation.Reason.STATIC)

    metadata = provider.Metadata("constant")
    kinds = ("boolean", "string", "integer", "float", "object")
    members = {f"resolve_{kind}_details": resolve for kind in kinds}
    return type("Constant", (provider.AbstractProvider,), {**members, "get_metadata": lambda _: metadata})()
