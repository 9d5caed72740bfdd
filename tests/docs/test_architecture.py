"""`docs/explanation/architecture.md` is true: its tree is the source's, and its calls take the ways it says."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import FrameType

import anyio
import anyio.to_thread
import pytest

import tideover
from docs import call_paths
from tideover.testing import EtcdServer

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "tideover"
PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
CALLS = call_paths.calls(PAGE)
LAYERS = call_paths.layers((ROOT / "pyproject.toml").read_text())


def tree() -> list[list[str]]:
    """Return the names of the page's tree by groups: folders with their path and a slash, modules without."""
    text = PAGE.partition("\n## The tree\n")[2].partition("```text\n")[2].partition("```")[0]
    groups = []
    for group in text.strip().split("\n\n"):
        names: list[str] = []
        above = ""
        for line in group.splitlines():
            found = re.fullmatch(r"(  )?(\w+/?) +\S.*", line)
            assert found is not None, line
            above = above if found[1] else found[2]
            names.append(above + found[2] if found[1] else found[2])
        groups.append(names)
    return groups


def test_the_tree_has_each_folder_and_root_module_once() -> None:
    """Nothing that exists is missing in the tree, nothing is more, and each has one line."""
    folders = {f"{path.parent.relative_to(SOURCE)}/" for path in SOURCE.rglob("__init__.py")} - {"./"}
    modules = {path.stem for path in SOURCE.glob("*.py")} - {"__init__"}
    assert sorted(name for group in tree() for name in group) == sorted(folders | modules)


def test_the_groups_of_the_tree_are_the_layers() -> None:
    """The tree's groups are those of the contract, in its order."""
    groups = [{name.partition("/")[0] for name in group} for group in tree()]
    assert groups == [set(layer) for layer in LAYERS]


def test_the_modules_of_the_calls_exist() -> None:
    """Five calls are listed, and each module in them is a file."""
    assert len(CALLS) == 5
    assert [m for call in CALLS for m in call.modules if not (SOURCE / m).with_suffix(".py").exists()] == []


def test_the_picture_is_of_the_lists() -> None:
    """`python docs/call_paths.py` would draw nothing else than what is committed."""
    assert call_paths.PICTURE.read_text() == call_paths.draw(CALLS, LAYERS)


async def entered(call: Callable[[], Awaitable[object]]) -> set[str]:
    """Make a call; return the modules of tideover that were entered meanwhile, by any task of the event loop."""
    modules = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(f"{SOURCE}/"):
            modules.add(path.removeprefix(f"{SOURCE}/").removesuffix(".py"))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        await call()
    finally:
        sys.setprofile(before)
    return modules


async def make_calls(server: EtcdServer) -> dict[str, set[str]]:
    """Make the page's calls at a real etcd; return what each entered, by its heading."""
    async with tideover.connect(server.endpoint, cache_dir=False, start_timeout=10) as tide:

        async def shown(value: str) -> None:
            # As text, so that the value is not known as a float yet.
            with anyio.fail_after(10):
                while tide.config.get("rate", default="") != value:
                    await anyio.sleep(0.02)

        async def get() -> None:
            tide.config.get("rate", float)

        async def enter(block: AbstractAsyncContextManager[object]) -> None:
            async with block:
                pass

        async def change() -> None:
            await anyio.to_thread.run_sync(server.etcdctl, "put", "/config/rate", "2.5")
            await shown("2.5")

        # What is written after the start is shown by the watch, which therefore is open by then.
        await tide.config.put("rate", 1.5)
        await shown("1.5")
        await enter(tideover.lock("orders/41"))
        return {
            "config.get": await entered(get),
            "lock": await entered(lambda: enter(tideover.lock("orders/42"))),
            "leader": await entered(lambda: enter(tideover.leader("reaper"))),
            "register": await entered(lambda: enter(tideover.register("api", "http://10.0.0.7:8000"))),
            "watch event": await entered(change),
        }


@pytest.mark.etcd
@pytest.mark.any_etcd
def test_the_calls_take_these_ways() -> None:
    """Each module that the page lists for a call is entered by it."""
    with EtcdServer() as server:
        found = asyncio.run(make_calls(server))
    assert list(found) == [call.name for call in CALLS]
    assert {call.name: set(call.modules) - found[call.name] for call in CALLS} == {name: set() for name in found}
