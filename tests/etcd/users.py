"""An etcd with users: root may do everything, app all with `/config/`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypedDict

import anyio
import anyio.to_thread

from tests.canaries import canary
from tideover.testing import EtcdCluster, EtcdServer

PASSWORD = canary("auth-password")
TTL = 4
"""Seconds that a token lives."""


class Login(TypedDict):
    """Who logs in, and with what."""

    username: str
    password: str


LOGIN = Login(username="app", password=PASSWORD)


@contextmanager
def guarded_etcd() -> Iterator[EtcdServer]:
    """Run an etcd that asks for a password, with the least cost of checking one."""
    with EtcdServer(args=(f"--auth-token-ttl={TTL}", "--bcrypt-cost=4")) as running:
        enable_auth(running)
        yield running


def enable_auth(etcd: EtcdServer | EtcdCluster) -> None:
    """Make the users root and app; app may do all with `/config/`."""
    for command in (
        "user add root:root",
        "user grant-role root root",
        "role add app",
        "role grant-permission --prefix=true app readwrite /config/",
        f"user add app:{PASSWORD}",
        "user grant-role app app",
        "auth enable",
    ):
        etcd.etcdctl(*command.split())


def administer(etcd: EtcdServer | EtcdCluster, *commands: str) -> None:
    """Run commands of etcdctl as root."""
    for command in commands:
        etcd.etcdctl("--user=root:root", *command.split())


async def root_does(server: EtcdServer, *commands: str) -> None:
    """Run commands of etcdctl as root, beside the event loop."""
    await anyio.to_thread.run_sync(administer, server, *commands)


async def until(condition: Callable[[], object], within: float) -> None:
    """Wait until something is true, at most so many seconds."""
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.01)
