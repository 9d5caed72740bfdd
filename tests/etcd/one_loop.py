"""One event loop for all tests of a file that run a gRPC server, or gRPC's calls, in it.

gRPC's thread reports what has ended to the loop in which it began, some time after nobody waits for it any more.
If that loop is closed by then, the report raises in the loop of a later test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on asyncio, the only one that gRPC knows."""
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
async def one_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keep the loop until the file's last test has ended, and what it began has been reported."""
    yield
    await anyio.sleep(0.5)
