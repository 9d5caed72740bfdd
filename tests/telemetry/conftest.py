"""Every test here has an SDK with nothing in it, and a clock that jumps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import mock_trio
from tests.telemetry.everything import at_once
from tests.telemetry.recording import Recorded, install


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """An SDK with nothing in it yet."""
    found = install()
    found.clear()
    yield found
    found.clear()


@pytest.fixture
def disk_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read and write the disk without a thread."""
    at_once(monkeypatch)
