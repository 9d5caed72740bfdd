"""Hosts on a bridge, each in a network namespace of its own, whose links can be cut.

                       br0 (namespace "switch")
        +-----------+-----------+-----------+-----------+
    m1 10.77.0.1  m2 10.77.0.2  m3 10.77.0.3  c1 10.77.0.4   ...

A cut drops silently, as a dead link or a firewall does: nothing is refused, nothing comes back. The receiver
drops what comes from the sender by a routing rule (`ip rule ... iif eth0 from SENDER blackhole`), hence in one
direction at a time, and with iproute2 alone; nftables or iptables would be one more package and one more kernel
module. An unroutable packet is answered by routers only, and these hosts are none; neighbours' hardware addresses
are fixed, so that no unanswered ARP turns silence into "no route to host". There is no way out of the bridge.
Only `lose`, which drops at random, needs nftables: sch_netem, the usual way, is missing in many kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tests.netns.namespaces import Namespace

_SUBNET = "10.77.0"
_MISSING = "qdisc kind is unknown"


class NetemUnavailable(RuntimeError):
    """Raised when the kernel has no sch_netem, so that packets cannot be delayed or lost; rates still work."""


class Host:
    """One host of a network.

    Attributes:
        name: As given to the network.
        address: Its IPv4 address.
        mac: Its hardware address.
        port: The switch's end of its cable.
        namespace: Where it is.
    """

    def __init__(self, name: str, number: int, namespace: Namespace) -> None:
        self.name = name
        self.address = f"{_SUBNET}.{number}"
        self.mac = f"02:00:0a:4d:00:{number:02x}"
        self.port = f"port{number}"
        self.namespace = namespace

    def __repr__(self) -> str:
        return f"<Host {self.name!r} {self.address} pid={self.namespace.pid}>"

    @property
    def launcher(self) -> list[str]:
        """The command prefix that runs a program on this host."""
        return self.namespace.launcher


class Network:
    """Hosts on one bridge, as a context manager: all is there inside the block and nothing afterwards.

    Args:
        names: The hosts.

    Raises:
        ValueError: A name is given twice, or there are too many.
    """

    def __init__(self, names: Sequence[str]) -> None:
        if len(set(names)) != len(names) or not 0 < len(names) < 255:
            raise ValueError(f"need 1 to 254 different names, not {list(names)}")
        self._names = tuple(names)
        self._hosts: dict[str, Host] = {}
        self._cuts: set[tuple[str, str]] = set()
        self._shaped: set[str] = set()
        self._lossy: set[str] = set()
        self._stack = ExitStack()

    def __repr__(self) -> str:
        cuts = ", ".join(f"{source}-x->{target}" for source, target in sorted(self._cuts))
        return f"<Network {' '.join(self._names)} cuts: {cuts or 'none'}>"

    def __enter__(self) -> Self:
        """Build it.

        Raises:
            NamespacesImpossible: This machine does not allow it; the message says what is needed.
            RuntimeError: A step failed.
        """
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take it away, whole or half built; again is a no-op."""
        self._stack.close()

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts, in the order of their names."""
        return tuple(self._hosts[name] for name in self._names)

    def host(self, name: str) -> Host:
        """Return a host by its name; KeyError if there is none."""
        return self._hosts[name]

    def partition(self, source: str, target: str, *, one_way: bool = False) -> None:
        """Cut the link of two hosts; what is cut already stays so.

        Args:
            source: A host.
            target: Another.
            one_way: Whether only packets from `source` to `target` are lost, not those that come back.
        """
        self._cut([(source, target)] if one_way else [(source, target), (target, source)])

    def isolate(self, name: str, *, among: Iterable[str] | None = None) -> None:
        """Cut a host off.

        Args:
            name: The host.
            among: From whom. None means from all.
        """
        others = [other for other in (self._names if among is None else among) if other != name]
        self._cut([pair for other in others for pair in ((name, other), (other, name))])

    def heal(self, *names: str) -> None:
        """Mend links and take `netem` and `lose` back.

        Args:
            names: Only what concerns these hosts; none means everything.
        """
        chosen = set(names or self._names)
        mended = {cut for cut in self._cuts if chosen & set(cut)}
        for target in {target for _, target in mended}:
            sources = [source for source, at in mended if at == target]
            self._batch(target, [f"rule del {self._rule(source)}" for source in sources])
        self._cuts -= mended
        for name in self._shaped & chosen:
            for namespace, device in self._both_ends(name):
                namespace.run("tc", "qdisc", "del", "dev", device, "root")
        self._shaped -= chosen
        for name in self._lossy & chosen:
            for namespace, device in self._both_ends(name):
                namespace.run("nft", "delete", "table", "netdev", _lossy(device))
        self._lossy -= chosen

    def netem(
        self,
        name: str,
        *,
        delay: float | None = None,
        loss: float | None = None,
        rate: int | None = None,
        queue: float = 1.0,
    ) -> None:
        """Worsen a host's link, in each direction alike, until `heal`.

        Args:
            name: The host.
            delay: Seconds that each packet takes longer.
            loss: Share of packets lost, from 0 to 1.
            rate: Bits per second that get through.
            queue: Seconds that a packet waits for its turn at the most, if a rate is all that is asked for.

        Raises:
            ValueError: Nothing is asked for.
            NetemUnavailable: The kernel has no netem and more than a rate is asked for.
        """
        if delay is None and loss is None:
            if rate is None:
                raise ValueError("netem needs a delay, a loss or a rate")
            # Any kernel has a token bucket.
            qdisc = ["tbf", "rate", f"{rate}bit", "burst", "16kb", "latency", f"{queue * 1000:.0f}ms"]
        else:
            qdisc = ["netem", *([] if delay is None else ["delay", f"{delay * 1000:.3f}ms"])]
            qdisc += [] if loss is None else ["loss", f"{loss:.3%}"]
            qdisc += [] if rate is None else ["rate", f"{rate}bit"]
        for namespace, device in self._both_ends(name):
            try:
                namespace.run("tc", "qdisc", "replace", "dev", device, "root", *qdisc)
            except RuntimeError as exc:
                if _MISSING in str(exc):
                    raise NetemUnavailable(f"this kernel has no tc {qdisc[0]}: {exc}") from exc
                raise
        self._shaped.add(name)

    def lose(self, name: str, share: float) -> None:
        """Lose packets of a host at random, in each direction alike, until `heal`.

        By nftables, on what arrives at either end of the host's cable: unlike sch_netem it is in every kernel with
        nftables, and unlike a rule for outgoing packets it does not tell the sender.

        Args:
            name: The host.
            share: Share of packets lost, from 0 to 1, in steps of 1/10,000.

        Raises:
            RuntimeError: There is no `nft` (Debian: nftables), or the kernel has no nftables.
        """
        for namespace, device in self._both_ends(name):
            hook = f'type filter hook ingress device "{device}" priority 0;'
            rule = f"numgen random mod 10000 < {round(share * 10_000)} drop"
            lines = f"table netdev {_lossy(device)} {{\n chain lose {{\n {hook}\n {rule}\n }}\n}}\n"
            namespace.run("nft", "-f", "-", input=lines)
        self._lossy.add(name)

    def _build(self) -> None:
        switch = self._switch = self._namespace(None)
        for number, name in enumerate(self._names, start=1):
            self._hosts[name] = Host(name, number, self._namespace(switch))
        lines = ["link add br0 type bridge", "link set br0 up"]
        for host in self._hosts.values():
            lines.append(f"link add {host.port} type veth peer name eth0 netns {host.namespace.pid}")
            lines.append(f"link set {host.port} master br0 up")
        _ip(switch, lines)
        for host in self._hosts.values():
            lines = [
                "link set lo up",
                f"link set eth0 address {host.mac} up",
                f"addr add {host.address}/24 dev eth0",
            ]
            # Rules are asked in order: cuts must come before the table of our own addresses.
            lines += ["rule add pref 100 lookup local", "rule del pref 0 lookup local"]
            lines += [
                f"neigh add {other.address} lladdr {other.mac} nud permanent dev eth0"
                for other in self._hosts.values()
                if other is not host
            ]
            _ip(host.namespace, lines)

    def _namespace(self, owner: Namespace | None) -> Namespace:
        made = Namespace(owner)
        self._stack.callback(made.close)
        return made

    def _cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        new: dict[str, list[str]] = {}
        for source, target in pairs:
            if source == target:
                raise ValueError(f"{source!r} cannot be cut off from itself")
            if (source, target) not in self._cuts:
                new.setdefault(target, []).append(source)
        for target, sources in new.items():
            self._batch(target, [f"rule add {self._rule(source)}" for source in sources])
            self._cuts |= {(source, target) for source in sources}

    def _rule(self, source: str) -> str:
        return f"pref 10 iif eth0 from {self.host(source).address} blackhole"

    def _batch(self, name: str, lines: Sequence[str]) -> None:
        _ip(self.host(name).namespace, lines)

    def _both_ends(self, name: str) -> list[tuple[Namespace, str]]:
        host = self.host(name)
        return [(host.namespace, "eth0"), (self._switch, host.port)]


def _lossy(device: str) -> str:
    return f"lossy_{device}"


def _ip(namespace: Namespace, lines: Sequence[str]) -> None:
    namespace.run("ip", "-batch", "-", input="\n".join(lines) + "\n")
