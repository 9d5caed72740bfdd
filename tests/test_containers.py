"""Containers: users without a name and a home directory, read-only roots, no folder for temporary files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
# A user that no system has a name for.
NOBODY = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
# A mount namespace in which nothing can be written.
READ_ONLY = [
    *("unshare", "--mount", "sh", "-ec"),
    "cut -d' ' -f2 /proc/mounts | sort -u | while read -r place; do"
    ' mount -o remount,bind,ro "$place" 2> /dev/null || true; done; cd /; exec "$@"',
    "sh",
]

START = """
import asyncio, logging, sys
import tideover

logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
logging.getLogger("tideover").addFilter(lambda record: "state.transition" not in record.getMessage())

async def main(**options):
    async with tideover.connect("127.0.0.1:1", start_timeout=0.2, follow=(), **options) as tide:
        print(tide.health.state)
        try:
            async with tide.lock("job", on_outage="local", timeout=5) as held:
                print(held.mode)
        except tideover.LockUnavailable as exc:
            print("refused")

asyncio.run(main(OPTIONS))
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with next to no environment, and wait for its end."""
    # No folder for temporary files is named, and what Python makes of imports is not written.
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False)


@cache
def works(*shell: str) -> bool:
    """Whether such a shell can be had here, with this Python in it."""
    if os.geteuid() or not all(map(shutil.which, ("setpriv", "unshare"))):
        return False
    return run(*shell, sys.executable, "-c", "import anyio").returncode == 0


def start(*shell: str, options: str = "") -> list[str]:
    """Start a coordinator in a shell, with etcd away; return what it said, without grpc's own lines."""
    if not works(*shell):
        pytest.skip("needs root, setpriv and unshare, and a Python that others may run")
    done = run(*shell, sys.executable, "-c", START.replace("OPTIONS", options))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def private() -> Iterator[None]:
    """Leave no folder of the nameless user's behind."""
    folder = Path(f"/tmp/tideover-{NOBODY[1].partition('=')[2]}")  # as tempfile finds it
    shutil.rmtree(folder, ignore_errors=True)
    yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.usefixtures("private")
def test_a_user_without_a_name() -> None:
    """Without a name and HOME there is one warning, no snapshots, and locks are LOCAL in a folder of its own."""
    said = start(*NOBODY)
    assert said == [
        "WARNING tideover.snapshot.failed: no snapshots are kept: this user has no home directory, and so no "
        "cache folder; name one",
        "unavailable",
        "local",
    ]


@pytest.mark.usefixtures("private")
def test_a_user_without_a_name_who_wants_no_snapshots() -> None:
    """With `cache_dir=False` there is nothing to warn of."""
    assert start(*NOBODY, options="cache_dir=False") == ["unavailable", "local"]


def test_nothing_can_be_written() -> None:
    """On a read-only root without a place for temporary files it starts, and says what it cannot do."""
    said = start(*READ_ONLY, *NOBODY)
    snapshots, places, *rest = said
    assert snapshots.startswith("WARNING tideover.snapshot.failed: no snapshots are kept: ")
    assert places.startswith("WARNING tideover.lock.unhosted: no lock can be LOCAL here: ")
    assert rest[0] == "unavailable"
    assert rest[-1] == "refused"


def test_root_on_a_read_only_root() -> None:
    """Root cannot write on a read-only root either; its home directory is there, and writing is tried."""
    said = start(*READ_ONLY, "env", f"HOME={Path('/root')}")
    assert "unavailable" in said
    assert said[-1] == "refused"


@pytest.mark.parametrize("command", [["cache", "show"], ["resolve", "shop", "-e", "127.0.0.1:1"]])
def test_commands_name_the_remedy(command: list[str]) -> None:
    """A command that needs the cache folder of a user without one says so, without a traceback."""
    if not works(*NOBODY):
        pytest.skip("needs root, setpriv and unshare, and a Python that others may run")
    done = run(*NOBODY, sys.executable, "-m", "tideover.cli", *command)
    assert done.returncode != 0
    assert done.stderr == "tideover: this user has no home directory, and so no cache folder; name one\n"
