"""The recorder: one line per event, in one order, whatever kills the process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.history.events import Event
from tests.history.recorder import Recorder, machine_clock, read_file, read_history

ROOT = Path(__file__).parents[2]


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    """Events come back as recorded, with pid and process, also an infinite age."""
    with Recorder(tmp_path, "one", clock=lambda: 5.0) as recorder:
        recorder.record("reading", key="k", age=float("inf"))
        assert read_history(tmp_path) == [
            Event(5.0, recorder.pid, "one", "reading", {"key": "k", "age": float("inf")})
        ]


def test_histories_are_merged_by_the_clock(tmp_path: Path) -> None:
    """Several processes make one history, in the order of time."""
    times = iter([1.0, 4.0, 2.0, 3.0])
    with Recorder(tmp_path, "a", clock=lambda: next(times)) as a, Recorder(tmp_path, "b", clock=a._clock) as b:
        for recorder in (a, a, b, b):
            recorder.record("note")
    assert [(event.at, event.process) for event in read_history(tmp_path)] == [
        (1.0, "a"),
        (2.0, "b"),
        (3.0, "b"),
        (4.0, "a"),
    ]


def test_the_clock_is_the_machines(tmp_path: Path) -> None:
    """Another process's event lies between two readings of our own clock."""
    code = (
        "from tests.history.recorder import Recorder\n"
        f"with Recorder({str(tmp_path)!r}, 'other') as recorder: recorder.record('note')"
    )
    before = machine_clock()
    subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}, check=True
    )
    (event,) = read_history(tmp_path)
    assert before < event.at < machine_clock()


def test_nothing_recorded_is_lost_to_kill_9(tmp_path: Path) -> None:
    """A process that kills itself with SIGKILL right after an event leaves all its events."""
    code = (
        "import os\nfrom tests.history.recorder import Recorder\n"
        f"recorder = Recorder({str(tmp_path)!r}, 'victim')\n"
        "for number in range(1000): recorder.record('note', number=number)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"})
    assert done.returncode == -signal.SIGKILL
    assert [event["number"] for event in read_history(tmp_path)] == list(range(1000))


@pytest.mark.parametrize("kept", [0, 1, 20, -1])
def test_a_torn_last_line_is_left_out(tmp_path: Path, kept: int) -> None:
    """A last line cut anywhere is as if it had not been begun."""
    with Recorder(tmp_path, "torn") as recorder:
        recorder.record("first")
        whole = recorder.path.read_bytes()
        recorder.record("second")
        last = recorder.path.read_bytes()[len(whole) :]
        recorder.path.write_bytes(whole + last[:kept])
    assert [event.kind for event in read_file(recorder.path)] == ["first"]


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"at": 1}', b"\xff"])
def test_a_bad_line_elsewhere_is_refused(tmp_path: Path, line: bytes) -> None:
    """A whole line that is no event is damage, and is named."""
    path = tmp_path / "bad-1.jsonl"
    path.write_bytes(line + b"\n")
    with pytest.raises(ValueError, match=r"bad-1\.jsonl:1"):
        read_file(path)


def test_a_file_is_never_continued(tmp_path: Path) -> None:
    """A second process of the same id and name does not append to the first one's file."""
    with Recorder(tmp_path, "twin"), pytest.raises(FileExistsError):
        Recorder(tmp_path, "twin")
