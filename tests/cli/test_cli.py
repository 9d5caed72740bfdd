"""The command line, run as users and scripts run it: output, complaints and exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import pytest

from tideover.cli.app import run
from tideover.cli.exit_codes import Exit, exit_of_error
from tideover.clock import Clock
from tideover.errors import (
    CircuitOpen,
    ConfigKeyError,
    LockTimeout,
    NoQuorum,
    OutcomeUnknown,
    PermissionDenied,
    TideoverError,
    Unreachable,
)
from tideover.prefixes.snapshots.snapshot import Accepted, Snapshot
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.prefixes.snapshots.snapshot_reading import read
from tideover.testing.etcd import EtcdCluster, EtcdServer
from tideover.testing.etcd import http as etcd_http
from tideover.types import Component, Entry, HealthState

_COMMAND = (sys.executable, "-P", "-m", "tideover.cli")
_NOWHERE = "127.0.0.1:1"
_GRPC = tuple(map(int, re.findall(r"\d+", version("grpcio"))))


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        """The one JSON object it printed."""
        parsed = json.loads(self.out)
        assert isinstance(parsed, dict)
        return parsed


def tideover(*args: str, endpoints: str | None = None) -> Done:
    """Run a command; nothing it prints may be a traceback."""
    done = subprocess.run(
        [*_COMMAND, *args],
        env=_environment(endpoints),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "Traceback" not in done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def _environment(endpoints: str | None) -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key != "TIDEOVER_ENDPOINTS"}
    return environment if endpoints is None else {**environment, "TIDEOVER_ENDPOINTS": endpoints}


# Help and usage ------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_the_exit_codes() -> None:
    """`tideover --help` says what there is, what to try first, and what scripts may rely on."""
    done = tideover("--help")
    assert done.code == 0
    for expected in ("demo", "status", "doctor", "config", "cache", "Try `tideover demo` first", "130 Ctrl-C"):
        assert expected in " ".join(done.out.split())


def test_help_into_a_full_disk_is_one_line_and_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Help and version are printed by click, and are output like any other."""
    for args in (["--help"], ["config", "list", "-h"], ["--version"]):
        with Path("/dev/full").open("w") as full, monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", full)
            assert run(args) == 1
        assert capsys.readouterr().err == "tideover: the output cannot be written: No space left on device\n"


def test_help_is_quick_because_commands_are_imported_when_used() -> None:
    """The help imports neither grpc nor a web server nor an HTTP client."""
    code = (
        "import sys; from tideover.cli.app import run; run(['--help'])\n"
        "print([m for m in ('grpc', 'httpx', 'uvicorn', 'starlette') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines()[-1] == "[]"


def test_without_click_the_extra_is_named() -> None:
    """Without the extra the command says in one line what to install, and exits with 2."""
    code = "import sys; sys.modules['click'] = None; from tideover.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip() == "tideover: the command line needs click: pip install 'tideover[cli]'"


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (
            ["nope"],
            "no such command: 'nope'; there are demo, status, doctor, lock, lead, election, config, "
            "namespaces, services, resolve, fleet, assets, cache, completion; see `tideover --help`",
        ),
        (["config", "get"], "Missing argument 'KEY'; see `tideover config get --help`"),
        (["status", "-e", "foo"], "need host:port"),
        (["status", "-n", "x/", "-e", _NOWHERE], "namespace must have no NUL and not end in a slash"),
        (["cache", "show", "/no/such/folder"], "does not exist"),
        (["demo", "--rate", "0"], "'--rate'"),
    ],
)
def test_wrong_usage_is_one_line_and_2(args: list[str], complaint: str) -> None:
    """A wrong command line exits with 2 and one line that says what is wrong."""
    done = tideover(*args)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert complaint in done.err


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (CircuitOpen("", retry_after=1), HealthState.DEGRADED, Exit.DEGRADED),
        (CircuitOpen("", retry_after=1), HealthState.UNAVAILABLE, Exit.UNAVAILABLE),
        (NoQuorum(), HealthState.AVAILABLE, Exit.DEGRADED),
        (Unreachable(), HealthState.AVAILABLE, Exit.UNAVAILABLE),
        (OutcomeUnknown(), HealthState.UNAVAILABLE, Exit.UNKNOWN),
        (LockTimeout(), HealthState.AVAILABLE, Exit.FAILED),
        (LockTimeout(), HealthState.DEGRADED, Exit.DEGRADED),
        (LockTimeout(), HealthState.UNAVAILABLE, Exit.UNAVAILABLE),
        (PermissionDenied(), HealthState.AVAILABLE, Exit.REFUSED),
        (ConfigKeyError("k", ""), HealthState.AVAILABLE, Exit.REFUSED),
    ],
)
def test_an_outage_a_refusal_and_an_unknown_outcome_have_codes_of_their_own(
    error: TideoverError, state: HealthState, code: Exit
) -> None:
    """A script can tell "etcd is away" from "no" from "perhaps"."""
    assert exit_of_error(error, state) is code


