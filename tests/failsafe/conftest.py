"""These tests run on trio's mock clock: hours of outage in milliseconds."""

from __future__ import annotations

import pytest

from tests.support import mock_trio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()
