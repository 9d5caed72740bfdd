"""Where the candidates of one process are asked by others, and from where they ask."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Protocol

import anyio

from tideover import telemetry
from tideover.addresses import is_wildcard
from tideover.elections.peers.messages import Keyring, Message, Rejected
from tideover.elections.peers.network import NOWHERE, Network, Silent, join_address, local_host, split_address
from tideover.elections.rules.failsafe import Verdict
from tideover.errors import Closed
from tideover.policies import Failsafe
from tideover.shown import shown

# Seconds for looking up the names of etcd's members, when this machine's own address is to be found.
_LOOK_UP_TIMEOUT = 0.5
# Seconds between two lines about messages that are not understood.
_WARN_EVERY = 30.0


class Addressee(Protocol):
    """One candidacy that can be asked."""

    @property
    def me(self) -> str:
        """Its incarnation."""

    def take(self, message: Message) -> Verdict:
        """Decide on a message, at once."""


class PeerListener:
    """The listener of one process, and who can be asked there.

    Args:
        options: The user's.
        towards: etcd's members, to find out which address of this machine the others may reach.
        monotonic: Returns seconds.
        network: How messages travel; None means HTTP.

    Attributes:
        options: The user's.
        address: Where others reach this process; empty before it is open.
        rejected: How many messages were not signed by one who has the secret, or were none.
    """

    def __init__(
        self,
        options: Failsafe,
        *,
        towards: Sequence[str],
        monotonic: Callable[[], float],
        network: Network | None = None,
    ) -> None:
        self.options = options
        self.address = ""
        self.rejected = 0
        self._keys = Keyring(options.secrets)
        self._towards = towards
        self._monotonic = monotonic
        self._network: Network = network or _over_http()
        self._seats: dict[str, Addressee] = {}
        self._warned_at = -_WARN_EVERY

    def __repr__(self) -> str:
        """Show where it is, and how many candidates can be asked there."""
        return f"<PeerListener {self.address or 'not open'} {len(self._seats)} candidates>"

    async def open(self) -> None:
        """Listen, and find out under which address.

        Raises:
            OSError: The address cannot be listened at.
        """
        listen = self.options.listen
        host, _, port = listen.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            bound = await self._network.listen(host, int(port))
        except OSError as exc:
            raise OSError(
                exc.errno,
                f"Failsafe(listen={listen!r}) cannot be listened at: {exc.strerror or exc}. Each process needs a "
                "port of its own: with port 0 it takes one that is free",
            ) from exc
        advertise = self.options.advertise
        if advertise is None:
            advertise = await self._find_host() if is_wildcard(host) else host
            self.address = join_address(advertise, bound)
        else:
            self.address = _with_port(advertise, bound)
        telemetry.peers_noted(f"other candidates reach this process at {self.address}")

    async def run(self) -> None:
        """Answer, until cancelled."""
        await self._network.serve(self._handle)

    async def aclose(self) -> None:
        """Answer nobody any more."""
        self._seats.clear()
        await self._network.aclose()

    def seat(self, addressee: Addressee) -> None:
        """Let a candidate be asked here."""
        self._seats[addressee.me] = addressee

    def unseat(self, addressee: Addressee) -> None:
        """Let it not be asked any more: the answer is that no such process is here."""
        if self._seats.get(addressee.me) is addressee:
            del self._seats[addressee.me]

    async def say(self, address: str, message: Message, *, timeout: float) -> Verdict:
        """Send a message and return the answer.

        Args:
            address: Where to.
            message: What.
            timeout: Seconds.

        Raises:
            Silent: There is none that counts.
        """
        body = await self._network.post(address, self._keys.request(message), timeout=timeout)
        try:
            return Verdict(self._keys.read_reply(body, message))
        except (Rejected, ValueError) as exc:
            # A reply that is not signed is worth as much as none.
            text = f"an answer from {shown(address)} does not count: {exc}"
            self._warn(f"{text}; have all processes the same secret?")
            raise Silent("an answer that is not signed") from None

    def _handle(self, body: bytes) -> tuple[int, bytes]:
        try:
            message = self._keys.read(body)
        except Rejected as exc:
            self._warn(f"a message was refused, because {exc}; have all processes the same secret?")
            return 403, b""
        seat = self._seats.get(message.to)
        if seat is None:
            return 421, b""
        return 200, self._keys.reply(message, seat.take(message).value)

    def _warn(self, text: str) -> None:
        self.rejected += 1
        now = self._monotonic()
        if now - self._warned_at >= _WARN_EVERY:
            self._warned_at = now
            telemetry.peers_noted(text, level=logging.WARNING)

    async def _find_host(self) -> str:
        """Return this machine's address on its way to etcd, or else on its way to anywhere."""
        for endpoint in self._towards:
            try:
                host, port = split_address(endpoint)
                with anyio.fail_after(_LOOK_UP_TIMEOUT):
                    found = await anyio.getaddrinfo(host, port)
                return local_host(str(found[0][4][0]), port)
            except (OSError, TimeoutError, Silent, UnicodeError):
                continue
        try:
            return local_host(NOWHERE, 9)
        except OSError:
            raise Closed(
                "Failsafe: this machine's address cannot be found, for it has no network; give advertise="
            ) from None


def _with_port(advertise: str, bound: int) -> str:
    """Return where others reach us: what was given, with the port that was bound unless it names one."""
    if advertise.rpartition(":")[2].isdigit() and (":" not in advertise.rpartition(":")[0] or "]:" in advertise):
        return advertise
    return join_address(advertise.removeprefix("[").removesuffix("]"), bound)


def nonce() -> str:
    """Return a random word."""
    return secrets.token_hex(8)


def _over_http() -> Network:
    # h11 is loaded by those who have asked for it.
    from tideover.elections.peers.http import HttpNetwork

    return HttpNetwork()
