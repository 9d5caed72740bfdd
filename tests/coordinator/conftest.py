"""These tests run on trio's mock clock: hours of outage in milliseconds."""

from __future__ import annotations

from tests.support import mock_backend as anyio_backend

__all__ = ["anyio_backend"]
