"""What a run leaves behind when rows fail or the run is interrupted; nothing here measures anything."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as program
from benchmarks import scripts
from benchmarks.harness import Comparison, Goal, NotMeasured, Row


def _row(name: str, measure: Callable[[], Awaitable[Sequence[Comparison]]]) -> Row:
    return Row(name, "it", "a peer", {"it": Goal(2)}, measure)


async def _measured() -> Sequence[Comparison]:
    return [Comparison("it", 1.0, "a peer", 1.0)]


def _raising(error: BaseException) -> Callable[[], Awaitable[Sequence[Comparison]]]:
    async def measure() -> Sequence[Comparison]:
        raise error

    return measure


def _run(monkeypatch: pytest.MonkeyPatch, file: Path, *rows: Row) -> tuple[int, Any]:
    monkeypatch.setattr(program, "ROWS", rows)
    code = program.main(["--json", str(file)])
    return code, json.loads(file.read_text())


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (NotMeasured("there is no Go"), "there is no Go"),
        (RuntimeError("go build failed"), "RuntimeError('go build failed')"),
        (ExceptionGroup("several", [OSError("no etcd")]), "ExceptionGroup('several', [OSError('no etcd')])"),
    ],
)
def test_a_row_that_fails_does_not_take_the_others_with_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    error: Exception,
    why: str,
) -> None:
    """The rows before and after are shown and written, the failed one is named with its reason, the code is 1."""
    rows = _row("before", _measured), _row("without", _raising(error)), _row("after", _measured)
    code, written = _run(monkeypatch, tmp_path / "out.json", *rows)
    assert code == 1
    assert f"not measured: without: {why}" in capsys.readouterr().out
    assert [one["row"] for one in written["results"]] == ["before", "after"]
    assert written["not measured"] == {"without": why}


def test_an_interrupted_run_shows_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Ctrl-C ends the row and all after it; those before are shown and written, and the code is 1."""
    rows = _row("before", _measured), _row("hit", _raising(KeyboardInterrupt())), _row("after", _measured)
    code, written = _run(monkeypatch, tmp_path / "out.json", *rows)
    shown = capsys.readouterr().out
    assert code == 1
    assert "| it " in shown
    assert "not measured: after: interrupted" in shown
    assert [one["row"] for one in written["results"]] == ["before"]
    assert list(written["not measured"]) == ["hit", "after"]


def test_results_are_written_as_they_come(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """While a later row is measured, the file and the terminal already have the earlier ones."""
    file = tmp_path / "out.json"
    seen: list[object] = []

    async def look() -> Sequence[Comparison]:
        seen.append([one["row"] for one in json.loads(file.read_text())["results"]])
        seen.append("| it " in capsys.readouterr().err)
        return await _measured()

    code, _ = _run(monkeypatch, file, _row("before", _measured), _row("looking", look))
    assert (code, seen) == (0, [["before"], True])


@pytest.mark.anyio
async def test_measured_processes_find_everything_compiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A script's second process runs the compiled module, also where the environment keeps Python from writing."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    module = tmp_path / "made_for_this.py"
    module.write_text("")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import importlib.util, os\n"
        "compiled = importlib.util.cache_from_source(importlib.util.find_spec('made_for_this').origin)\n"
        "there = os.path.exists(compiled); import made_for_this; print(float(there))"
    )
    async with scripts.compiled() as processes:
        times = await processes.by_turns({"it": script}, rounds=2)
    assert [one["it"] for one in times.rounds] == [1.0, 1.0]
    assert not list(tmp_path.glob("__pycache__"))


@pytest.fixture
def anyio_backend() -> str:
    """The benchmarks run on asyncio."""
    return "asyncio"
