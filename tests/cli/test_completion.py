"""What shells complete: commands, options and names from snapshots; and the scripts that make them ask."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from tests.cli.test_from_disk import HERE, THERE, leave
from tideover.cli.app import VARIABLE, cli, run
from tideover.cli.completion import _MOST
from tideover.clock import Clock
from tideover.prefixes.snapshots.snapshot import Snapshot
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner

SHELLS = ["bash", "zsh", "fish"]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and this test's folder as the user's cache folder."""

    def refuse(*args: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TIDEOVER_NAMESPACE", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return this user's cache folder."""
    return tmp_path / "tideover"


def offered(*words: str) -> list[str]:
    """Return what is offered for the last of the words."""
    *before, typed = words
    return [item.value for item in ShellComplete(cli, {}, "tideover", VARIABLE).get_completions(before, typed)]


def leave_service(folder: Path, name: str) -> None:
    """Leave a snapshot of a service's endpoints."""
    prefix, clock = f"/shop/services/{name}/".encode(), Clock()
    file = SnapshotFile(folder, SnapshotOwner("/shop", [HERE]), prefix=prefix, component="discovery")
    endpoints = tuple(file.owner.endpoints)
    assert file.save(Snapshot(prefix, 1, 0, 2, 9, clock.stamp(), clock.stamp(), {}, endpoints=endpoints))


def test_commands_and_options() -> None:
    """Also those of groups, and the two words with which `lock` looks; no name is offered that is not known."""
    assert offered("con") == ["config"]
    assert offered("lock", "") == ["list", "show"]
    assert offered("config", "l") == ["list"]
    assert offered("config", "get", "--from") == ["--from-disk", "--from"]
    assert offered("election", "show", "") == []


def test_commands_are_offered_without_importing_them() -> None:
    """A shell that completes the first word waits for no module of a command."""
    code = (
        "import sys; from tideover.cli.app import cli; from click.shell_completion import ShellComplete\n"
        f"ShellComplete(cli, {{}}, 'tideover', '{VARIABLE}').get_completions([], '')\n"
        "print([m for m in sys.modules if m in ('tideover.cli.lock', 'tideover.cli.fleet', 'tideover.cli.demo')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"


def test_names_come_from_snapshots(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of the namespace, of whatever endpoints, services and namespaces; also from another folder."""
    leave(folder, {"rate": b"1", "pay/eur": b"1"})
    leave(folder, {"pay/usd": b"1"}, endpoint=THERE)
    leave_service(folder, "billing")
    leave_service(folder, "b%20c")
    for command in ("get", "put", "delete", "list", "tree", "watch"):
        assert offered("config", command, "-n", "/shop", "pay") == ["pay/eur", "pay/usd"]
    assert offered("resolve", "-n", "/shop", "") == offered("fleet", "-n", "/shop", "") == ["billing"]
    assert offered("services", "--namespace", "") == ["/shop"]
    assert offered("config", "get", "") == []
    monkeypatch.setenv("TIDEOVER_NAMESPACE", "/shop")
    assert offered("config", "get", "r") == ["rate"]
    leave(folder / "of-a-service", {"own": b"1"})
    assert offered("config", "get", "--cache-dir", str(folder / "of-a-service"), "") == ["own"]


def test_a_name_gives_a_shell_no_orders(folder: Path) -> None:
    """What a shell would run, expand, divide or take as an option is not offered; any letters are."""
    evil = [
        "$(touch x)",
        "`x`",
        "a b",
        "a;b",
        "a\nb",
        "*",
        "~",
        "!x",
        "a'b",
        "-x",
        "a:b",
        "a,b",
        "a=b",
        "\x1b[2J",
        "#x",
    ]
    leave(folder, dict.fromkeys([*evil, "größe", "a-b_c.d/e@f%20+1"], b"1"))
    assert offered("config", "get", "-n", "/shop", "") == ["a-b_c.d/e@f%20+1", "größe"]


def test_of_many_keys_folders_are_offered(folder: Path) -> None:
    """Never only some of the keys: a shell would take what these have in common for what all have."""
    leave(folder, {f"{'ab'[number % 2]}/{number // 10}/{number}": b"1" for number in range(2 * _MOST)})
    assert offered("config", "get", "-n", "/shop", "") == ["a/", "b/"]
    assert len(offered("config", "get", "-n", "/shop", "a/")) == _MOST
    leave(folder, {f"k{number}": b"1" for number in range(2 * _MOST)}, revision=99)
    assert offered("config", "get", "-n", "/shop", "") == []
    assert len(offered("config", "get", "-n", "/shop", "k19")) == 111


@pytest.mark.parametrize("content", [b"{", b"", b"\x00" * 100])
def test_damage_is_silent(folder: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """What cannot be read offers nothing, and says nothing into the line that is typed."""
    leave(folder, {"rate": b"1"}).write_bytes(content)
    assert offered("config", "get", "-n", "/shop", "") == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_scripts(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each shell that is installed reads its script."""
    assert run(["completion", shell]) == 0
    script = tmp_path / shell
    script.write_text(capsys.readouterr().out)
    assert VARIABLE in script.read_text()
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    assert subprocess.run([shell, "-n", str(script)], capture_output=True, timeout=30).stderr == b""


def test_an_unknown_shell_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """2 and one line that names those there are."""
    assert run(["completion", "csh"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_behind_an_endpoint(folder: Path, tmp_path: Path) -> None:
    """The whole way through bash, whose words end at colons: the key behind `-e host:port` is completed."""
    leave(folder, {"rate": b"1", "pay/eur": b"1"})
    command = tmp_path / "bin" / "tideover"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m tideover "$@"\n')
    command.chmod(0o700)
    script = (
        'eval "$(tideover completion bash)"\n'
        f'COMP_LINE="tideover config get -n /shop -e {HERE} r and more"\n'
        f"COMP_POINT={len(f'tideover config get -n /shop -e {HERE} r')}\n"
        '_tideover_completion tideover; echo "${COMPREPLY[@]}"; complete -p tideover\n'
    )
    environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    found, registered = done.stdout.splitlines()
    assert (found, done.stderr) == ("rate", "")
    assert registered.endswith("-F _tideover_completion tideover")
