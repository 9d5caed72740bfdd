"""Tests against real members run on asyncio: the real store is grpc.aio's."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio."""
    return "asyncio"
