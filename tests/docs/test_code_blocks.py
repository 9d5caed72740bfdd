"""The documentation is true: its Python blocks run and print what they say.

Pages are written for an etcd on 127.0.0.1:2379; here a real one runs elsewhere, and its address is put in. The
blocks of a page run in order in one namespace, and may `await` at the top level, as `python -m asyncio` allows.
Where a `print(...)` ends in a comment, the comment is what it must print; `...` in it stands for anything. A block
titled `test_*.py` is run by pytest instead.
"""

from __future__ import annotations

import ast
import asyncio
import fnmatch
import inspect
import os
import re
import signal
import subprocess
import sys
import time
import types
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tideover.testing import EtcdServer
from tideover.testing.etcd.ports import ReservedPort

ROOT = Path(__file__).parents[2]
ENDPOINT = "127.0.0.1:2379"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>py[^\n`]*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
PRINTED = re.compile(r"print\(.*\)  # (?P<said>.+)$")


@dataclass(frozen=True)
class Block:
    """A fenced block of Python."""

    page: Path
    line: int
    title: str
    code: str

    @property
    def where(self) -> str:
        """The file and line, as tracebacks show it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return a page's Python blocks."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        indent = match["indent"]
        code = "\n".join(line.removeprefix(indent) for line in match["code"].splitlines()) + "\n"
        title = re.search(r'title="([^"]*)"', match["info"])
        found.append(Block(page, text.count("\n", 0, match.start()) + 1, title[1] if title else "", code))
    return found


def with_python(pages: list[Path]) -> list[Path]:
    """Return the pages that have Python blocks."""
    return [page for page in pages if blocks_of(page)]


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    """One etcd for all pages."""
    with EtcdServer() as server:
        yield server


class Printer:
    """What a page's blocks call as `print`: compares with the comment on the line of the call."""

    def __init__(self) -> None:
        self.sources: dict[str, list[str]] = {}
        self.checked = 0

    def __call__(self, *values: object, **options: object) -> None:
        caller = sys._getframe(1)
        line = self.sources[caller.f_code.co_filename][caller.f_lineno - 1]
        match = PRINTED.search(line)
        if match is None:
            return
        printed, said = " ".join(map(str, values)), match["said"]
        pattern = ".*".join(map(re.escape, said.split("...")))
        assert re.fullmatch(pattern, printed), f"{line.strip()}\nbut it prints: {printed}"
        self.checked += 1


def run_page(blocks: list[Block], *, endpoint: str) -> int:
    """Run blocks in one namespace; return how many printed lines were compared."""
    module = types.ModuleType("docs_page")
    printer = Printer()
    vars(module)["print"] = printer
    sys.modules[module.__name__] = module
    try:
        with asyncio.Runner() as runner:
            for block in blocks:
                source = block.code.replace(ENDPOINT, endpoint)
                printer.sources[block.where] = source.splitlines()
                code = compile(source, block.where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
                result = eval(code, vars(module))
                if inspect.iscoroutine(result):
                    runner.run(result)
    finally:
        del sys.modules[module.__name__]
    return printer.checked


@pytest.mark.etcd
@pytest.mark.any_etcd
@pytest.mark.parametrize("page", with_python(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(page: Path, etcd: EtcdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of the page runs, in order, and prints what its comments say."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    etcd.etcdctl("del", "--from-key", "")
    blocks = blocks_of(page)
    tests = [block for block in blocks if fnmatch.fnmatch(block.title, "test_*.py")]
    expected = sum(bool(PRINTED.search(line)) for b in blocks if b not in tests for line in b.code.splitlines())
    checked = run_page([block for block in blocks if block not in tests], endpoint=etcd.endpoint)
    assert checked >= expected, f"{expected} lines say what they print, and only {checked} were reached"
    if tests:
        for block in tests:
            (tmp_path / block.title).write_text(block.code)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_comment_is_found() -> None:
    """A comment that says something else than what is printed fails the page."""
    block = Block(ROOT / "README.md", 1, "", "print(1 + 1)  # 3\n")
    with pytest.raises(AssertionError, match="but it prints: 2"):
        run_page([block], endpoint=ENDPOINT)


def test_top_level_await_and_later_blocks_share_a_namespace() -> None:
    """A block may await at the top level, and what it defines is there for the next one."""
    blocks = [
        Block(ROOT / "README.md", 1, "", "import asyncio\nx = await asyncio.sleep(0, 5)\n"),
        Block(ROOT / "README.md", 9, "", "print(x)  # 5\n"),
    ]
    assert run_page(blocks, endpoint=ENDPOINT) == 1


# The tutorial's steps ------------------------------------------------------------------------------------------


@contextmanager
def uvicorn(folder: Path, port: int) -> Iterator[None]:
    """Run the tutorial's service from a folder."""
    command = [sys.executable, "-m", "uvicorn", "service:app", "--port", str(port), "--log-level", "warning"]
    env = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    process = subprocess.Popen(command, cwd=folder, env=env)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(15)


def ask(port: int, timeout: float = 20.0) -> tuple[str, str]:
    """Return the body and the `Tideover-Status` field, once the service listens."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
                return response.read().decode().strip(), response.headers.get("Tideover-Status", "")
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)


@pytest.mark.etcd
@pytest.mark.any_etcd
def test_tutorial_steps(tmp_path: Path) -> None:
    """The tutorial's service shows a change at once, outlives etcd, and starts again without it."""
    page = ROOT / "docs" / "tutorial" / "first-service.md"
    (block,) = (block for block in blocks_of(page) if block.title == "service.py")
    port = ReservedPort()
    with EtcdServer() as server:
        (tmp_path / "service.py").write_text(block.code.replace(ENDPOINT, server.endpoint))
        server.etcdctl("put", "/config/greeting", "Good morning")
        with uvicorn(tmp_path, port.number):
            assert ask(port.number) == ("Good morning", "")
            server.etcdctl("put", "/config/greeting", "Good evening")
            deadline = time.monotonic() + 5
            while ask(port.number)[0] != "Good evening" and time.monotonic() < deadline:
                time.sleep(0.02)
            server.kill()
            assert ask(port.number)[0] == "Good evening"
            while not ask(port.number)[1] and time.monotonic() < deadline + 10:
                time.sleep(0.1)
            body, field = ask(port.number)
            assert body == "Good evening"
            assert re.fullmatch(r"config=memory;age=\d+", field)
        with uvicorn(tmp_path, port.number):
            body, field = ask(port.number)
            assert body == "Good evening"
            assert re.fullmatch(r"config=disk;age=\d+", field)
            server.start()
            while ask(port.number)[1] and time.monotonic() < deadline + 30:
                time.sleep(0.1)
            assert ask(port.number) == ("Good evening", "")
