"""A service is restarted while etcd has a bad value for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.restarting import restart

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd, pytest.mark.takes(15)]


def test_no_restart_on_a_bad_value_fails(tmp_path: Path) -> None:
    """Each runs on what was accepted and says so in log, metric and status; a good value mends the last one."""
    restart(5, tmp_path)
