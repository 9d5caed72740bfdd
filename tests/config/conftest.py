"""These tests run on trio's mock clock: hours of outage in milliseconds."""

from __future__ import annotations

from tests.support import mock_backend as anyio_backend
from tests.support import threads_stop_the_clock

__all__ = ["anyio_backend", "threads_stop_the_clock"]
