"""How the benchmarks speak to the Go client; Go itself is not needed here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import go_client
from benchmarks.harness import NotMeasured


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
    monkeypatch.setattr(go_client, "DEBIANS_GO", tmp_path / "go")
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


def test_debians_go_comes_before_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The peer is built by `/usr/bin/go`, whatever Go comes first in the PATH, and its versions are told."""
    package = tmp_path / "go"
    package.write_text('#!/bin/sh\n[ "$1" = build ] && touch "$3" && exit 0\necho "$2: go1.19.8"\n')
    package.chmod(0o755)
    other = tmp_path / "bin"
    other.mkdir()
    (other / "go").symlink_to("/bin/false")
    (other / "dpkg-query").symlink_to(_fake(tmp_path, 'print("3.4.23-4")'))
    monkeypatch.setenv("PATH", f"{other}:/bin:/usr/bin")
    monkeypatch.setattr(go_client, "DEBIANS_GO", package)
    monkeypatch.setattr(go_client, "_CLIENT", tmp_path)
    monkeypatch.setattr(go_client, "PROGRAM", tmp_path / "program")
    assert go_client.versions() == {}
    assert go_client.build().exists()
    assert go_client.versions() == {"go": "1.19.8", "clientv3": "3.4.23-4"}
