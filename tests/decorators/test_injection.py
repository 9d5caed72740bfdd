"""`@with_config`: configuration as keyword arguments, for whatever kind of function.

Annotations in this module are strings, and `Decimal` exists for type checkers only, as in many an application.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import anyio.lowlevel
import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.background import BackgroundTask

from tests.support import request
from tideover import ConfigKeyError, Coordinator, NotConnected, NotSynced, connect, with_config
from tideover.decorators.injection import Injection
from tideover.store.operations import Put
from tideover.testing import MemoryStore

if TYPE_CHECKING:
    from decimal import Decimal

    Undefined = object

pytestmark = pytest.mark.anyio

P = ParamSpec("P")
R = TypeVar("R")


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, as FastAPI does."""
    return "asyncio"


@asynccontextmanager
async def configured(**values: str) -> AsyncIterator[Coordinator]:
    """Run a coordinator that has configuration."""
    store = MemoryStore()
    for name, value in values.items():
        await store.call(Put(f"/config/{name}".encode(), value.encode()), member=store.members[0], timeout=1)
    async with connect(store=store, cache_dir=False) as tide:
        yield tide


class Mode(Enum):
    """A type to decode as."""

    FAST = "fast"
    SLOW = "slow"


# Kinds of functions ---------------------------------------------------------------------------------------------


async def test_coroutine_function() -> None:
    """A coroutine function gets its values at each call, and still is a coroutine function."""

    @with_config(timeout="timeout")
    async def charge(order: str, *, timeout: float = 2.0) -> tuple[str, float]:
        return order, timeout

    assert inspect.iscoroutinefunction(charge)
    async with configured(timeout="5") as tide:
        assert await charge("a") == ("a", 5.0)
        await tide.config.put("timeout", 6)
        assert await charge("a") == ("a", 6.0)


async def test_plain_function() -> None:
    """A plain function gets its values, and still is none of the other kinds."""

    @with_config(timeout="timeout")
    def charge(order: str, *, timeout: float = 2.0) -> tuple[str, float]:
        return order, timeout

    assert not inspect.iscoroutinefunction(charge)
    assert not inspect.isgeneratorfunction(charge)
    async with configured(timeout="5"):
        assert charge("a") == ("a", 5.0)


async def test_generator() -> None:
    """A generator passes on what is sent and thrown in and its return value, and cleans up when closed."""
    log: list[object] = []

    @with_config(timeout="timeout")
    def steps(*, timeout: float = 2.0) -> Generator[object, object, str]:
        try:
            log.append((yield timeout))
            try:
                yield "second"
            except LookupError as exc:
                yield exc
            return "done"
        finally:
            log.append("cleaned")

    assert inspect.isgeneratorfunction(steps)
    error = LookupError()
    async with configured(timeout="5"):
        generator = steps()
        assert next(generator) == 5.0
        assert generator.send("sent") == "second"
        assert generator.throw(error) is error
        with pytest.raises(StopIteration) as stopped:
            next(generator)
        assert stopped.value.value == "done"
        closing = steps()
        next(closing)
        closing.close()
    assert log == ["sent", "cleaned", "cleaned"]


async def test_async_generator() -> None:
    """An async generator passes on what is sent and thrown in, and ends as the inner one does."""
    log: list[object] = []

    @with_config(timeout="timeout")
    async def steps(*, timeout: float = 2.0) -> AsyncGenerator[object, object]:
        try:
            log.append((yield timeout))
            try:
                yield "second"
            except LookupError as exc:
                yield exc
        finally:
            log.append("cleaned")

    assert inspect.isasyncgenfunction(steps)
    error = LookupError()
    async with configured(timeout="5"):
        generator = steps()
        assert await anext(generator) == 5.0
        assert await generator.asend("sent") == "second"
        assert await generator.athrow(error) is error
        with pytest.raises(StopAsyncIteration):
            await anext(generator)
        assert log == ["sent", "cleaned"]
        assert [item async for item in steps()] == [5.0, "second"]


