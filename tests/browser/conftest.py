"""These tests need a browser and what drives it: `nox -s browser` has both; elsewhere they are not collected."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.chromium import LAUNCH
from tests.browser.support import Service, fill
from tideover.testing import EtcdCluster

if TYPE_CHECKING:
    from playwright.sync_api import Browser

collect_ignore_glob = [] if importlib.util.find_spec("playwright") else ["test_*.py", "screenshots.py"]


class Shop:
    """A service on a cluster of three, which may lose its quorum.

    Args:
        cluster: The cluster.
        service: The service.
    """

    def __init__(self, cluster: EtcdCluster, service: Service) -> None:
        self.cluster = cluster
        self.service = service
        self.page = service.page

    def lose_soon(self, seconds: float) -> threading.Timer:
        """Lose the quorum while the browser does something else."""
        timer = threading.Timer(seconds, self.cluster.lose_quorum)
        timer.start()
        return timer

    def pause(self) -> None:
        """Let the service stand still."""
        os.kill(self.service.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        os.kill(self.service.process.pid, signal.SIGCONT)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Run the service; all members answer."""
    folder: Path = tmp_path_factory.mktemp("shop")
    with EtcdCluster(3) as cluster:
        fill(cluster)
        service = Service(cluster.endpoints, folder)
        try:
            service.wait()
            yield Shop(cluster, service)
        finally:
            service.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Run Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**LAUNCH)
        yield browser
        browser.close()


LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
    "forced": {"forced_colors": "active", "viewport": {"width": 1280, "height": 900}},
}
