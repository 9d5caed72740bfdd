"""The one door for people and CI: `nox` runs what must pass, `nox -l` lists the rest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nox
from nox.command import CommandFailed

sys.path.insert(0, str(Path(__file__).parent))
from tests.etcds import builder, versions

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "tests_debian", "model", "lint", "typecheck", "layers"]

PROJECT = nox.project.load_toml("pyproject.toml")

# A file stays on one worker, for its fixtures are shared; which one begins first is settled in tests/conftest.py.
BY_FILE = ("--dist", "loadfile", "--no-loadscope-reorder")

# Tests with an etcd mostly wait for it, the others compute. They run one after the other: beside tests that take
# all of the processor, one that waits would measure them.
PARALLEL = ("-n", "4", *BY_FILE)
WITH_ETCD = ("-m", "etcd or netns", *PARALLEL)

# What says nothing of etcd: the same on all versions of it.
WITHOUT_ETCD = ("-m", "not etcd and not netns", "-n", "auto", *BY_FILE)


def of_version() -> list[str]:
    """Return the files with tests of what a version of etcd can change; to collect the others takes long."""
    return [str(path) for path in sorted(Path("tests").rglob("test_*.py")) if "mark.version" in path.read_text()]


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(PROJECT, name))


def on_each(session: nox.Session, chosen: Sequence[str], marks: str, rest: Sequence[str]) -> None:
    """Run tests on each of some versions of etcd, also after a failure, and name those that failed."""
    session.install("-e", ".[demo,status]", *group("tests"))
    failed = []
    for version in chosen:
        try:
            where = {"TIDEOVER_ETCD_DIR": etcd_folder(session, version)}
            session.run("pytest", "-m", marks, *(rest or PARALLEL), env=where)
        except (CommandFailed, RuntimeError, subprocess.CalledProcessError) as exc:
            session.warn(f"etcd {version}: {exc}")
            failed.append(version)
    if failed:
        session.error(f"failed on etcd {', '.join(failed)}")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite on etcd 3.5.1; arguments after `--` go to pytest."""
    session.install("-e", ".[demo,status]", *group("tests"))
    where = {
        "TIDEOVER_PROXIES_DIR": str(debian_proxies(session)),
        "TIDEOVER_PROMETHEUS_DIR": str(debian_prometheus(session)),
        "TIDEOVER_UVLOOP_DIR": uvloop_apart(session),
    }
    failed = []
    for chosen in [session.posargs] if session.posargs else [WITHOUT_ETCD, WITH_ETCD]:
        try:
            session.run("pytest", *chosen, env=where)
        except CommandFailed:
            failed.append(" ".join(chosen))
    if failed:
        session.error(f"failed: pytest {'; pytest '.join(failed)}")


@nox.session
def starlette_suite(session: nox.Session) -> None:
    """Run Starlette's own tests of what touches middleware, with every application wrapped in tideover's."""
    chosen = ["tests/middleware", *(f"tests/test_{name}.py" for name in ("responses", "websockets", "background"))]
    run_wrapped(session, "starlette", extra="full", needs="dev", without=("mypy", "ruff", "twine"), chosen=chosen)


@nox.session
def fastapi_suite(session: nox.Session) -> None:
    """Run FastAPI's own tests with every application wrapped in tideover's.

    But for those of its tutorial and of speed; of what else is recorded, to which an outage of etcd's belongs; and
    of the whole state of a lifespan, in which the middleware keeps which run it is.
    """
    without = ("mypy", "ty", "pytest-sugar", "pytest-cov")
    left = ("test_tutorial", "benchmarks", "memory_benchmarks", "test_telemetry")
    named = ("lifespan_state_overriding_by_parent", "no_return_lifespans", "mixed_state_lifespans", "fastapi_cli")
    chosen = [
        "tests",
        "-n",
        "auto",
        *(f"--ignore=tests/{name}" for name in left),
        "-k",
        f"not ({' or '.join(named)})",
    ]
    run_wrapped(session, "fastapi", extra="all", needs="tests", without=without, chosen=chosen)


