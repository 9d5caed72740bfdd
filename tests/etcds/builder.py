"""Builds etcd, etcdctl and etcdutl from Go modules and keeps them in the user's cache.

Guarantee: the folder that `build` returns is whole, and came from just these files with just this Go. A build is
made in a folder of its own and renamed when it is done, so that a build which was killed leaves nothing under the
name that is looked for. Builders wait for each other; what the dead left behind is removed by the next.

Not guaranteed: that old builds go away. The whole cache may be removed whenever no test runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.etcds.golang import Go, fetch_go, find_go, language
from tests.etcds.versions import ROOT, module_of

__all__ = ["PROGRAMS", "NotBuilt", "build", "cache_folder", "fingerprint"]

PROGRAMS = ("etcd", "etcdctl", "etcdutl")
# Debug information doubles their size, and paths of this machine would make each machine's programs differ.
_FLAGS = ("-trimpath", "-buildvcs=false", "-ldflags=-s -w")


class NotBuilt(RuntimeError):
    """Raised when Go could not build a version; what Go said is on standard error.

    Attributes:
        version: The version of etcd.
        code: The exit code of Go.
    """

    def __init__(self, version: str, *, code: int) -> None:
        self.version = version
        self.code = code
        super().__init__(f"etcd {version} could not be built: go exited with {code}, its output is above")


def build(version: str, *, root: Path = ROOT) -> Path:
    """Return the folder with the programs of a version; the first call builds them.

    Args:
        version: Such as "3.5.16".
        root: The folder of the modules' folders.

    Raises:
        UnknownVersion: There is no module for it.
        GoNotFound: There is no Go to build with.
        NotBuilt: Go refused.
    """
    module = module_of(version, root)
    cache = cache_folder()
    wanted = language(module)
    go = find_go(wanted, cache)
    if go is not None:
        built = cache / f"{version}-{fingerprint(module, go)}"
        if _is_whole(built):
            return built
    with _alone(cache):
        go = find_go(wanted, cache) or fetch_go(cache)
        built = cache / f"{version}-{fingerprint(module, go)}"
        # Another builder may have made it while this one waited.
        if not _is_whole(built):
            _make(version, module, go, built)
    return built


def cache_folder() -> Path:
    """Return the folder in the user's cache that builds are kept in."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of these folders says that a relative path counts for nothing.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "tideover-etcds"


def fingerprint(module: Path, go: Go) -> str:
    """Return a text that changes with everything a build is made from: the module's files, Go, and the flags.

    Args:
        module: The module's folder.
        go: What builds it.
    """
    mains = [module / program / "main.go" for program in PROGRAMS]
    parts = [go.version, go.platform, *_FLAGS]
    for path in (module / "go.mod", module / "go.sum", *mains):
        parts += [path.relative_to(module).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _make(version: str, module: Path, go: Go, built: Path) -> None:
    print(f"building etcd {version} with Go {go.version}: this takes minutes once", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=built.parent, prefix="part-") as folder:
        made = Path(folder, "programs")
        done = subprocess.run(
            [str(go.program), "build", *_FLAGS, "-o", f"{made}/", *(f"./{program}" for program in PROGRAMS)],
            cwd=module,
            env=go.environment(),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
        )
        if done.returncode != 0:
            raise NotBuilt(version, code=done.returncode)
        if built.exists():
            shutil.rmtree(built)  # a program was taken out of it
        made.rename(built)


def _is_whole(built: Path) -> bool:
    return all(os.access(built / program, os.X_OK) for program in PROGRAMS)


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Wait until no other process builds, and remove what those left that were killed while they built."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        # The kernel lets go of it when this process ends, however it ends.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in cache.glob("part-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
