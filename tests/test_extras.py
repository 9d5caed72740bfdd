"""What extras bring is needed by nobody else, and who lacks it is told in one sentence what to install."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tideover
from tests.test_package import EXTRAS
from tideover.extras import importing, installed, lacking

ROOT = Path(__file__).parents[1]
# The modules that an extra is for, what it brings, and the sentence for those who lack that.
NEEDED_BY = {
    "tideover.contrib.fastapi": ("fastapi", "fastapi"),
    "tideover.contrib.httpx": ("httpx", "httpx"),
    "tideover.contrib.httpx2": ("httpx2", "httpx2"),
    "tideover.contrib.openfeature": ("openfeature", "openfeature"),
    "tideover.contrib.pydantic": ("pydantic", "pydantic"),
}
# What several of them have in common imports none of their libraries.
_SHARED = {"rules", "transports"}

_WITHOUT = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
"""


def _run(code: str, *blocked: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", _WITHOUT.format(blocked=blocked) + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_without_any_extra_the_library_works() -> None:
    """Where nothing that an extra brings can be imported, a coordinator is entered, asked and closed."""
    code = """
import anyio, tideover, tideover.asgi, tideover.testing
async def main():
    async with tideover.connect(store=tideover.testing.MemoryStore(), cache_dir=False) as tide:
        print(tide.config.get("absent", int, default=7))
anyio.run(main)
"""
    done = _run(code, *sorted(EXTRAS))
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


@pytest.mark.parametrize("module", NEEDED_BY)
def test_a_module_without_its_library_names_the_extra(module: str) -> None:
    """Its import ends with one sentence: who needs what, and the command that installs it."""
    library, extra = NEEDED_BY[module]
    done = _run(f"import {module}", library)
    sentence = f"ModuleNotFoundError: {module} needs {library}: pip install 'tideover[{extra}]'"
    assert done.stderr.strip().splitlines()[-1] == sentence
    assert done.stderr.count("Traceback") == 1, "nothing else is told"


def test_every_module_of_contrib_is_asked_for_its_extra() -> None:
    """None is forgotten here; those that gather others have nothing of their own to import."""
    folder = Path(tideover.__file__).parent / "contrib"
    found = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {f"tideover.contrib.{name}" for name in found - {"__init__", *_SHARED}} == set(NEEDED_BY)


def test_every_command_names_an_extra_that_exists() -> None:
    """What `pip install` is told by a sentence of ours is an extra of `pyproject.toml`."""
    section = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")[2]
    extras = set(re.findall(r"^(\w+) = \[", section.partition("\n[")[0], re.MULTILINE))
    named = set()
    for path in (ROOT / "src").rglob("*.py"):
        for group in re.findall(r"tideover\[([\w,]+)\]|extra=\"(\w+)\"", path.read_text()):
            named |= set("".join(group).split(","))
    assert {"cli", "demo", "fastapi", "httpx", "status"} <= named <= extras


def test_modules_that_are_missing_are_all_named() -> None:
    """`lacking` names each by what pip calls it, and is silent where nothing is missing."""
    assert lacking("the demo", "json", "no_such_thing", "nor_this", install="'tideover[demo]'") == (
        "the demo needs no-such-thing and nor-this: pip install 'tideover[demo]'"
    )
    assert lacking("the demo", "json", install="'tideover[demo]'") is None


def test_what_cannot_be_imported_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is blocked, or whose folder is missing, counts as missing and raises nothing."""
    monkeypatch.setitem(sys.modules, "blocked", None)
    assert not installed("blocked")
    assert not installed("no_such_folder.module")
    assert installed("json")


def test_a_version_that_lacks_a_name_is_told() -> None:
    """A library that lacks a name that is imported of it is told with the command; the cause is kept."""
    with pytest.raises(ImportError) as raised, importing("the parser", extra="json"):
        from json import no_such_name  # type: ignore[attr-defined]  # noqa: F401
    assert str(raised.value) == "the parser needs another version of json: pip install --upgrade 'tideover[json]'"
    assert isinstance(raised.value.__cause__, ImportError)


def test_a_fault_of_our_own_is_not_taken_for_a_missing_extra() -> None:
    """What tideover itself fails to import keeps its error."""
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'tideover.no_such_module'$"):
        with importing("the parser", extra="json"):
            importlib.import_module("tideover.no_such_module")
