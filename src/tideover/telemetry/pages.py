"""Pages for people, and who may see them."""

from __future__ import annotations

import logging

from tideover.telemetry.events import event


def page_open() -> None:
    """Report that a status page was mounted without authorization."""
    text = (
        "the status page is open to every client that reaches it: give status_app(authorize=...), or keep its "
        "path from the outside"
    )
    event("tideover.status.open", text, level=logging.WARNING)
