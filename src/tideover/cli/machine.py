"""What `tideover doctor` finds on this machine: its disk and its clocks."""

from __future__ import annotations

import http.client
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from tempfile import TemporaryFile

import anyio
import anyio.to_thread

from tideover.cli.findings import Finding
from tideover.clock import system_boot_id
from tideover.paths import default_folder

# Seconds for a member's date.
_TIMEOUT = 2.0
# Seconds by which clocks may differ: an HTTP date has whole seconds.
_CLOCK_LIMIT = 2.0


async def judge_machine(endpoints: Sequence[str], cache_dir: Path | None) -> list[Finding]:
    """Check that snapshots can be written, that a boot has an id, and that the members' clocks agree."""
    findings = [await anyio.to_thread.run_sync(_judge_folder, cache_dir)]
    if not system_boot_id():
        findings.append(Finding("clock", None, "no boot id: after a restart ages are told by the wall clock"))
    clocks: list[Finding] = []

    async def compare(endpoint: str) -> None:
        found = await anyio.to_thread.run_sync(_judge_clock, endpoint)
        if found is not None:
            clocks.append(found)

    async with anyio.create_task_group() as tasks:
        for endpoint in endpoints:
            tasks.start_soon(compare, endpoint)
    return findings + sorted(clocks, key=lambda finding: finding.text)


def _judge_clock(endpoint: str) -> Finding | None:
    """Compare this machine's wall clock with a member's; None if the member's is unknown, as with TLS."""
    host, _, port = endpoint.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_TIMEOUT)
    try:
        connection.request("GET", "/version")
        date = connection.getresponse().getheader("Date")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    if date is None:
        return None
    # The date is cut to the second: half a second is its middle.
    apart = time.time() - parsedate_to_datetime(date).timestamp() - 0.5
    text = f"{endpoint} is within {_CLOCK_LIMIT:.0f} s of this machine"
    if abs(apart) > _CLOCK_LIMIT:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        text = f"{endpoint} is {abs(apart):.0f} s {'behind' if apart > 0 else 'ahead'}; here it is {now}"
    return Finding("clock", abs(apart) <= _CLOCK_LIMIT, text)


def _judge_folder(cache_dir: Path | None) -> Finding:
    try:
        folder = cache_dir or default_folder()
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with TemporaryFile(dir=existing):
            return Finding("disk", True, f"snapshots can be written to {folder}")
    except (OSError, RuntimeError) as exc:
        return Finding("disk", False, f"snapshots cannot be written: {exc}")
