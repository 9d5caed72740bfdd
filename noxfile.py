"""The one door for people and CI: `nox` runs what must pass, `nox -l` lists the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "lint", "typecheck", "layers"]

PROJECT = nox.project.load_toml("pyproject.toml")


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(PROJECT, name))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite; arguments after `--` go to pytest."""
    session.install("-e", ".[demo]", *group("tests"))
    session.run("pytest", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Run the trials under random faults at length; `nox -s faults -- --faults-seed 7` draws others."""
    session.install("-e", ".[demo]", *group("tests"))
    session.run("pytest", "-m", "faults", "--faults-count", "200", *session.posargs)


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
    session.install("-e", ".[demo]", *group("typing"))
    session.run("mypy", *session.posargs)


@nox.session
def layers(session: nox.Session) -> None:
    """Check that imports point down only."""
    session.install("-e", ".[demo]", *group("layers"))
    session.run("lint-imports", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/; `nox -s docs -- serve` shows it while you write."""
    session.install("-e", ".[demo]", *group("docs"))
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
