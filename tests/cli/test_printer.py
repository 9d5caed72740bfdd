"""What commands print of what others have written: in one line each, without orders to the terminal, cut."""

from __future__ import annotations

import ast
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tideover
from tideover.cli import become_command
from tideover.cli.app import run
from tideover.cli.demo.timeline import Timeline
from tideover.cli.printer import LONGEST_TEXT, Styled, print_json, print_line
from tideover.clock import Clock
from tideover.discovery.endpoint import Endpoint
from tideover.elections.record_document import RecordDocument
from tideover.etcd.adapter import EtcdStore
from tideover.holders import Holder
from tideover.prefixes.snapshots.snapshot import Snapshot
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.shown import LONGEST_LINE
from tideover.store.operations import Put
from tideover.testing.etcd import EtcdServer
from tideover.types import Entry

CLI = Path(tideover.__file__).parent / "cli"
# Orders to a terminal, what a terminal takes for a new line, what changes the direction of writing, and halves.
HOSTILE = [
    "\x1b[2J\x1b]0;title\x07",
    "\rforged: first",
    "\nforged: second",
    "\x85forged\x9b31m",
    "\u202eright to left\u2066",
    "\u2028forged\u2029\x0b\x0c\x1c",
    "\x7f\x08\x08",
    "x" * 3000,
]
BYTES = [text.encode() for text in HOSTILE] + [b"\xff\xfe\x1b[31m", b"\xc2"]

texts = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=())), st.text())


# The one door --------------------------------------------------------------------------------------------------