async def test_async_generator_cleans_up() -> None:
    """Closing an async generator runs the inner one's cleanup before `aclose` returns, awaits included."""
    log: list[str] = []

    @with_config(timeout="timeout")
    async def steps(*, timeout: float = 2.0) -> AsyncGenerator[float]:
        try:
            yield timeout
        except GeneratorExit:
            log.append("exit")
            raise
        finally:
            log.append("cleaned")

    async with configured():
        generator = steps()
        await anext(generator)
        await generator.aclose()
        assert log == ["exit", "cleaned"]
        await steps().aclose()
        assert log == ["exit", "cleaned"]


async def test_async_generator_that_fails() -> None:
    """An exception of the inner generator, and one thrown in that it does not handle, come out unchanged."""

    @with_config(timeout="timeout")
    async def steps(*, timeout: float = 2.0) -> AsyncGenerator[float]:
        yield timeout
        raise LookupError(timeout)

    error = ValueError("mine")
    async with configured():
        with pytest.raises(LookupError, match=r"2\.0"):
            _ = [item async for item in steps()]
        generator = steps()
        await anext(generator)
        with pytest.raises(ValueError, match="mine") as caught:
            await generator.athrow(error)
        assert caught.value is error


async def test_context_managers() -> None:
    """`contextmanager` and `asynccontextmanager` work on top: a swallowed exception stays swallowed."""

    @contextmanager
    @with_config(timeout="timeout")
    def within(*, timeout: float = 2.0) -> Iterator[float]:
        with suppress(LookupError):
            yield timeout

    @asynccontextmanager
    @with_config(timeout="timeout")
    async def awithin(*, timeout: float = 2.0) -> AsyncIterator[float]:
        with suppress(LookupError):
            yield timeout

    async with configured(timeout="5"):
        with within() as timeout:
            assert timeout == 5.0
            raise LookupError
        async with awithin() as timeout:
            assert timeout == 5.0
            raise LookupError
        with pytest.raises(ValueError, match="passes"):
            async with awithin():
                raise ValueError("passes")


async def test_methods() -> None:
    """Methods, class methods and static methods get their values; `self` is not taken for one of them."""

    class Service:
        name = "service"

        @with_config(timeout="timeout")
        def method(self, timeout: float = 2.0) -> tuple[str, float]:
            return self.name, timeout

        @classmethod
        @with_config(timeout="timeout")
        def of_class(cls, timeout: float = 2.0) -> tuple[str, float]:
            return cls.name, timeout

        @staticmethod
        @with_config(timeout="timeout")
        async def static(timeout: float = 2.0) -> float:
            return timeout

    async with configured(timeout="5"):
        assert Service().method() == ("service", 5.0)
        assert Service().method(7.0) == ("service", 7.0)
        assert Service.of_class() == ("service", 5.0)
        assert await Service.static() == 5.0


# What wins ------------------------------------------------------------------------------------------------------


async def test_what_the_caller_passes_wins() -> None:
    """An argument passed by position or by keyword wins over etcd, falsy ones too; the rest is injected."""

    @with_config(timeout="timeout", retries="retries")
    def charge(order: str, timeout: float = 2.0, retries: int = 1) -> tuple[str, float, int]:
        return order, timeout, retries

    async with configured(timeout="5", retries="3"):
        assert charge("a") == ("a", 5.0, 3)
        assert charge("a", 7.0) == ("a", 7.0, 3)
        assert charge("a", 0.0, 0) == ("a", 0.0, 0)
        assert charge("a", retries=9) == ("a", 5.0, 9)
        assert charge(order="a", timeout=7.0) == ("a", 7.0, 3)


