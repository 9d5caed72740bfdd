"""The search for secrets finds one wherever it is said; else its silence would prove nothing."""

from __future__ import annotations

import base64
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest

from tests.canaries import canary, search, search_files, taken, watch
from tests.support import connected, mock_trio
from tests.telemetry.recording import install
from tideover import Unreachable, telemetry
from tideover.testing import MemoryStore

SECRET = canary("said-on-purpose")


def say_in_a_line() -> None:
    """Log it, as anybody's library may."""
    logging.getLogger("somebody").warning("the password is %s", SECRET)


def say_in_an_event() -> None:
    """Log it as we would, at a level that nobody looks at."""
    telemetry.environment_read(SECRET, None)


def say_in_an_output() -> None:
    """Print it in a child, on stderr."""
    code = f"import sys; print({SECRET!r}, file=sys.stderr)"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def say_in_an_error() -> None:
    """Raise it as the cause of something else."""
    with pytest.raises(LookupError):
        try:
            raise ValueError(SECRET)
        except ValueError as exc:
            raise LookupError("harmless") from exc


def say_in_an_error_of_ours() -> None:
    """Make an error of ours with it, which nobody raises."""
    Unreachable(f"{SECRET} is refused")


def say_in_a_span() -> None:
    """Trace it."""
    install()
    with telemetry.attempt("Range", SECRET, "a:1", 1):
        pass


def say_encoded() -> None:
    """Say it as it is within a header, and within a URL."""
    for before in (b"", b"a", b"ab"):
        search("here", base64.b64encode(before + SECRET.encode()))
    search("here", f"http://{quote(SECRET)}@a")


SAID: list[Callable[[], None]] = [
    say_in_a_line,
    say_in_an_event,
    say_in_an_output,
    say_in_an_error,
    say_in_an_error_of_ours,
    say_in_a_span,
    say_encoded,
]


@pytest.mark.parametrize("say", SAID)
def test_what_is_said_is_found(say: Callable[[], None]) -> None:
    """A secret is found in each of the places, and the place is named."""
    say()
    found = taken()
    assert found
    assert len(found) == 4 or say is not say_encoded
    assert all(": ..." in each for each in found)


def test_what_is_captured_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """Also what a command has printed in this process."""
    print(SECRET)
    capsys.readouterr()
    assert [each.partition(":")[0] for each in taken()] == ["what was captured"]


def test_what_is_on_disk_is_found(tmp_path: Path) -> None:
    """In snapshots, their former generations and ledgers; a test's own file of a secret is none of them."""
    (tmp_path / "password").write_text(SECRET)
    search_files(tmp_path)
    assert taken() == []
    for name in ("cache/config-1.json", "cache/discovery-1.prev.json", "cache/ledger/x/a.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SECRET)
    search_files(tmp_path)
    assert len(taken()) == 3
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file():
            path.unlink()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [mock_trio()], ids=["trio"])
async def test_the_status_is_looked_at(anyio_backend: object) -> None:
    """A report that names one is found, whoever asked for it."""
    async with connected(MemoryStore(), follow=(SECRET,)) as tide:
        await anyio.sleep(1)
        tide.status()
    assert "the status" in {each.partition(":")[0] for each in taken()}


def test_a_secret_that_is_made_elsewhere_is_looked_for() -> None:
    """A token or a key is found from then on; what is too short for a secret would be found everywhere."""
    watch("k4n4r13-made-elsewhere")
    watch("")
    search("here", "nothing", None, b"\xff")
    assert taken() == []
    search("here", {"token": "k4n4r13-made-elsewhere"})
    assert len(taken()) == 1
