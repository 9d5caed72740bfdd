"""What a coordinator shows, and how it and all others are made."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tideover
from tests.support import connected
from tideover.testing import MemoryStore

SOURCES = Path(tideover.__file__).parent

PUBLIC = {
    *{"config", "config_keys", "epoch", "foreign_values", "health", "namespace", "namespaces", "phase", "status"},
    *{"election", "follow_leader", "job", "leader", "leader_address", "run_while_leading", "standing", "term"},
    *{"catalog", "discover", "lock", "lock_conflicts", "register", "registrations", "services", "session"},
}

# Constructors whose parameters are options that users give by name.
OF_OPTIONS = {"TideoverMiddleware", "Discovering"}
MOST_PARAMETERS = 7


@pytest.mark.anyio
async def test_it_shows_its_public_names_only() -> None:
    """`dir()` of a coordinator is what the documentation names, before it is entered and while it is open."""
    assert set(dir(tideover.connect(store=MemoryStore()))) == PUBLIC
    async with connected(MemoryStore()) as tide:
        assert set(dir(tide)) == PUBLIC
        assert all(hasattr(tide, name) for name in PUBLIC)


def test_no_constructor_takes_many_parameters() -> None:
    """A class takes the client, or its parts, instead of each of them; records of options are dataclasses."""
    found = {
        made.name: taken
        for path in SOURCES.rglob("*.py")
        for made in ast.walk(ast.parse(path.read_text()))
        if isinstance(made, ast.ClassDef) and (taken := _parameters(made)) > MOST_PARAMETERS
    }
    assert found.keys() == OF_OPTIONS


def _parameters(made: ast.ClassDef) -> int:
    """Return how many parameters a class's own constructor takes, beside the object itself."""
    for each in made.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            return len([*each.args.posonlyargs, *each.args.args, *each.args.kwonlyargs]) - 1
    return 0