async def test_extra_positional_arguments_do_not_count() -> None:
    """A keyword-only parameter behind `*args` is injected however many positional arguments there are."""

    @with_config(timeout="timeout")
    def charge(*orders: str, timeout: float = 2.0) -> tuple[int, float]:
        return len(orders), timeout

    async with configured(timeout="5"):
        assert [charge(), charge("a"), charge("a", "b", "c")] == [(0, 5.0), (1, 5.0), (3, 5.0)]
        assert charge("a", "b", timeout=7.0) == (2, 7.0)


async def test_caller_mistakes_stay_mistakes() -> None:
    """Too many or unknown arguments are the TypeErrors they would be without the decorator."""

    @with_config(timeout="timeout")
    def charge(order: str, *, timeout: float = 2.0) -> None: ...

    async with configured():
        with pytest.raises(TypeError, match="positional argument"):
            charge("a", "b")  # type: ignore[call-arg,arg-type]
        with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
            charge("a", colour="red")  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'order'"):
            charge()  # type: ignore[call-arg]


async def test_defaults() -> None:
    """An absent key gives the signature's default, the very object; without one it raises, naming the key."""
    default = object()

    @with_config(limits="limits")
    def lenient(*, limits: object = default) -> object:
        return limits

    @with_config(limits="limits")
    def strict(*, limits: str) -> str:
        return limits

    async with configured():
        assert lenient() is default
        with pytest.raises(ConfigKeyError, match="'limits'"):
            strict()  # type: ignore[call-arg]
        assert strict(limits="mine") == "mine"


async def test_nothing_known() -> None:
    """Where nothing was ever synced, defaults serve and a parameter without one raises `NotSynced`."""
    store = MemoryStore()
    store.down = set(store.members)

    @with_config(limits="limits")
    def lenient(*, limits: int = 3) -> int:
        return limits

    @with_config(limits="limits")
    def strict(*, limits: int) -> int:
        return limits

    async with connect(store=store, cache_dir=False):
        with request() as record:
            assert lenient() == 3
        assert "config" in record.marks
        with pytest.raises(NotSynced):
            strict()  # type: ignore[call-arg]


async def test_not_connected() -> None:
    """Without a coordinator a call raises `NotConnected`; but not if everything is passed, as in a unit test."""

    @with_config(timeout="timeout")
    async def charge(*, timeout: float = 2.0) -> float:
        return timeout

    with pytest.raises(NotConnected):
        await charge()
    assert await charge(timeout=7.0) == 7.0


# Types ----------------------------------------------------------------------------------------------------------


async def test_types_from_annotations() -> None:
    """Values are decoded as the annotation says, also where annotations are strings; without one they are text."""

    @with_config(a="a", b="b", c="c", d="d", e="e")
    def read(  # type: ignore[no-untyped-def]
        *,
        a: float | None = None,
        b: list[int] = [],  # noqa: B006
        c: Mode = Mode.SLOW,
        d="",
        e: Annotated[int, "with a note"] = 0,
    ) -> tuple[object, ...]:
        return a, b, c, d, e

    async with configured(a="1.5", b="[1, 2]", c="fast", d="7", e="8"):
        assert read() == (1.5, [1, 2], Mode.FAST, "7", 8)


async def test_forward_reference() -> None:
    """A type that is defined after the function is resolved at the first call."""
    async with configured(later='{"size": 3}'):
        assert read_later() == Later(3)  # type: ignore[call-arg]


@with_config(later="later")
def read_later(*, later: Later) -> Later:
    """Read a type of which nothing is known yet."""
    return later


@dataclass
class Later:
    """A type defined later."""

    size: int


async def test_names_for_type_checkers_only() -> None:
    """Other parameters may have types that do not exist at run time: only the injected ones are resolved."""

    @with_config(timeout="timeout")
    def charge(amount: Decimal, *, timeout: float = 2.0) -> tuple[Decimal, float]:
        return amount, timeout

    async with configured(timeout="5"):
        assert charge(1) == (1, 5.0)  # type: ignore[arg-type,comparison-overlap]
    shown = inspect.signature(charge).parameters["amount"]
    assert shown.annotation == "Decimal"