# With etcd -----------------------------------------------------------------------------------------------------


@pytest.mark.etcd
def test_status_and_config_with_etcd(etcd_server: EtcdServer) -> None:
    """With etcd there, status exits with 0, and what is put is what get, and etcdctl, read."""
    at = etcd_server.endpoint
    status = tideover("status", "-e", at)
    assert status.code == 0
    assert status.out.startswith("etcd answers.\n")
    assert re.search(r"^cluster    [0-9a-f]+, .*revision \d+$", status.out, re.MULTILINE)
    assert "\nquorum " not in status.out
    assert tideover("status", "--json", endpoints=at).json["state"] == "available"

    written = tideover("config", "put", "prices/tea", "2.50", "--json", "-n", "/shop", "-e", at)
    assert written.code == 0
    read = tideover("config", "get", "prices/tea", "-n", "/shop", "-e", at)
    assert (read.code, read.out, read.err) == (0, "2.50\n", "")
    assert etcd_server.etcdctl("get", "--print-value-only", "/shop/config/prices/tea") == "2.50\n"
    record = tideover("config", "get", "prices/tea", "--json", "-n", "/shop", "-e", at).json
    assert (record["value"], record["source"], record["present"]) == ("2.50", "quorum", True)
    assert record["revision"] == written.json["revision"]

    negative = tideover("config", "put", "-e", at, "--", "b", "-3")
    assert (negative.code, negative.out) == (
        0,
        f"/config/b written at revision {int(str(record['revision'])) + 1}\n",
    )


