"""What the demo does, step by step, and what must hold at each step."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import anyio
import httpx
from anyio.abc import TaskGroup

from tideover.cli.demo.instance import Instance
from tideover.cli.demo.load import Load, Tally
from tideover.cli.demo.timeline import NotHeld, Timeline
from tideover.testing.etcd import EtcdCluster, EtcdServer

_KEY = "/config/prices/tea"
_PRICES = (2.5, 3.0, 3.5)
# Seconds for things that take a tenth of it, on a machine that has better things to do.
_PATIENCE = 20.0
# Seconds for which each situation is shown.
_DWELL = 1.5


class Scenario:
    """An outage from beginning to end, under load.

    Attributes:
        visible_ms: For each write, milliseconds from etcd's confirmation to the first answer that has it.
    """

    key = _KEY

    def __init__(self, cluster: EtcdCluster, *, load: Load, timeline: Timeline, folder: Path) -> None:
        self.instances: list[Instance] = []
        self.broken: list[str] = []
        self.visible_ms: list[float] = []
        self.cluster = cluster
        self.load = load
        self._timeline = timeline
        self._folder = folder
        self._price = _PRICES[0]

    async def run(self, http: httpx.AsyncClient, tasks: TaskGroup) -> None:
        """Play it.

        Raises:
            NotHeld: It cannot go on.
        """
        await self._begin(http)
        tasks.start_soon(self.load.run)
        await anyio.sleep(1.0)
        await self._expect("live", etcd="available", phase="live", again=False)
        await self._write(http, _PRICES[1], phase="changed")
        await self._lose_quorum()
        await self._lose_all()
        await self._restart_service(http)
        await self._recover()
        await self._write(http, _PRICES[2], phase="changed again")
        self.broken += judge(self.load.tally)

    def close(self) -> None:
        """End all processes at once."""
        for instance in self.instances:
            instance.kill()
        self.cluster.close()

    def show(self, phase: str) -> None:
        """Print what the answers are like."""
        last = self.load.last
        if last is not None:
            self._timeline.answers(
                phase=phase,
                etcd=last.etcd,
                source=last.source,
                age=last.age,
                price=last.price,
                per_second=self.load.per_second,
                failed=self.load.tally.failed,
            )

    async def _begin(self, http: httpx.AsyncClient) -> None:
        cluster = self.cluster
        self._timeline.happened(
            "start",
            f"Starting three members of etcd {cluster.version()}, and the service.",
            etcd_version=cluster.version(),
        )
        cluster.start()
        await cluster.ready()
        await self._put(http, _KEY, f"{self._price:.2f}")
        await self._put(http, "/config/shop/currency", "EUR")
        instance = await self._start_instance(http)
        self.load.url = instance.url
        self._timeline.happened(
            "ready",
            f"The service is up: {instance.url}/price/tea",
            url=instance.url,
            pid=instance.pid,
            endpoints=list(cluster.endpoints),
            etcd_pids=[member.pid for member in cluster.members],
        )

    async def _lose_quorum(self) -> None:
        # Asked for by `lose_quorum()` too, where waiting would hold up the load.
        await self.cluster.applied()
        killed = self.cluster.lose_quorum()
        self._timeline.happened(
            "kill",
            f"KILLED {_names(killed)}: no quorum is left, one member survives.\n"
            "For 3 s it may be a mere change of leader; then it is declared an outage.",
            members=[member.name for member in killed],
            left=1,
        )
        await anyio.sleep(_DWELL)
        self.show("not declared yet")
        await self._expect("member", etcd="degraded", phase="quorum lost")

    async def _lose_all(self) -> None:
        killed = self.cluster.kill_all()
        self._timeline.happened(
            "kill",
            f"KILLED {_names(killed)} too: no etcd at all.",
            members=[member.name for member in killed],
            left=0,
        )
        await self._expect("memory", etcd="unavailable", phase="all members dead")

    async def _restart_service(self, http: httpx.AsyncClient) -> None:
        old = self.instances[-1]
        new = await self._start_instance(http)
        self.load.url = new.url
        await self.load.drained(old.url)
        await old.stop()
        self._timeline.happened(
            "restart",
            f"RESTARTED the service while etcd is dead: {new.name} (pid {new.pid}) took over,\n"
            f"then {old.name} was stopped. The new process has only the snapshot on disk.",
            url=new.url,
            pid=new.pid,
        )
        await self._expect("disk", etcd="unavailable", phase="service restarted")

    async def _recover(self) -> None:
        restarted = self.cluster.restore_quorum()
        self._timeline.happened(
            "recover", "STARTED all three etcd members again.", members=[member.name for member in restarted]
        )
        await self._expect("live", etcd="available", phase="recovered", again=False)

    async def _write(self, http: httpx.AsyncClient, price: float, *, phase: str) -> None:
        """Change the price in etcd behind the service's back, and see it in the answers."""
        before, self._price = self._price, price
        await self._put(http, _KEY, f"{price:.2f}")
        confirmed = anyio.current_time()
        await self.load.wait_for(
            lambda answer: answer.price == price,
            timeout=_PATIENCE,
            what=f"an answer with the new price {price:.2f}",
        )
        self.visible_ms.append(round((anyio.current_time() - confirmed) * 1000, 1))
        self._timeline.happened(
            "write",
            f"CHANGED the price in etcd, {before:.2f} to {price:.2f}: "
            f"in the answers {self.visible_ms[-1]:.0f} ms later, without a restart.",
            key=_KEY,
            value=price,
            visible_ms=self.visible_ms[-1],
        )
        await self._expect("live", etcd="available", phase=phase, again=False)

    async def _start_instance(self, http: httpx.AsyncClient) -> Instance:
        name = f"shop-{len(self.instances) + 1}"
        instance = Instance(name, folder=self._folder, endpoints=self.cluster.endpoints)
        self.instances.append(instance)
        instance.start()
        await instance.wait_ready(http)
        return instance

    async def _expect(self, source: str, *, etcd: str, phase: str, again: bool = True) -> None:
        """Wait for answers of a kind, then see for a while that they stay so, and perhaps show it `again`."""
        newest, instance = self._price, self.instances[-1].name
        await self.load.wait_for(
            lambda answer: (answer.source, answer.etcd, answer.instance) == (source, etcd, instance),
            timeout=_PATIENCE,
            what=f"an answer of {instance} from {source} with etcd {etcd}",
        )
        self.show(phase)
        await anyio.sleep(_DWELL)
        if again:
            self.show(phase)
        last = self.load.last
        if last is None or (last.source, last.etcd, last.price) != (source, etcd, newest):
            self.broken.append(f"{phase}: expected {newest:.2f} from {source} with etcd {etcd}, but got {last}")

    async def _put(self, http: httpx.AsyncClient, key: str, value: str) -> None:
        """Write as any other program would: through etcd's own JSON gateway, whichever member answers."""
        spelt = {name: base64.b64encode(text.encode()).decode() for name, text in (("key", key), ("value", value))}
        problem: Exception | None = None
        for endpoint in self.cluster.endpoints:
            try:
                answer = await http.post(f"http://{endpoint}/v3/kv/put", json=spelt)
                answer.raise_for_status()
            except httpx.HTTPError as exc:
                problem = exc
            else:
                return
        raise NotHeld(f"{key} could not be written to etcd: {problem!r}")


def judge(tally: Tally) -> list[str]:
    """Return what did not hold over a whole run, each as a sentence."""
    claims = {
        f"{tally.failed} requests failed, the first: {tally.first_failure}": tally.failed == 0,
        f"{tally.mislabelled} answers had a Tideover-Status that contradicts them": tally.mislabelled == 0,
        f"{tally.went_back} answers were older than what the same client had seen": tally.went_back == 0,
        f"the answers came from {', '.join(tally.sources.seen)}": tally.sources.went_through(
            "live", "member", "memory", "disk", "live"
        ),
        f"the states of etcd were {', '.join(tally.states.seen)}": tally.states.went_through(
            "available", "degraded", "unavailable", "available"
        ),
    }
    return [claim for claim, held in claims.items() if not held]


def _names(members: Sequence[EtcdServer]) -> str:
    return " and ".join(member.name for member in members)