# Each with the reason why it has a way of its own.
_OTHERS = {
    "printer.py": "it is the door",
    "__init__.py": "click may be missing; the text is ours",
    "become_command.py": "an interpreter without tideover; see `_shown` there",
    "command.py": "hands standard output to the demo, which prints to it through the printer",
}
_CLICK = (
    "echo",
    "secho",
    "echo_via_pager",
    "prompt",
    "confirm",
    "style",
    "progressbar",
    "pause",
    "get_text_stream",
)
_WAYS = {"print", "os.write", "sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}
_WAYS |= {f"click.{way}" for way in _CLICK}


def test_every_command_prints_through_the_printer() -> None:
    """No module of the command line but the printer writes to standard output, standard error or the terminal."""
    found = {
        path.name
        for path in CLI.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in _WAYS
    }
    assert found == set(_OTHERS)


@given(texts, texts)
def test_a_line_is_one_line(one: str, two: str) -> None:
    """Whatever its parts are, a line is printable, and not longer than a sentence with a few names in it."""
    out = io.StringIO()
    print_line(one, Styled(two, "red", bold=True), to=out)
    line, end = out.getvalue().split("\n")
    assert line.isprintable()
    assert len(line) <= 2 * LONGEST_LINE
    assert end == ""


@given(texts, st.dictionaries(texts, texts, max_size=3))
def test_json_is_one_line_with_the_text_as_it_is(one: str, more: dict[str, str]) -> None:
    """JSON is ASCII in one line, and has the text itself: cut, but for what was asked for."""
    out = io.StringIO()
    print_json({"asked": one, "cut": [one], "more": more}, whole=["asked"], to=out)
    line, end = out.getvalue().split("\n")
    assert (line.isascii(), line.isprintable(), end) == (True, True, "")
    found = json.loads(line)
    assert found["asked"] == one
    (cut,) = found["cut"]
    assert len(cut) <= LONGEST_TEXT
    assert cut == one or (len(one) > LONGEST_TEXT and cut.endswith("..."))


def test_a_text_that_nobody_asked_for_is_cut() -> None:
    """A text of a megabyte is shown up to its bound, within lists too; one that was asked for is whole."""
    out = io.StringIO()
    print_json({"asked": "x" * 2**20, "a": "x" * 2**20, "b": [{"x" * 2**20: "y"}]}, whole=["asked"], to=out)
    assert len(out.getvalue()) < 2**20 + 3 * LONGEST_TEXT


@given(texts)
def test_the_demo_escapes_what_it_says(text: str) -> None:
    """A log's end or an error within the demo's lines gives no orders either."""
    out = io.StringIO()
    timeline = Timeline(out, as_json=False)
    timeline.happened("died", f"it died: {text}")
    timeline.print_text(f"  - {text}")
    assert all(line.isprintable() for line in out.getvalue().split("\n"))


# The real commands -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """Run an etcd in which others have written harm wherever a command looks."""
    with EtcdServer() as running:
        running.wait_ready()
        anyio.run(_write_harm, running.endpoint)
        yield running


async def _write_harm(endpoint: str) -> None:
    others = EtcdStore([endpoint])
    try:
        for number, raw in enumerate(BYTES):
            text = raw.decode(errors="replace")
            document = RecordDocument(text, 1, text, 15.0, text, address=text, value=text, candidates=(text, text))
            held = Holder(text, text).encode()
            reached = Endpoint(f"http://a/{text}", metadata={text: text}, process=text)
            for key, value in {
                b"config/" + raw: raw,
                b"config/%d" % number: raw,
                b"services/" + raw + b"/i/x": raw,
                b"services/api/" + raw + b"/x": reached.encode(),
                b"services/api/%d/x" % number: reached.encode(),
                b"elections/%d" % number: document.encode(),
                b"elections/" + raw: raw,
                b"elections/corrupt": raw,
                b"locks/%d/" % number + raw: held,
                b"locks/%d/1" % number: raw,
                b"tideover/ledger/" + raw: raw,
                b"tideover/sessions/" + raw: raw,
            }.items():
                await others.call(Put(b"/shop/" + key, value), member=others.members[0], timeout=5)
            await others.call(Put(raw + b"/config/x", b""), member=others.members[0], timeout=5)
    finally:
        await others.aclose()


def _check(output: str) -> None:
    *lines, end = output.split("\n")
    assert end == ""
    for line in lines:
        assert line.isprintable()
        assert not line.startswith("forged")
        assert len(line) <= LONGEST_LINE + len("tideover: ")


def _check_json(output: str) -> None:
    *lines, end = output.split("\n")
    assert end == ""
    for line in lines:
        assert line.isascii()
        assert line.isprintable()
        assert isinstance(json.loads(line), dict)


@pytest.fixture
def command(
    server: EtcdServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """Return what runs a command on that etcd and checks all that it prints."""
    # Else the commands set it, for all tests that follow.
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")

    def go(*args: str) -> int:
        at = 2 if args[0] in ("election", "config") else 1
        code = run([*args[:at], "-e", server.endpoint, "-n", "/shop", *args[at:]])
        found = capsys.readouterr()
        _check(found.err)
        _check_json(found.out) if "--json" in args else _check(found.out)
        return code

    return go


@pytest.mark.etcd
@pytest.mark.any_etcd
@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
def test_commands_escape_what_etcd_has(command: Callable[..., int], as_json: tuple[str, ...]) -> None:
    """No key, value, name, URL, metadata or record in etcd gives an order to the terminal or forges a line."""
    assert command("status", *as_json) == 0
    assert command("doctor", *as_json) == 1
    assert command("services", *as_json) == 0
    assert command("resolve", "api", *as_json) == 0
    assert command("namespaces", *as_json) == 0


@pytest.mark.etcd
@pytest.mark.any_etcd
def test_records_and_lines_of_others_are_escaped(command: Callable[..., int]) -> None:
    """An election's record and a lock's line may say anything of whoever wrote them; both are shown escaped."""
    for number in range(len(BYTES)):
        assert command("election", "show", str(number), *(["--json"] if number % 2 else [])) in (0, 1)
    assert command("election", "show", "corrupt") == 1
    for name in ("0", "1", "8"):
        assert command("lock", name, "--timeout", "0.1", "--", "true") == 1
    for name in ("2", "3", "8"):
        assert command("lead", name, "--timeout", "0.1", "--", "true") in (1, 5)


@pytest.mark.parametrize("text", HOSTILE)
def test_arguments_are_escaped_where_they_are_repeated(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Arguments may be names of files, or come from a list that others have written: click repeats them."""
    for args in (
        [text],
        ["status", text],
        ["status", "-e", text],
        ["status", "-n", f"{text}/"],
        ["status", "--cert", text[:90]],
        ["config", text],
        ["resolve", "api", "--from", text[:90]],
        ["cache", "show", text[:90]],
        ["lock", "x", "--ttl", text, "--", "true"],
        ["lead", "x", "--on-outage", text, "--", "true"],
        ["status", "--user", text, "-e", "127.0.0.1:1"],
    ):
        assert run(args) == 2
        found = capsys.readouterr()
        assert found.out == ""
        _check(found.err)


def test_names_and_contents_of_files_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`cache show` and `cache verify` name the folder and its files, whole and damaged ones, escaped."""
    folder = tmp_path / "\x1b[2J\nforged \u202e"
    folder.mkdir()
    for number, raw in enumerate(BYTES):
        name = b"config-%d-" % number + raw[:40].replace(b"/", b"") + b".json"
        (folder / os.fsdecode(name)).write_bytes(raw)
    prefix = b"/shop/\x1b[2J/config/"
    whole = SnapshotFile(
        folder, SnapshotOwner("/shop", ["\x1b[31m:1"], "\nforged"), prefix=prefix, component="config"
    )
    stamp = Clock().stamp()
    origin = {"endpoints": tuple(whole.owner.endpoints), "user": "\nforged"}
    entries = {prefix + b"k": Entry(b"v", 1, 1)}
    assert whole.save(
        Snapshot(prefix, 1, 0, 1, 1, entries=entries, synced_at=stamp, saved_at=stamp, **origin)  # type: ignore[arg-type]
    )
    for args in (["cache", "show", str(folder)], ["cache", "verify", str(folder)]):
        for as_json in ([], ["--json"]):
            assert run([*args, *as_json]) == 1
            found = capsys.readouterr()
            assert found.err == ""
            (_check_json if as_json else _check)(found.out)
    (folder / "empty").mkdir()
    assert run(["cache", "show", str(folder / "empty")]) == 0
    _check(capsys.readouterr().out)
    away = ["resolve", "api", "-n", "/shop", "-e", "127.0.0.1:1", "--cache-dir", str(folder)]
    assert run(away) == 4
    _check(capsys.readouterr().err)


@pytest.mark.etcd
@pytest.mark.any_etcd
def test_changes_are_escaped(server: EtcdServer) -> None:
    """`config watch` prints each change as one line, whatever its key and its value are."""
    line = [sys.executable, "-P", "-m", "tideover.cli", "config", "watch", "-e", server.endpoint, "-n", "/shop"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert b"waiting for changes" in process.stderr.readline()
        anyio.run(_write_harm, server.endpoint)
        said = b"".join(process.stdout.readline() for _ in range(2 * len(BYTES)))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    _check(said.decode())


@pytest.mark.etcd
@pytest.mark.any_etcd
def test_a_value_that_is_asked_for_is_printed_as_it_is(
    server: EtcdServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`config get` gives the bytes, on purpose: its output is the value; its JSON has the whole value."""
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    where = ["-e", server.endpoint, "-n", "/shop"]
    assert run(["config", "get", "0", *where]) == 0
    assert capsys.readouterr().out == f"{HOSTILE[0]}\n"
    assert run(["config", "get", "--json", "7", *where]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == HOSTILE[7]


def test_a_command_that_cannot_be_run_is_named_escaped() -> None:
    """What becomes the command has no tideover to print with, and escapes its name all the same."""
    script = [
        sys.executable,
        "-I",
        "-S",
        become_command.__file__,
        "1",
        "0",
        "2",
        "no/\x1b[31m\nforged" + "x" * 999,
    ]
    done = subprocess.run(script, capture_output=True, text=True, timeout=30)
    assert done.returncode in (126, 127)
    _check(done.stderr)


def test_a_crash_and_the_lines_of_libraries_are_escaped() -> None:
    """A traceback of an error that nobody has foreseen gives no orders either, nor does what a library logs."""
    code = (
        "import logging\n"
        "from tideover.cli import app, main\n"
        "def run():\n"
        f"    logging.getLogger('somebody').warning({HOSTILE[0] + HOSTILE[2]!r})\n"
        f"    raise ZeroDivisionError({HOSTILE[0] + HOSTILE[2]!r})\n"
        "app.run = run\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.startswith(r"tideover: somebody: \x1b[2J")
    assert r"ZeroDivisionError: \x1b[2J" in done.stderr
    _check(done.stderr)
