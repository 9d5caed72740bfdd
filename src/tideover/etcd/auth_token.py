"""Logging in: one token for all calls, renewed when etcd refuses it.

etcd needs a quorum to check a password and to hand out a token. So a refused login is a quorum's word, while a
token that cannot be renewed without a quorum is an outage. Where etcd has no users at all, calls go without a
token, as with etcd's own client, until etcd asks for one.

Prior art: `client/v3/retry_interceptor.go` of etcd renews upon "invalid auth token" and "user name is empty".
"""

from __future__ import annotations

import time
from dataclasses import replace
from weakref import WeakKeyDictionary

import anyio

from tideover.etcd.channel import MemberChannel, answer, translated
from tideover.etcd.messages import rpc
from tideover.etcd.password import PasswordSource
from tideover.store.faults import UNANSWERED, Fault, FaultKind, StoreFault

# Seconds for which a refused password is not tried again: each check costs etcd 0.1 s of a processor, and probes
# come several times a second.
_REFUSAL_HOLDS = 2.0

NOT_ENABLED = "authentication is not enabled"


class Login:
    """A user's token.

    One login at a time per member. All calls use the token of whichever member answered: every member learns of
    every token.
    """

    def __init__(self, username: str, password: PasswordSource) -> None:
        self.username = username
        self._password = password
        self._token: str | None = None
        # By connection, and gone with it: members come and go.
        self._locks: WeakKeyDictionary[MemberChannel, anyio.Lock] = WeakKeyDictionary()
        self._refusal: Fault | None = None
        self._refused: str | None = None
        self._refused_at = 0.0

    async def token(self, channel: MemberChannel, *, timeout: float, refused: str | None = None) -> str:
        """Return the token that all calls use, another than `refused`; empty if etcd has no users.

        Raises `StoreFault` without one. If etcd is away, the fault is an outage in which nothing was applied.
        """
        if self._token is not None and self._token != refused:
            return self._token
        lock = self._locks.setdefault(channel, anyio.Lock())
        with anyio.move_on_after(timeout):
            async with lock:
                if self._token is None or self._token == refused:
                    self._token = await self._authenticate(channel, timeout)
                return self._token
        fault = self._password.pending() or UNANSWERED
        raise StoreFault(replace(fault, applied=False))

    def forget(self, refused: str) -> None:
        """Drop a token that etcd has refused."""
        if self._token == refused:
            self._token = None

    async def aclose(self) -> None:
        """Stop asking for passwords."""
        await self._password.aclose()

    async def _authenticate(self, channel: MemberChannel, timeout: float) -> str:
        password = await self._password.ask()
        holds = time.monotonic() - self._refused_at < _REFUSAL_HOLDS
        if self._refusal is not None and holds and password == self._refused:
            raise StoreFault(self._refusal)
        request = rpc.AuthenticateRequest(name=self.username, password=password)
        try:
            with translated():
                ask = channel.auth.Authenticate
                reply = await answer(ask(request, timeout=timeout, metadata=(("hasleader", "true"),)))
        except StoreFault as exc:
            if NOT_ENABLED in exc.fault.message:
                return ""
            # The call that needed the token was never sent.
            fault = replace(exc.fault, applied=False)
            if fault.kind is FaultKind.AUTHENTICATION:
                self._refusal, self._refused, self._refused_at = fault, password, time.monotonic()
            raise StoreFault(fault) from exc
        self._refusal = self._refused = None
        token: str = reply.token
        return token


def metadata_of(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata that carries a token; none for an empty one."""
    return (("token", token),) if token else ()


def asks_for_token(fault: Fault, *, watch: bool = False) -> bool:
    """Whether a new token may help; etcd 3.5.1 calls a watch without a valid token a denied one."""
    return fault.kind is FaultKind.AUTH_TOKEN or (watch and fault.kind is FaultKind.PERMISSION)
