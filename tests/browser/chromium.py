"""Debian's Chromium, which has no other network than loopback."""

from __future__ import annotations

import os
import shutil
from typing import Any

LAUNCH: dict[str, Any] = {
    "executable_path": os.environ.get("TIDEOVER_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium",
    "args": [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ],
}