async def test_type_that_cannot_be_resolved() -> None:
    """An injected parameter whose type does not exist at run time is named in the error."""

    @with_config(price="price")
    def charge(*, price: Decimal) -> Decimal:
        return price

    async with configured(price="5"):
        with pytest.raises(NameError, match="Decimal") as caught:
            charge()  # type: ignore[call-arg]
    assert "charge's parameter 'price'" in caught.value.__notes__[0]


# Decorating -----------------------------------------------------------------------------------------------------


def test_mistakes_are_found_when_decorating() -> None:
    """A parameter that does not exist or cannot be passed by keyword is a TypeError that names it."""

    def positional(timeout: float, /) -> None: ...
    def starred(*timeout: float) -> None: ...
    def keywords(**timeout: float) -> None: ...
    def other(time: float) -> None: ...

    for function in (positional, starred, keywords, other):
        with pytest.raises(TypeError, match=rf"{function.__name__} has no keyword parameter 'timeout'"):
            with_config(timeout="timeout")(function)
    for key in ("", 3):
        with pytest.raises(TypeError, match="key of 'time' must be a non-empty string"):
            with_config(time=key)(other)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"functools\.partial.* has no keyword parameter 'timeout'"):
        with_config(timeout="timeout")(functools.partial(other, 1))


@dataclass
class Unreadable:
    """A dataclass with a field that cannot be decoded."""

    size: int = 1
    parts: list[complex] | None = None


def test_a_type_that_cannot_be_decoded_is_refused_when_decorating() -> None:
    """The message names the function, the parameter, the key, the place within the type and what is supported."""

    def charge(*, limits: Unreadable = Unreadable()) -> None: ...  # noqa: B008

    words = (
        r"charge's parameter 'limits': 'shop/limits': cannot decode configuration as Unreadable, "
        r"in which Unreadable\.parts\[\] is complex; supported are Decimal, .* of these"
    )
    with pytest.raises(TypeError, match=words):
        with_config(limits="shop/limits")(charge)


async def test_a_type_that_is_defined_later_is_refused_at_the_first_call() -> None:
    """An annotation whose names are missing when decorating is looked at by the first call, key or no key."""

    @with_config(limits="limits")
    def charge(*, limits: Undefined | None = None) -> object:
        return limits

    globals()["Undefined"] = Unreadable
    try:
        async with configured():
            for _ in range(2):
                with pytest.raises(TypeError, match=r"'limits': .*complex"):
                    charge()
        globals()["Undefined"] = Mode

        @with_config(limits="limits")
        def pay(*, limits: Undefined | None = None) -> object:
            return limits

        async with configured(limits="fast"):
            assert pay() is Mode.FAST
    finally:
        del globals()["Undefined"]


def test_signature_hides_what_is_injected() -> None:
    """`inspect.signature` shows what is left for the caller, resolved; name, module and doc stay."""

    @with_config(timeout="timeout")
    async def charge(order: Mode, *, timeout: float = 2.0, colour: str = "red") -> Mode:
        """Charge."""
        return order

    assert str(
        inspect.signature(charge)
    ) == "(order: tests.decorators.test_injection.Mode, *, colour: str = 'red') -> " + (
        "tests.decorators.test_injection.Mode"
    )
    assert inspect.signature(charge).parameters["order"].annotation is Mode
    assert "timeout" not in charge.__annotations__
    assert (charge.__name__, charge.__module__, charge.__doc__) == ("charge", __name__, "Charge.")


def test_repr_of_an_injection() -> None:
    """The one-line form shows the function and the keys, also of a callable without a name."""

    def charge(*, timeout: float) -> None: ...

    assert repr(Injection(charge, {"timeout": "t"})).endswith("charge {'timeout': 't'}>")
    assert "functools.partial" in repr(Injection(functools.partial(charge), {"timeout": "t"}))