@pytest.mark.etcd
def test_a_value_from_standard_input(etcd_server: EtcdServer) -> None:
    """`config put KEY -` writes what standard input has, byte by byte; also nothing, and what is no text."""
    line = [*_COMMAND, "config", "put", "in", "-", "-e", etcd_server.endpoint]
    for value in (b"a secret\n", b"", b"-", b"\xff\x00\r\n" * 1000):
        done = subprocess.run(line, input=value, capture_output=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        said = etcd_server.etcdctl("get", "--hex", "/config/in").replace("\\x", "")
        assert said == f"{b'/config/in'.hex()}\n{value.hex()}\n"


def test_a_standard_input_of_no_use() -> None:
    """One that is closed, and one that does not end, are wrong usage, and nobody is asked."""
    line = [*_COMMAND, "config", "put", "k", "-", "-e", _NOWHERE]
    closed = subprocess.run(["sh", "-c", '"$@" <&-', "sh", *line], capture_output=True, text=True, timeout=30)
    assert (closed.returncode, "standard input is closed" in closed.stderr) == (2, True)
    with open("/dev/zero", "rb") as endless:
        large = subprocess.run(line, stdin=endless, capture_output=True, text=True, timeout=30)
    assert (large.returncode, "more than 10,485,760 bytes" in large.stderr) == (2, True)


@pytest.mark.etcd
def test_what_etcd_does_not_have_is_5(etcd_server: EtcdServer) -> None:
    """A key that a quorum says is absent is a definite no; so is one that cannot be a key."""
    absent = tideover("config", "get", "nothing", "-e", etcd_server.endpoint)
    assert (absent.code, absent.out, absent.err) == (5, "", "tideover: no such key: '/config/nothing'\n")
    as_json = tideover("config", "get", "nothing", "--json", "-e", etcd_server.endpoint)
    assert (as_json.code, as_json.json["present"], as_json.json["value"]) == (5, False, None)
    assert tideover("config", "put", "", "1", "-e", etcd_server.endpoint).code == 5


@contextmanager
def watching(*args: str) -> Iterator[subprocess.Popen[str]]:
    """Run `config watch`, which has begun to watch when this returns."""
    command = [*_COMMAND, "config", "watch", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("tideover: etcd answers; waiting for changes of keys that begin with '/config/")
            yield process
        finally:
            process.kill()


@pytest.mark.etcd
def test_watch_prints_changes_until_ctrl_c(etcd_server: EtcdServer) -> None:
    """Changes under the prefix are printed as they happen; Ctrl-C ends it with 130 and without a word."""
    with watching("prices/", "--json", "-e", etcd_server.endpoint) as process:
        assert process.stdout is not None
        etcd_server.etcdctl("put", "/config/other", "1")
        etcd_server.etcdctl("put", "/config/prices/tea", "2.50")
        assert json.loads(process.stdout.readline()) == {"key": "prices/tea", "value": "2.50", "revision": 3}
        etcd_server.etcdctl("del", "/config/prices/tea")
        assert json.loads(process.stdout.readline())["value"] is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out, err.strip()) == (130, "", "")


@pytest.mark.etcd
def test_watch_ends_quietly_when_nobody_reads(etcd_server: EtcdServer) -> None:
    """`tideover config watch | head -2` ends at the next change, with 141 and no word; each change is a line."""
    with watching("-e", etcd_server.endpoint) as process:
        assert process.stdout is not None
        etcd_server.etcdctl("put", "/config/a", "1")
        assert process.stdout.readline() == "a = 1\n"
        etcd_server.etcdctl("put", "/config/a", "\x1b[31mred\n" + "x" * 500)
        shown = process.stdout.readline()
        assert shown.startswith(r"a = \x1b[31mred\nxxx")
        assert len(shown) <= 206
        process.stdout.close()
        etcd_server.etcdctl("put", "/config/a", "2")
        assert process.wait(timeout=10) == 141
        assert process.stderr is not None
        assert process.stderr.read() == ""


# With etcd away ------------------------------------------------------------------------------------------------


@pytest.mark.etcd
def test_without_a_quorum_reads_are_labelled_and_writes_refused(etcd_cluster: EtcdCluster) -> None:
    """Without a quorum status exits with 3, get tells whose word it is, absence is no definite no, put refuses."""
    etcd_cluster.etcdctl("put", "/config/a", "1")
    etcd_cluster.lose_quorum()
    survivor = next(member for member in etcd_cluster.members if member.running)
    _wait_until_leaderless(survivor)
    at = ",".join(etcd_cluster.endpoints)

    status = tideover("status", endpoints=at)
    assert (status.code, status.out.splitlines()[0]) == (3, "etcd has no quorum.")
    assert "quorum     1 of 3 members answers, 2 make a quorum" in status.out.splitlines()
    report = tideover("status", "--json", endpoints=at).json
    assert (report["state"], report["quorum"]) == ("degraded", {"members": 3, "answering": 1, "needed": 2})
    read = tideover("config", "get", "a", endpoints=at)
    assert (read.code, read.out) == (0, "1\n")
    assert "surviving member" in read.err
    assert tideover("config", "get", "a", "--json", endpoints=at).json["source"] == "member"
    absent = tideover("config", "get", "nothing", endpoints=at)
    assert (absent.code, absent.out) == (3, "")
    assert "unknown to the surviving member" in absent.err
    written = tideover("config", "put", "a", "2", endpoints=at)
    assert (written.code, written.err) == (3, "tideover: etcd has no quorum; nothing was written\n")


def _wait_until_leaderless(member: EtcdServer) -> None:
    """Wait until a member has noticed that there is no quorum, as it has in any outage people look at."""
    deadline = time.monotonic() + 10
    while (status := etcd_http.fetch_status(member.endpoint)) is None or status.leader:
        assert time.monotonic() < deadline, status
        time.sleep(0.1)


@pytest.mark.skipif(
    sys.version_info < (3, 12) and _GRPC < (1, 75, 1),
    reason="this gRPC adds two lines of its own when the interpreter ends (grpc/grpc#40447)",
)
@pytest.mark.parametrize("args", [["config", "get", "a"], ["config", "put", "a", "1"]])
def test_without_etcd_config_exits_with_4(args: list[str]) -> None:
    """With no member there, reading and writing fail with 4 and one line, at once."""
    done = tideover(*args, "-e", _NOWHERE)
    # In this process, which has imported all that it needs: starting Python takes longer than the command itself.
    began = time.monotonic()
    assert run([*args, "-e", _NOWHERE]) == Exit.UNAVAILABLE
    assert time.monotonic() - began < 5
    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("tideover: no etcd member answers")
    assert len(done.err.splitlines()) == 1


def test_without_etcd_status_exits_with_4() -> None:
    """With no member there, status says so and exits with 4, in JSON too."""
    status = tideover("status", "-e", _NOWHERE)
    assert (status.code, status.out.splitlines()[0], status.err) == (4, "no etcd member answers.", "")
    as_json = tideover("status", "--json", "-e", _NOWHERE)
    assert (as_json.code, as_json.json["state"]) == (4, "unavailable")


# The cache -----------------------------------------------------------------------------------------------------


def _save(folder: Path, prefix: bytes, component: Component = "config") -> Path:
    clock = Clock()
    file = SnapshotFile(folder, SnapshotOwner("", [_NOWHERE]), prefix=prefix, component=component)
    snapshot = Snapshot(
        prefix=prefix,
        cluster_id=1,
        epoch=0,
        raft_term=2,
        revision=7,
        synced_at=clock.stamp(ago=61),
        saved_at=clock.stamp(),
        entries={prefix + b"key": Entry(b"secret", create_revision=5, mod_revision=7)},
    )
    assert file.save(snapshot)
    return file.path


def test_cache_lists_snapshots_and_never_values(tmp_path: Path) -> None:
    """Prefix, revision, number of keys and age of each snapshot are shown; the values are nobody's business."""
    began = time.monotonic()
    path = _save(tmp_path, b"/config/")
    shown = tideover("cache", "show", str(tmp_path))
    assert shown.code == 0
    assert shown.out.startswith("whole")
    old = re.search(r" 1 min (\d+) s old ", shown.out)
    assert old is not None
    # It was a minute and a second when it was written, and the command took a while.
    assert 1 <= int(old[1]) <= 1 + time.monotonic() - began
    for expected in ("/config/", "revision 7", "1 key", path.name):
        assert expected in shown.out
    record = tideover("cache", "show", "--json", str(tmp_path)).json
    assert (record["file"], record["prefix"], record["revision"], record["keys"]) == (str(path), "/config/", 7, 1)
    verified = tideover("cache", "verify", str(tmp_path))
    assert (verified.code, verified.out) == (0, f"1 whole, 0 damaged in {tmp_path}\n")
    for done in (shown, verified, tideover("cache", "show", "--json", str(tmp_path))):
        assert "secret" not in done.out + done.err


def test_cache_says_who_has_accepted_what(tmp_path: Path) -> None:
    """Beside the newest state of a prefix stands what a class has accepted of it, labelled with the class."""
    path = _save(tmp_path, b"/config/")
    label = Accepted("shop.Pool", "9f", frozenset({b"/config/key"}))
    file = SnapshotFile(tmp_path, SnapshotOwner("", [_NOWHERE]), prefix=b"/config/", accepted=("shop.Pool", "9f"))
    assert file.save(replace(read(path), accepted=label))
    accepted, raw = tideover("cache", "show", str(tmp_path)).out.splitlines()
    assert " /config/ as accepted by shop.Pool  revision 7  1 key " in accepted
    assert "accepted by" not in raw
    records = tideover("cache", "show", "--json", str(tmp_path)).out.splitlines()
    assert [json.loads(record)["accepted_by"] for record in records] == ["shop.Pool", None]


def test_cache_lists_services_too(tmp_path: Path) -> None:
    """Snapshots of the configuration and of services are listed and verified alike."""
    paths = [_save(tmp_path, b"/config/"), _save(tmp_path, b"/services/api/", "discovery")]
    shown = tideover("cache", "show", str(tmp_path))
    assert [line.split()[-1] for line in shown.out.splitlines()] == [path.name for path in paths]
    assert tideover("cache", "verify", str(tmp_path)).out == f"2 whole, 0 damaged in {tmp_path}\n"


def test_a_damaged_snapshot_is_named_and_1(tmp_path: Path) -> None:
    """One altered byte is found, told apart from the whole ones, and makes the exit code 1."""
    whole, damaged = _save(tmp_path, b"/config/"), _save(tmp_path, b"/config/b/")
    damaged.write_bytes(damaged.read_bytes().replace(b"secret", b"sacred"))
    shown = tideover("cache", "show", str(tmp_path))
    assert shown.code == 1
    assert {line.split()[0]: line.split()[-1] for line in shown.out.splitlines()} == {
        "whole": whole.name,
        "DAMAGED": damaged.name,
    }
    verified = tideover("cache", "verify", "--json", str(tmp_path))
    assert (verified.code, verified.json["whole"]) == (1, 1)
    assert "sacred" not in shown.out + verified.out


def test_an_empty_cache_is_no_error(tmp_path: Path) -> None:
    """A folder without snapshots says so and is fine."""
    done = tideover("cache", "show", str(tmp_path))
    assert (done.code, done.out) == (0, f"no snapshots in {tmp_path}\n")
    assert tideover("cache", "show", "--json", str(tmp_path)).out == ""


def test_the_help_of_no_command_into_nothing() -> None:
    """`tideover | head -0` ends with 141 and no word, as each command does."""
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [sys.executable, "-m", "tideover.cli"], stdout=write, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(write)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (141, "")