def run_wrapped(
    session: nox.Session, name: str, *, extra: str, needs: str, without: tuple[str, ...], chosen: Sequence[str]
) -> None:
    """Run the tests in a library's sdist, as they are and wrapped; arguments after `--` go to pytest."""
    session.install("-e", ".", f"{name}[{extra}]", "pip")
    asked = f"import importlib.metadata as m; print(m.version({name!r}))"
    version = str(session.run("python", "-c", asked, silent=True)).strip()
    place = Path(session.create_tmp()).resolve()
    source = place / f"{name}-{version}"
    if not source.is_dir():
        pip = ("python", "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name, "-d", str(place))
        session.run(*pip, f"{name}=={version}")
        shutil.unpack_archive(f"{source}.tar.gz", place, filter="data")
    needed = nox.project.dependency_groups(nox.project.load_toml(source / "pyproject.toml"), needs)
    session.install(*(each for each in needed if re.split(r"[^\w-]", each)[0] not in (name, *without)))
    plugin = {"PYTHONPATH": str(Path("tools/suites").resolve())}
    session.chdir(source)
    for options in ((), ("-p", "wrapped_apps")):
        session.run("pytest", "-q", *options, *(session.posargs or chosen), env=plugin)


@nox.session
def tests_debian(session: nox.Session) -> None:
    """Run what a version of etcd can change on Debian's own, 3.4.23 in Debian 12; it is not installed for that."""
    session.install("-e", ".[demo,status]", *group("tests"))
    where = {"TIDEOVER_ETCD_DIR": str(debian_etcd(session))}
    session.run("pytest", "-m", "etcd and version", *(session.posargs or [*PARALLEL, *of_version()]), env=where)


@nox.session
def etcd(session: nox.Session) -> None:
    """Run what depends on etcd's version on every version; `-- 3.4.23 3.5.1` chooses, the rest goes to pytest."""
    try:
        chosen, rest = versions.chosen(session.posargs)
    except versions.UnknownVersion as exc:
        session.error(str(exc))
    on_each(session, chosen, "etcd and not any_etcd", rest)


@nox.session
def transports(session: nox.Session) -> None:
    """Run what talks to a real etcd over gRPC, and over either what a version of etcd can change.

    That is on 3.5.1, the newest 3.5 and the newest 3.7, each without TLS and with TLS. Arguments after `--` go to
    pytest in all of these runs.
    """
    session.install("-e", ".[demo,status]", *group("tests"))
    proxies = str(debian_proxies(session))
    runs: list[tuple[str, str, Sequence[str]]] = [("grpc", versions.WHEEL, WITH_ETCD)]
    for version in (versions.WHEEL, versions.newest("3.5"), versions.newest("3.7")):
        for transport in ("http2", "grpc"):
            of = ("-m", "etcd and version", *PARALLEL, *of_version())
            runs += [(transport, version, of), (transport, version, ("--over-tls", *of))]
    failed = []
    for transport, version, chosen in runs:
        folder = etcd_folder(session, version)
        where = {"TIDEOVER_PROXIES_DIR": proxies, "TIDEOVER_TRANSPORT": transport, "TIDEOVER_ETCD_DIR": folder}
        try:
            session.run("pytest", *chosen, *session.posargs, env=where)
        except CommandFailed:
            failed.append(f"{transport} on etcd {version}: pytest {' '.join(chosen)}")
    if failed:
        session.error(f"failed: {'; '.join(failed)}")


@nox.session
def newest(session: nox.Session) -> None:
    """Run what a version of etcd can change on the newest 3.5 and 3.7; arguments after `--` go to pytest."""
    chosen = [versions.newest("3.5"), versions.newest("3.7")]
    on_each(session, chosen, "etcd and version", session.posargs or [*PARALLEL, *of_version()])


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests that need no etcd on the lowest versions that pyproject.toml allows; arguments go to pytest.

    The product's are pinned, so that a test that needs a newer one fails to install. The demo's own starlette is
    an application's: its tests run here on the middleware's lowest, which sse-starlette does not take.
    """
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    page = [bound for bound in extras["status"] if not bound.startswith("sse-starlette")]
    bounds = [*project["dependencies"], *extras["cli"], *page]
    pins = [re.sub(r"^([\w-]+)>=([\w.]+).*", r"\1==\2", bound) for bound in bounds]
    demo = [bound for bound in extras["demo"] if not bound.startswith(("tideover", "starlette"))]
    session.install("--resolution=lowest-direct", "-e", ".[cli,httpx,status]", *demo, *group("tests"), *pins)
    streams = "--ignore=tests/asgi/status_page/test_streams.py"
    where = {"TIDEOVER_PROMETHEUS_DIR": str(debian_prometheus(session))}
    session.run("pytest", *(session.posargs or [*WITHOUT_ETCD, streams]), env=where)


@nox.session(venv_backend="none")
def pythons(session: nox.Session) -> None:
    """Run the tests that need no etcd on each supported Python that is installed, and name those that are not."""
    versions = nox.project.python_versions(PROJECT)
    found = {version: python for version in versions if (python := interpreter(version))}
    missing = [version for version in versions if version not in found]
    session.log(f"Python {', '.join(found)}; not found: {', '.join(missing) or 'none'}")
    uv = (sys.executable, "-m", "uv")
    where = {"TIDEOVER_PROMETHEUS_DIR": str(debian_prometheus(session))}
    for version, python in found.items():
        place = Path(".nox", f"pythons-{version}").resolve()
        own = str(place / "bin" / "python")
        session.run(*uv, "venv", "-q", "--allow-existing", "--python", python, str(place))
        session.run(*uv, "pip", "install", "-q", "--python", own, "-e", ".[demo,httpx,status]", *group("tests"))
        session.run(own, "-m", "pytest", *(session.posargs or WITHOUT_ETCD), env=where)


@nox.session
def browser(session: nox.Session) -> None:
    """Look at the status page with a real Chromium; arguments after `--` go to pytest."""
    if shutil.which("chromium") is None and "TIDEOVER_CHROMIUM" not in os.environ:
        session.error("needs Chromium: apt-get install chromium, or its path in TIDEOVER_CHROMIUM")
    session.install("-e", ".[demo,status]", *group("tests"), *group("browser"))
    session.run("pytest", "tests/browser", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Run the trials under random faults at length, on both etcds; arguments after `--` go to pytest."""
    session.install("-e", ".[demo,status]", *group("tests"))
    for where in ({}, {"TIDEOVER_ETCD_DIR": str(debian_etcd(session))}):
        session.run("pytest", "-s", "-m", "faults", "--faults-count=200", *session.posargs, env=where)


@nox.session
def soak(session: nox.Session) -> None:
    """Do everything for an hour while members are killed, and say what grows; `-- --minutes 3 --way nginx`."""
    session.install("-e", ".[demo,status]", *group("tests"))
    where: dict[str, str | None] = {"TIDEOVER_PROXIES_DIR": str(debian_proxies(session))}
    if "--way" not in session.posargs:
        where["TIDEOVER_ETCD_DIR"] = etcd_folder(session, versions.newest("3.5"))
    session.run("python", "-m", "tests.soak", *session.posargs, env=where)


@nox.session
def observability(session: nox.Session) -> None:
    """See each alert in a real Prometheus, at length; what comes after `--` is for pytest."""
    session.install("-e", ".[demo,status]", *group("tests"))
    where = {"TIDEOVER_PROMETHEUS_DIR": str(debian_prometheus(session))}
    session.run("pytest", "-s", *(session.posargs or ["tests/observability", "--observed-for=120"]), env=where)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Search all readers of foreign bytes, guided by coverage; `-- --seconds 60` says for how long in all."""
    session.install("-e", ".[demo,status]", *group("fuzz"))
    session.run("python", "-m", "tests.fuzz", *session.posargs)


@nox.session(venv_backend="none")
def model(session: nox.Session) -> None:
    """Search the model of the election with Spin, and see it fail for each broken rule; arguments go to it."""
    if shutil.which("gcc") is None:
        session.error("needs gcc, which compiles the search: apt-get install gcc libc6-dev")
    spin = unpacked(session, "spin", ("spin",), ("spin",)) / "spin"
    session.run(sys.executable, "-m", "models", *session.posargs, env={"SPIN": str(spin)}, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the rules and the format; `nox -s lint -- --fix` repairs what can be repaired."""
    session.install(*group("lint"))
    if "--fix" in session.posargs:
        session.run("ruff", "check", "--fix", ".")
        session.run("ruff", "format", ".")
        return
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check the types of src and tests."""
    session.install("-e", ".[demo,status]", *group("typing"))
    session.run("mypy", *session.posargs)


@nox.session
def layers(session: nox.Session) -> None:
    """Check that imports point down only."""
    session.install("-e", ".[demo,status]", *group("layers"))
    session.run("lint-imports", *session.posargs)


@nox.session
def house(session: nox.Session) -> None:
    """Count sizes, hops of a call, stock phrases and imports, without a gate; `-- --json` to compare two trees."""
    session.install("-e", ".[demo,status]", *group("layers"))
    session.run("python", "-m", "tools.house", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/; `nox -s docs -- serve` shows it while you write."""
    session.install("-e", ".[demo,status]", *group("docs"))
    session.run("mkdocs", *(session.posargs or ["build", "--strict"]))


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks; arguments after `--` go to them."""
    session.install("-e", ".[demo]", *group("bench"))
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build sdist and wheel, check them, and import the wheel from a fresh environment."""
    session.install(*group("build"))
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", "--installer", "uv")
    built = sorted(str(path) for path in Path("dist").iterdir())
    session.run("twine", "check", "--strict", *built)

    fresh = Path(session.create_tmp()) / "fresh"
    (wheel,) = Path("dist").glob("*.whl")
    session.run("python", "-m", "venv", "--clear", str(fresh))
    python = str(fresh / "bin" / "python")
    session.run(python, "-m", "pip", "install", "--quiet", str(wheel.resolve()), external=True)
    session.run(python, "-I", "-c", "import tideover; print(tideover.__file__)", external=True)


def etcd_folder(session: nox.Session, version: str) -> str | None:
    """Return the folder of a version's programs; None for the one that a wheel brings into the environment."""
    if version == versions.WHEEL:
        return None
    return str(debian_etcd(session) if version == versions.DEBIAN else builder.build(version))


def uvloop_apart(session: nox.Session) -> str:
    """Return a folder with uvloop, which in the environment itself would become uvicorn's event loop."""
    folder = str(Path(session.virtualenv.location, "uvloop"))
    session.install("--target", folder, "uvloop")
    return folder


def interpreter(version: str) -> str | None:
    """Return a Python of a version, from the search path or from pyenv; None if there is none that runs."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    places = [shutil.which(f"python{version}"), *map(str, pyenv.glob(f"{version}.*/bin/python"))]
    for place in filter(None, places):
        # pyenv's own python3.12 on the search path refuses to run unless that version was chosen.
        if subprocess.run([place, "-c", ""], capture_output=True).returncode == 0:
            return place
    return None


def debian_etcd(session: nox.Session) -> Path:
    """Return the folder of etcd and etcdctl from Debian's packages."""
    return unpacked(session, "etcd", ("etcd-server", "etcd-client"), ("etcd", "etcdctl"))


def debian_proxies(session: nox.Session) -> Path:
    """Return the folder of nginx and HAProxy from Debian's packages, with libraries that are on few machines."""
    libraries = ("liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1")
    programs = ("../sbin/nginx", "../sbin/haproxy")
    return unpacked(session, "proxies", ("nginx", "haproxy", *libraries), programs).with_name("sbin")


def debian_prometheus(session: nox.Session) -> Path:
    """Return the folder of Prometheus and promtool from Debian's package."""
    return unpacked(session, "prometheus", ("prometheus",), ("prometheus", "promtool"))


def unpacked(session: nox.Session, name: str, packages: tuple[str, ...], programs: tuple[str, ...]) -> Path:
    """Return the folder of programs from Debian's packages: downloaded and unpacked, not installed.

    apt keeps its lists and archives beside them, so that neither root nor an earlier `apt-get update` is needed.
    """
    place = Path(".nox", f"{name}-debian").resolve()
    folder = place / "usr" / "bin"
    if all((folder / program).is_file() for program in programs):
        return folder
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        session.error(f"needs apt-get and dpkg, for Debian's {name}")
    for sub in ("lists/partial", "archives/partial"):
        (place / sub).mkdir(parents=True, exist_ok=True)
    options = [f"-oDir::State::lists={place / 'lists'}", f"-oDir::Cache={place}", "-oAPT::Sandbox::User="]
    for command in (["update"], ["download", *packages]):
        subprocess.run(["apt-get", "-q", *options, *command], cwd=place, check=True)
    for package in place.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(place)], check=True)
    return folder
