"""The load on the service: requests at a steady rate on connections that stay open, and what was answered."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
import httpx

from tideover.cli.demo.timeline import NotHeld

# Seconds after which a request has failed.
_REQUEST_TIMEOUT = 5.0
# Answers must agree for so many seconds before they count as the state of affairs.
_SETTLED = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said about one request; an age of None is unknown."""

    at: float
    price: float
    source: str
    age: float | None
    revision: int
    etcd: str
    instance: str
    header: str


class Settled:
    """The states that the answers agreed on, in order, without brief ones."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._now = ""
        self._since = 0.0

    def record(self, what: str, at: float) -> None:
        """Record one more answer."""
        if what != self._now:
            self._now, self._since = what, at
        if at - self._since >= _SETTLED and self.seen[-1:] != [what]:
            self.seen.append(what)

    def went_through(self, *steps: str) -> bool:
        """Whether these were seen in this order."""
        rest = iter(self.seen)
        return all(step in rest for step in steps)


@dataclass(slots=True)
class Tally:
    """What is counted over the whole run; `went_back` are answers older than an earlier one to the same client."""

    requests: int = 0
    failed: int = 0
    first_failure: str = ""
    by_source: Counter[str] = field(default_factory=Counter)
    degraded: int = 0
    mislabelled: int = 0
    went_back: int = 0
    slowest: float = 0.0
    sources: Settled = field(default_factory=Settled)
    states: Settled = field(default_factory=Settled)


@dataclass(eq=False, slots=True)
class Waiter:
    """A wait for an answer of a kind."""

    wanted: Callable[[Answer], bool]
    seen: anyio.Event = field(default_factory=anyio.Event)
    answer: Answer | None = None


class Load:
    """Many clients, each with one connection, that ask for the price of tea over and over.

    `url` may be changed at any time, as by a load balancer.
    """

    def __init__(self, *, rate: float, clients: int = 8) -> None:
        self.url = ""
        self.tally = Tally()
        self.last: Answer | None = None
        self._interval = clients / rate
        self._clients = clients
        self._in_flight: Counter[str] = Counter()
        self._idle = anyio.Event()
        self._recent: deque[float] = deque()
        self._waiters: list[Waiter] = []

    async def run(self) -> None:
        """Ask until cancelled."""
        limits = httpx.Limits(max_connections=2 * self._clients, max_keepalive_connections=2 * self._clients)
        # Proxies are for other hosts than this one.
        http = httpx.AsyncClient(limits=limits, timeout=_REQUEST_TIMEOUT, trust_env=False)
        async with http, anyio.create_task_group() as tasks:
            for number in range(self._clients):
                tasks.start_soon(self._ask_repeatedly, http, number * self._interval / self._clients)

    async def wait_for(self, wanted: Callable[[Answer], bool], *, timeout: float, what: str) -> Answer:
        """Return the first wanted answer from now on; `what` describes it in the error.

        Raises:
            NotHeld: None came within `timeout` seconds.
        """
        waiter = Waiter(wanted)
        self._waiters.append(waiter)
        with anyio.move_on_after(timeout):
            await waiter.seen.wait()
        if waiter.answer is None:
            self._waiters.remove(waiter)
            raise NotHeld(f"{what}: not within {timeout:.0f} s; the latest answer was {self.last}")
        return waiter.answer

    async def drained(self, url: str) -> None:
        """Wait until no request to `url` is on its way; after `url` has been changed."""
        while self._in_flight[url]:
            self._idle = anyio.Event()
            await self._idle.wait()

    @property
    def per_second(self) -> int:
        """How many requests ended in the last second."""
        now = time.monotonic()
        while self._recent and self._recent[0] < now - 1:
            self._recent.popleft()
        return len(self._recent)

    async def _ask_repeatedly(self, http: httpx.AsyncClient, delay: float) -> None:
        due = time.monotonic() + delay
        newest = 0
        while True:
            await anyio.sleep(max(0.0, due - time.monotonic()))
            newest = max(newest, await self._ask(http, newest))
            # A late client leaves requests out rather than sending them all at once.
            due = max(due + self._interval, time.monotonic() - self._interval)

    async def _ask(self, http: httpx.AsyncClient, newest: int) -> int:
        """Send one request; return the revision in the answer."""
        url, began = self.url, time.monotonic()
        self._in_flight[url] += 1
        try:
            answer = _understand(await http.get(f"{url}/price/tea"))
        except (httpx.HTTPError, ValueError, KeyError) as exc:
            self.tally.failed += 1
            self.tally.first_failure = self.tally.first_failure or f"{url}: {type(exc).__name__} {exc}"
            return 0
        finally:
            self._in_flight[url] -= 1
            self._idle.set()
            self.tally.requests += 1
            self._recent.append(time.monotonic())
        self.tally.slowest = max(self.tally.slowest, answer.at - began)
        self.tally.went_back += answer.revision < newest
        self._record(answer)
        return answer.revision

    def _record(self, answer: Answer) -> None:
        self.last = answer
        tally = self.tally
        tally.by_source[answer.source] += 1
        tally.degraded += bool(answer.header)
        # Live answers carry no field; all others name their source in it.
        claimed = answer.header.partition(";")[0].removeprefix("config=") or "live"
        tally.mislabelled += claimed != answer.source
        tally.sources.record(answer.source, answer.at)
        tally.states.record(answer.etcd, answer.at)
        for waiter in [waiter for waiter in self._waiters if waiter.wanted(answer)]:
            self._waiters.remove(waiter)
            waiter.answer = answer
            waiter.seen.set()


def _understand(response: httpx.Response) -> Answer:
    response.raise_for_status()
    body = response.json()
    return Answer(
        at=time.monotonic(),
        price=float(body["price"]),
        source=str(body["source"]),
        age=None if body["age"] is None else float(body["age"]),
        revision=int(body["revision"]),
        etcd=str(body["etcd"]),
        instance=str(body["instance"]),
        header=response.headers.get("tideover-status", ""),
    )
