"""The libraries that the same tests are run with: at run time `httpx` is the one whose turn it is.

For the type checker it is httpx itself: both have the same names.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest

LIBRARIES = ("httpx", "httpx2")
_turn: list[str] = []


class _Library:
    """The library whose turn it is."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(_turn[-1]), name)


httpx = _Library()


def ours() -> Any:
    """Return our module for the library whose turn it is."""
    return importlib.import_module(f"tideover.contrib.{_turn[-1]}")


def DiscoveryTransport(*args: Any, **options: Any) -> Any:
    """Make the transport for it."""
    return ours().DiscoveryTransport(*args, **options)


def SyncDiscoveryTransport(*args: Any, **options: Any) -> Any:
    """Make the transport for it, without async."""
    return ours().SyncDiscoveryTransport(*args, **options)


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    """Give each library its turn."""
    _turn.append(request.param)
    yield request.param
    _turn.pop()
