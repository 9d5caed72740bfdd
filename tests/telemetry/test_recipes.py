"""The documentation's recipes for JSON logs, each run in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_code_blocks import ROOT, blocks_of

# What a coordinator says when an outage begins, under the two formatters' names for the text.
BEGINS = """
from tideover.telemetry import Outages
from tideover.types import Diagnosis, HealthState

Outages(lambda: 0.0, degraded_reads=lambda: 0).transition(
    HealthState.AVAILABLE,
    HealthState.DEGRADED,
    diagnosis=Diagnosis.QUORUM_LOST,
    reason="quorum_lost",
    sentence="etcd has no quorum",
    first=False,
)
"""


@pytest.mark.parametrize(("recipe", "text"), [("json_log.py", "message"), ("structured_log.py", "event")])
def test_fields_are_printed_without_parsing(recipe: str, text: str, tmp_path: Path) -> None:
    """The line of an outage's beginning is one JSON object with the fields that a log store is asked by."""
    page = ROOT / "docs" / "how-to" / "read-the-log.md"
    (block,) = (block for block in blocks_of(page) if block.title == recipe)
    (tmp_path / recipe).write_text(block.code + BEGINS)
    command = [sys.executable, recipe]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(done.stderr)
    assert found[text] == (
        "tideover.state.transition: etcd is degraded: etcd has no quorum; what is known is served meanwhile, and "
        "etcd is asked until it answers"
    )
    assert (found["event_name"], found["component"]) == ("tideover.state.transition", "config")
    assert (found["state"], len(found["outage_id"])) == ("degraded", 16)
    assert {"warning", "WARNING"} & {found.get("level"), found.get("levelname")}
