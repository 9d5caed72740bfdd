"""`lock` and `@locked` on the coordinator that `current` returns."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel

import tideover
from tests.locks.support import lock_keys
from tests.support import connected, mock_trio
from tideover import LockTimeout, NotConnected, locked, while_leader, with_config
from tideover.testing import MemoryStore


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()


@dataclass
class Order:
    """An order."""

    id: int


@pytest.mark.anyio
async def test_the_name_comes_from_the_arguments() -> None:
    """Parameters, their defaults and their attributes fill the name, however they are passed."""
    store = MemoryStore()
    seen: list[str] = []

    @locked("orders/{order.id}/{part}")
    async def charge(order: Order, part: str = "all") -> str:
        (key,) = lock_keys(store)
        seen.append(key.decode().rpartition("/")[0])
        return part

    async with connected(store):
        assert await charge(Order(7)) == "all"
        await anyio.sleep(1)
        assert await charge(part="a", order=Order(8)) == "a"
        await anyio.sleep(1)
    assert seen == ["/locks/orders/7/all", "/locks/orders/8/a"]
    assert list(inspect.signature(charge).parameters) == ["order", "part"]
    assert charge.__name__ == "charge"


@pytest.mark.anyio
async def test_one_at_a_time_for_each_name() -> None:
    """Calls with one name follow each other, and calls with different ones do not wait; methods too."""
    running: list[int] = []
    most: dict[int, int] = {}

    class Till:
        @locked("orders/{order_id}")
        async def charge(self, order_id: int) -> None:
            running.append(order_id)
            most[order_id] = max(most.get(order_id, 0), running.count(order_id))
            most[0] = max(most.get(0, 0), len(running))
            await anyio.sleep(1)
            running.remove(order_id)

    till = Till()
    async with connected(MemoryStore()), anyio.create_task_group() as tasks:
        for order_id in (1, 2, 1, 2, 1):
            tasks.start_soon(till.charge, order_id)
    assert most == {1: 1, 2: 1, 0: 2}


@pytest.mark.anyio
async def test_options_are_those_of_lock() -> None:
    """The timeout and the rest are passed on."""
    store = MemoryStore()

    @locked("orders", timeout=3)
    async def charge() -> None:
        raise AssertionError

    async with connected(store) as tide, tide.lock("orders"):
        with pytest.raises(LockTimeout):
            await charge()


class Book(BaseModel):
    """The body of a request."""

    id: int


@pytest.mark.parametrize(
    "decorator", [locked("books/{book.id}"), while_leader("books")], ids=["locked", "leading"]
)
def test_annotations_are_resolved_where_the_function_was_written(decorator: Any) -> None:
    """A framework that evaluates strings in the wrapper's module finds none; what cannot be resolved stays."""

    async def lend(book: Book, request: Request, later: Unknown | None = None) -> Order:  # type: ignore[name-defined] # noqa: F821
        raise AssertionError

    decorated = decorator(lend)
    signature = inspect.signature(decorated)
    found = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    assert found == {"book": Book, "request": Request, "later": "Unknown | None"}
    assert signature.return_annotation is Order
    assert decorated.__annotations__ == {**found, "return": Order}
    assert lend.__annotations__["book"] == "Book"


@pytest.mark.anyio
async def test_a_fastapi_endpoint_gets_its_body() -> None:
    """An endpoint under `@locked` and `@with_config` whose annotations are strings has a body and a request."""
    app = FastAPI()

    @app.post("/lend")
    @locked("books/{book.id}")
    @with_config(days="days")
    async def lend(book: Book, request: Request, *, days: int = 14) -> str:
        return f"{request.method} {book.id} for {days} days"

    async with connected(MemoryStore()):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.post("/lend", json={"id": 3})
            assert (answer.status_code, answer.json()) == (200, "POST 3 for 14 days")
            assert (await client.post("/lend", json={})).status_code == 422


@pytest.mark.parametrize(
    ("template", "error", "words"),
    [
        ("orders/{order}", TypeError, "'order'"),
        ("orders/{args}", TypeError, "any number"),
        ("orders/{}", ValueError, "name the parameters"),
        ("orders/{0}", ValueError, "name the parameters"),
        ("orders/{order_id", ValueError, "expected"),
        (7, TypeError, "7"),
    ],
)
def test_a_template_is_checked_when_decorating(template: str, error: type[Exception], words: str) -> None:
    """What the function cannot fill is refused before the first call."""

    async def charge(order_id: int, *args: int) -> None:
        raise AssertionError

    with pytest.raises(error, match=words):
        locked(template)(charge)


def test_only_coroutine_functions_are_decorated() -> None:
    """A plain function, or an async generator, would run without the lock."""

    def plain() -> None:
        raise AssertionError

    async def generator() -> object:
        yield 1

    for function in (plain, generator, functools.partial(plain)):
        with pytest.raises(TypeError, match="coroutine functions"):
            locked("orders")(function)


@pytest.mark.parametrize(
    ("decorator", "words"),
    [
        (locked, r"write @locked\('orders/{order_id}'\), with a name"),
        (while_leader, r"write @while_leader\('reaper'\), with a name"),
        (with_config, r"write @with_config\(timeout='payments/timeout'\)"),
    ],
)
def test_a_decorator_without_parentheses_is_refused_when_decorating(decorator: Any, words: str) -> None:
    """What was decorated would otherwise be called at some time, and return a decorator."""

    async def work() -> None:
        raise AssertionError

    with pytest.raises(TypeError, match=words):
        decorator(work)


def test_options_are_checked_when_decorating() -> None:
    """An option that cannot work is refused at once."""
    with pytest.raises(ValueError, match="ttl"):
        locked("orders", ttl=1)
    with pytest.raises(ValueError, match="'never'"):
        locked("orders", on_outage="never")  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_without_a_coordinator_it_says_so() -> None:
    """`lock` is that of the coordinator that `current` returns; without one NotConnected is raised."""
    with pytest.raises(NotConnected):
        tideover.lock("orders")
    async with connected(MemoryStore()), tideover.lock("orders") as held:
        held.check()
