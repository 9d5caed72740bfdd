"""How the benchmarks speak to the Go client; Go itself is not needed here."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import go_client
from benchmarks.harness import Comparison, Goal, NotMeasured, Row


@pytest.fixture
def anyio_backend() -> str:
    """The benchmarks run on asyncio, as aetcd does."""
    return "asyncio"


def _fake(folder: Path, body: str) -> Path:
    path = folder / "fake"
    path.write_text(f"#!{sys.executable}\nimport json, sys\n{body}")
    path.chmod(0o755)
    return path


def test_without_go_the_message_names_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever has no Go reads which of Debian's packages are missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotMeasured, match="golang-go golang-etcd-server-dev"):
        go_client.build()


@pytest.mark.anyio
async def test_each_round_is_one_line(tmp_path: Path) -> None:
    """The program says that it is ready, and then answers each request for a round with what it found."""
    body = """
print(json.dumps({"ready": True}), flush=True)
for n, line in enumerate(sys.stdin):
    print(json.dumps({"round": n, "arguments": sys.argv[1:]}), flush=True)
"""
    async with go_client.running("reads", "-keys", "3", program=_fake(tmp_path, body)) as client:
        assert [await client.round() for _ in range(2)] == [
            {"round": n, "arguments": ["reads", "-keys", "3"]} for n in range(2)
        ]


@pytest.mark.anyio
async def test_a_program_that_fails_is_an_error(tmp_path: Path) -> None:
    """What it said on its standard error is in the message."""
    body = 'print(json.dumps({"ready": True}), flush=True); sys.stdin.readline(); sys.exit("no etcd there")'
    with pytest.raises(RuntimeError, match="no etcd there"):
        async with go_client.running("reads", program=_fake(tmp_path, body)) as client:
            await client.round()


def test_a_row_that_cannot_be_measured_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The other rows are shown, the missing one is named with its reason, and the exit code is 1."""

    async def measure() -> Sequence[Comparison]:
        return [Comparison("it", 1.0, "a peer", 1.0)]

    async def cannot() -> Sequence[Comparison]:
        raise NotMeasured("there is no Go")

    goals = {"it": Goal(2)}
    rows = (Row("without", "it", "a peer", goals, cannot), Row("with", "it", "a peer", goals, measure))
    monkeypatch.setattr(program, "ROWS", rows)
    assert program.main(["--json", str(tmp_path / "out.json")]) == 1
    assert "not measured: without: there is no Go" in capsys.readouterr().out
    assert [one["row"] for one in json.loads((tmp_path / "out.json").read_text())["results"]] == ["with"]
