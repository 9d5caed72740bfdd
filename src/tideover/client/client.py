"""The one handle on etcd: all that is built above the calls is built from it.

Guarantee. It is frozen, and there from the moment a coordinator is made: what hangs on entering is behind it, in
`calls` and `direct`, which refuse until then, and in `lifecycle`.

Not guaranteed. That a call may go out: each asks the breaker (`calls`) or goes past it (`direct`) itself.

Prior art: `concurrency.NewSession(client)` of etcd's Go client, where sessions, locks and elections take one
`*clientv3.Client`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tideover.client.direct import DirectCalls
from tideover.client.gateway import Gateway
from tideover.client.lifecycle import Lifecycle
from tideover.clock import Clock
from tideover.cluster.health import ClusterHealth
from tideover.cluster.state import ClusterState
from tideover.holders import ProcessName
from tideover.home import Home
from tideover.store.protocol import Store
from tideover.ticker import Ticker
from tideover.types import Component


@dataclass(frozen=True, slots=True)
class Client:
    """What the parts of one coordinator have in common.

    Attributes:
        calls: The way to etcd through the breaker, on behalf of `component`.
        direct: The way past the breaker, for what must not wait for a verdict on the cluster.
        health: `state` as users see it.
        random: Draws a number uniformly from [0, 1).
        epoch: Returns the epoch that tokens belong to.
        outage_id: Returns the id of the present outage; empty if there is none.
    """

    calls: Gateway
    direct: DirectCalls
    state: ClusterState
    health: ClusterHealth
    clock: Clock
    random: Callable[[], float]
    home: Home
    ticker: Ticker
    lifecycle: Lifecycle
    namespace: str
    epoch: Callable[[], int]
    outage_id: Callable[[], str]
    process_name: ProcessName

    def __repr__(self) -> str:
        """Show the namespace, and whether the coordinator is open."""
        return f"<Client {self.namespace!r} {self.lifecycle!r}>"

    @property
    def base(self) -> str:
        """The namespace and a slash."""
        return f"{self.namespace}/"

    @property
    def component(self) -> Component:
        """On whose behalf calls are made."""
        return self.calls.component

    @property
    def store(self) -> Store:
        """The cluster, once the coordinator is entered. Raises `Closed`: it has not been entered."""
        return self.calls.store

    def of(self, component: Component) -> Client:
        """Return the same client on behalf of a component."""
        return replace(self, calls=self.calls.of(component))