def counted(calls: list[str], function: Callable[P, R]) -> Callable[P, R]:
    """Decorate as users do."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        calls.append(function.__name__)
        return function(*args, **kwargs)

    return wrapper


async def test_with_other_decorators() -> None:
    """It works below and above another decorator, on itself, and on and under `functools.partial`."""
    calls: list[str] = []

    def charge(order: str, *, timeout: float = 2.0, retries: int = 1) -> tuple[str, float, int]:
        return order, timeout, retries

    below = counted(calls, with_config(timeout="timeout")(charge))
    above = with_config(timeout="timeout")(counted(calls, charge))
    twice = with_config(timeout="timeout")(with_config(retries="retries")(charge))
    under = functools.partial(with_config(timeout="timeout")(charge), "a")
    on = with_config(timeout="timeout")(functools.partial(charge, retries=9))
    async with configured(timeout="5", retries="3"):
        assert below("a") == above("a") == ("a", 5.0, 1)
        assert twice("a") == ("a", 5.0, 3)
        assert under() == ("a", 5.0, 1)
        assert on("a") == ("a", 5.0, 9)
    assert calls == ["charge", "charge"]
    assert list(inspect.signature(twice).parameters) == ["order"]
    assert list(inspect.signature(above).parameters) == ["order", "retries"]


async def test_callable_object() -> None:
    """An object with `__call__` can be decorated: its annotations are found where its class was written."""

    class Charge:
        def __call__(self, *, mode: Mode = Mode.SLOW) -> Mode:
            return mode

    charge = with_config(mode="mode")(Charge())
    async with configured(mode="fast"):
        assert charge() is Mode.FAST


class Job:
    """What can be called as a coroutine function can, without being one."""

    async def __call__(self, name: str, *, mode: Mode = Mode.SLOW) -> tuple[str, Mode]:
        """Return what it was given."""
        await anyio.lowlevel.checkpoint()
        return name, mode

    async def bound(self, name: str, *, mode: Mode = Mode.SLOW) -> tuple[str, Mode]:
        """Do the same as a method."""
        return await self(name, mode=mode)

    async def items(self, name: str, *, mode: Mode = Mode.SLOW) -> AsyncIterator[tuple[str, Mode]]:
        """Do the same one by one."""
        yield await self(name, mode=mode)


@pytest.mark.parametrize(
    "function",
    [
        Job(),
        Job().bound,
        functools.partial(Job(), "a"),
        functools.partial(functools.partial(Job().bound), "a"),
        functools.partial(Job.__call__, Job(), "a"),
    ],
    ids=["object", "method", "partial of an object", "partial of a partial", "partial of a function"],
)
async def test_what_is_awaited_is_awaited(function: Any) -> None:
    """Whatever gives something to await when it is called is, when decorated, a coroutine function."""
    decorated = with_config(mode="mode")(function)
    assert inspect.iscoroutinefunction(decorated)
    async with configured(mode="fast"):
        given = () if isinstance(function, functools.partial) else ("a",)
        assert await decorated(*given) == ("a", Mode.FAST)


async def test_an_object_that_gives_an_async_generator() -> None:
    """A partial of a method that is an async generator function is one when decorated."""
    decorated = with_config(mode="mode")(functools.partial(Job().items, "a"))
    assert inspect.isasyncgenfunction(decorated)
    async with configured(mode="fast"):
        assert [item async for item in decorated()] == [("a", Mode.FAST)]


async def test_a_background_task_of_starlette_runs_it() -> None:
    """Starlette's BackgroundTask runs a decorated object to its end."""
    done: list[Mode] = []

    class Work:
        async def __call__(self, *, mode: Mode = Mode.SLOW) -> None:
            done.append(mode)

    async with configured(mode="fast"):
        await BackgroundTask(with_config(mode="mode")(Work()))()
    assert done == [Mode.FAST]


