"""What people see who type a command for the first time, or wait for one."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from tideover.cli.app import run
from tideover.cli.demo.timeline import Timeline
from tideover.etcd import raw_lines


@pytest.mark.parametrize("args", [[], ["config"], ["cache"], ["election"]])
def test_a_group_of_commands_alone_prints_its_help(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The whole help and nothing else, on stdout, as with `--help`."""
    assert run(args) == 0
    alone = capsys.readouterr()
    assert run([*args, "--help"]) == 0
    assert alone.out == capsys.readouterr().out
    assert (alone.out.startswith("Usage: tideover"), alone.err) == (True, "")


def test_a_candidate_says_that_etcd_is_away() -> None:
    """`lead --timeout` without etcd says what it waits for and why, and 4 tells that from "another one leads"."""
    command = [sys.executable, "-P", "-m", "tideover.cli", "lead", "reaper", "-n", "/shop", "-e", "127.0.0.1:1"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEOVER_")}
    done = subprocess.run(
        [*command, "--timeout", "1.5", "--", "true"], env=kept, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "tideover: no etcd member answers; waiting for the leadership of 'reaper', /shop/elections/reaper in etcd",
        "tideover: 'reaper': not elected within 1.5 s, because no etcd member answers",
    ]


def test_the_demo_stays_within_80_columns() -> None:
    """Long lines are broken between words and keep their indentation; what people copy stays whole."""
    out = io.StringIO()
    timeline = Timeline(out, as_json=False)
    timeline.happened("restart", "RESTARTED " + "the service while etcd is dead " * 5 + "\nand more " * 12)
    timeline.print_text(
        "  - " + "a claim that did not hold " * 8 + "\n\n    curl http://127.0.0.1:8000/" + "x" * 90
    )
    timeline.answers(phase="", etcd="unavailable", source="memory", age=12.3, price=2.5, per_second=150, failed=0)
    *lines, _ = out.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines if "curl" not in line)
    assert [line for line in lines if line.endswith("x" * 90)] == ["    curl http://127.0.0.1:8000/" + "x" * 90]
    assert len(out.getvalue().splitlines()[-1]) <= 80


def test_programs_under_a_lock_do_not_inherit_the_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps gRPC off stderr is the command's own; somebody else's wish stays, here and there."""
    monkeypatch.setattr(raw_lines, "_silenced", False)
    monkeypatch.setenv("GRPC_VERBOSITY", "DEBUG")
    raw_lines.silence()
    assert raw_lines.without_ours(os.environ)["GRPC_VERBOSITY"] == "DEBUG"
    monkeypatch.delenv("GRPC_VERBOSITY")
    raw_lines.silence()
    assert os.environ["GRPC_VERBOSITY"] == "NONE"
    assert "GRPC_VERBOSITY" not in raw_lines.without_ours(os.environ)
