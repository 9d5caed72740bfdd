"""These tests run on trio's mock clock: hours of outage in milliseconds."""

from __future__ import annotations

import pytest

from tests.support import mock_backend as anyio_backend
from tests.support import threads_stop_the_clock

__all__ = ["anyio_backend", "threads_stop_the_clock"]


@pytest.fixture(autouse=True)
def _ledgers_are_read_in_threads(threads_stop_the_clock: None) -> None:
    """They take no time, as long as the clock does not jump meanwhile."""
