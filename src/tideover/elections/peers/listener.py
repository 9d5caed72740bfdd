"""One process's end of the messages between candidates: one port for all its candidacies."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence

import anyio

from tideover import telemetry
from tideover.addresses import is_wildcard
from tideover.elections.peers.messages import Keyring, Message, Rejected
from tideover.elections.peers.network import NOWHERE, Network, Silent, join_address, local_host, split_address
from tideover.elections.rules.failsafe import Verdict
from tideover.errors import Closed
from tideover.policies import Failsafe
from tideover.shown import shown

# Seconds for looking up the names of etcd's members, when this machine's own address is not configured.
_LOOK_UP_TIMEOUT = 0.5
# Seconds between two lines about rejected messages.
_WARN_EVERY = 30.0

# Answers a message at once: nothing may come between a candidate's answer and its change of state.
Answer = Callable[[Message], Verdict]


class PeerListener:
    """Sends messages to other candidates, and answers theirs for the candidacies registered here."""

    def __init__(
        self,
        options: Failsafe,
        *,
        towards: Sequence[str],
        monotonic: Callable[[], float],
        network: Network | None = None,
    ) -> None:
        self.options = options
        self.address = ""  # where others reach this process; empty before `open`
        self.rejected = 0  # how many messages were malformed, or not signed with a known secret
        self._keys = Keyring(options.secrets)
        self._towards = towards
        self._monotonic = monotonic
        self._network: Network = network or _over_http()
        self._answers: dict[str, Answer] = {}
        self._warned_at = -_WARN_EVERY

    async def open(self) -> None:
        """Bind the port, and find the address to advertise. Raises `OSError`: the address cannot be bound."""
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
        """Answer messages until cancelled."""
        await self._network.serve(self._handle)

    async def aclose(self) -> None:
        """Stop listening."""
        self._answers.clear()
        await self._network.aclose()

    def register(self, candidate: str, answer: Answer) -> None:
        """Answer the messages to a candidate."""
        self._answers[candidate] = answer

    def unregister(self, candidate: str, answer: Answer) -> None:
        """Reply from now on that no such candidate is here, unless a successor has registered its own answer."""
        if self._answers.get(candidate) == answer:
            del self._answers[candidate]

    async def send(self, address: str, message: Message, *, timeout: float) -> Verdict:
        """Send a message and return the answer. Raises `Silent`: no valid answer came."""
        body = await self._network.post(address, self._keys.request(message), timeout=timeout)
        try:
            return Verdict(self._keys.read_reply(body, message))
        except (Rejected, ValueError) as exc:
            # A reply without a valid signature counts as silence.
            text = f"an answer from {shown(address)} does not count: {exc}"
            self._warn(f"{text}; have all processes the same secret?")
            raise Silent("an answer that is not signed") from None

    def _handle(self, body: bytes) -> tuple[int, bytes]:
        try:
            message = self._keys.read(body)
        except Rejected as exc:
            self._warn(f"a message was refused, because {exc}; have all processes the same secret?")
            return 403, b""
        answer = self._answers.get(message.to)
        if answer is None:
            return 421, b""
        return 200, self._keys.reply(message, answer(message).value)

    def _warn(self, text: str) -> None:
        self.rejected += 1
        now = self._monotonic()
        if now - self._warned_at >= _WARN_EVERY:
            self._warned_at = now
            telemetry.peers_noted(text, level=logging.WARNING)

    async def _find_host(self) -> str:
        """Return the address of this machine's interface towards etcd, else of the default route."""
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
    """Return the configured address, with the bound port if it names none."""
    if advertise.rpartition(":")[2].isdigit() and (":" not in advertise.rpartition(":")[0] or "]:" in advertise):
        return advertise
    return join_address(advertise.removeprefix("[").removesuffix("]"), bound)


def nonce() -> str:
    """Return a random word for one message."""
    return secrets.token_hex(8)


def _over_http() -> Network:
    # h11 is imported only with `failsafe=`.
    from tideover.elections.peers.http import HttpNetwork

    return HttpNetwork()