# FastAPI --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of an application."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def parameters_of(app: FastAPI, path: str) -> list[str]:
    """Return the names of an endpoint's parameters in the OpenAPI schema."""
    operation: dict[str, Any] = app.openapi()["paths"][path]["get"]
    assert "requestBody" not in operation
    return [parameter["name"] for parameter in operation.get("parameters", [])]


def endpoint_of(app: FastAPI, kind: str, threads: list[bool]) -> None:
    """Add an endpoint that shows what it was given."""

    def show(order: Mode, timeout: float, mode: Mode) -> dict[str, object]:
        threads.append(threading.current_thread() is threading.main_thread())
        return {"order": order, "timeout": timeout, "mode": mode}

    if kind == "async":

        @app.get("/charge")
        @with_config(timeout="timeout", mode="mode")
        async def charge(order: Mode, *, timeout: float = 2.0, mode: Mode = Mode.SLOW) -> dict[str, object]:
            return show(order, timeout, mode)

    else:

        @app.get("/charge")
        @with_config(timeout="timeout", mode="mode")
        def charge_in_thread(order: Mode, *, timeout: float = 2.0, mode: Mode = Mode.SLOW) -> dict[str, object]:
            return show(order, timeout, mode)


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_fastapi_endpoint(kind: str) -> None:
    """Endpoints with string annotations get their values, sync ones in the threadpool; clients cannot set them."""
    app, threads = FastAPI(), list[bool]()
    endpoint_of(app, kind, threads)
    async with configured(timeout="5", mode="fast"), client_of(app) as client:
        answer = await client.get("/charge?order=slow&timeout=99&mode=slow")
        assert answer.json() == {"order": "slow", "timeout": 5.0, "mode": "fast"}
        assert (await client.get("/charge?order=nonsense")).status_code == 422
    assert threads == [kind == "async"]
    assert parameters_of(app, "/charge") == ["order"]


async def test_fastapi_dependencies() -> None:
    """Dependencies are injected too, of all four kinds; those with `yield` are entered and cleaned up."""
    log: list[str] = []

    @with_config(value="value")
    def plain(*, value: int = 0) -> int:
        return value

    @with_config(value="value")
    async def coroutine(*, value: int = 0) -> int:
        return value

    @with_config(value="value")
    def generator(*, value: int = 0) -> Iterator[int]:
        yield value
        log.append("generator")

    @with_config(value="value")
    async def async_generator(other: str, *, value: int = 0) -> AsyncIterator[int]:
        try:
            yield value
        except LookupError:
            log.append("failed")
            raise
        finally:
            log.append("async generator")

    app = FastAPI()

    async def show(
        a: int = Depends(plain),
        b: int = Depends(coroutine),
        c: int = Depends(generator),
        d: int = Depends(async_generator),
    ) -> list[int]:
        return [a, b, c, d]

    async def fail(d: int = Depends(async_generator)) -> None:
        raise LookupError(d)

    app.get("/show")(show)
    app.get("/fail")(fail)
    async with configured(value="7"), client_of(app) as client:
        assert (await client.get("/show?other=x")).json() == [7, 7, 7, 7]
        assert sorted(log) == ["async generator", "generator"]
        log.clear()
        with pytest.raises(LookupError):
            await client.get("/fail?other=x")
    assert log == ["failed", "async generator"]
    assert parameters_of(app, "/show") == ["other"]


async def test_fastapi_endpoint_under_another_decorator() -> None:
    """A decorator of the user's between FastAPI and `with_config` does not bring the parameter back."""

    def passing(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        @functools.wraps(function)
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            return await function(*args, **kwargs)

        return wrapper

    app = FastAPI()

    @app.get("/charge")
    @passing
    @with_config(timeout="timeout")
    async def charge(*, timeout: float = 2.0) -> float:
        return timeout

    async with configured(timeout="5"), client_of(app) as client:
        assert (await client.get("/charge?timeout=99")).json() == 5.0
    assert parameters_of(app, "/charge") == []
