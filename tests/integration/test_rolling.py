"""The service that the documentation builds is restarted while it is called, with etcd well."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.integration.rolling import roll
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd, pytest.mark.takes(15)]


def test_nobody_notices_a_rolling_restart(tmp_path: Path) -> None:
    """Under uvicorn with two workers and under gunicorn: no call fails, and none is marked as degraded."""
    with EtcdServer() as etcd:
        heard = asyncio.run(roll(2, folder=tmp_path, endpoint=etcd.endpoint, every=0.2))
    assert heard.wrong == []
    assert heard.calls > 10
