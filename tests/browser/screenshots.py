"""Take the screenshots in docs/assets: `python -m tests.browser.screenshots FOLDER`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from tests.browser.chromium import LAUNCH
from tests.browser.support import Service, fill
from tideover.testing import EtcdCluster

_LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}


def take(browser: Browser, url: str, folder: Path, state: str) -> None:
    """Photograph the page in each look: what is seen first, and all of it."""
    for look, options in _LOOKS.items():
        context = browser.new_context(**options)
        page = context.new_page()
        page.goto(url, wait_until="domcontentloaded")
        page.wait_for_selector(f"body.is-{state}", timeout=30_000)
        time.sleep(1.5)
        page.screenshot(path=folder / f"status-{state}-{look}.png")
        page.screenshot(path=folder / f"whole-{state}-{look}.png", full_page=True)
        context.close()


def main(folder: Path) -> None:
    """Take them all."""
    folder.mkdir(exist_ok=True, parents=True)
    with tempfile.TemporaryDirectory() as place, EtcdCluster(3) as cluster, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**LAUNCH)
        fill(cluster)
        service = Service(cluster.endpoints, Path(place) / "shop")
        rival = Service(cluster.endpoints, Path(place) / "rival", locks=["stock/rebuild"])
        service.wait()
        rival.wait()
        time.sleep(3)
        cluster.lose_quorum()
        time.sleep(8)
        cluster.restore_quorum()
        time.sleep(12)
        take(browser, service.page, folder, "available")
        cluster.lose_quorum()
        time.sleep(25)
        take(browser, service.page, folder, "degraded")
        cluster.kill_all()
        service.stop()
        again = Service(cluster.endpoints, Path(place) / "shop")
        again.wait()
        time.sleep(5)
        take(browser, again.page, folder, "unavailable")
        again.stop()
        rival.stop()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
