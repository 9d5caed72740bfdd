"""What a call raises, whichever transport it takes.

The transport of our own raises the classes here; gRPC raises its own, which are found without importing it: what
was never imported has raised nothing.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

# What is said of a reply that is none of etcd's messages; gRPC says the same where it says anything.
UNREADABLE: Final = "Exception deserializing response!"


class RpcError(Exception):
    """Raised when a call over HTTP/2 has ended with another status than OK; it has the shape of grpc.aio's."""

    def __init__(self, code: Any, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self._code = code
        self._details = details

    def code(self) -> Any:
        """Return the status."""
        return self._code

    def details(self) -> str:
        """Return what was said of it."""
        return self._details


class UsageError(Exception):
    """Raised when a channel or a stream is used that has ended."""


def rpc_errors() -> tuple[type[Any], ...]:
    """Return the classes of calls that have ended with an error."""
    grpc = sys.modules.get("grpc.aio")
    return (RpcError,) if grpc is None else (RpcError, grpc.AioRpcError)


def usage_errors() -> tuple[type[Any], ...]:
    """Return the classes of channels and calls that were used after their end."""
    grpc = sys.modules.get("grpc.aio")
    ours = (UsageError, asyncio.InvalidStateError)
    return ours if grpc is None else (*ours, grpc.UsageError)


def write_errors() -> tuple[type[Any], ...]:
    """Return the classes of streams that have ended, whyever."""
    return (*rpc_errors(), *usage_errors())
