"""The documentation is true: its Python blocks run and print what they say.

Pages are written for an etcd on 127.0.0.1:2379; here a real one runs elsewhere, and its address is put in. All
is run as a person would. A block titled `NAME.py` is a whole script: it is saved under that name, and run by a
Python of its own. One titled `test_*.py` is run by pytest, beside the scripts of its page. The other blocks of a
page are parts of one program: imports first, the rest in order, from the first `await` on in an `async def`.
Where a `print(...)` ends in a comment, the comment is what it must print; `...` in it stands for anything.
"""

from __future__ import annotations

import ast
import asyncio
import fnmatch
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

    def __init__(self, source: list[str]) -> None:
        self.source = source
        self.checked = 0

    def __call__(self, *values: object, **options: object) -> None:
        line = self.source[sys._getframe(1).f_lineno - 1]
        match = PRINTED.search(line)
        if match is None:
            return
        printed = " ".join(map(str, values))
        assert pattern_of(match["said"]).fullmatch(printed), f"{line.strip()}\nbut it prints: {printed}"
        self.checked += 1


def pattern_of(said: str) -> re.Pattern[str]:
    """Return what a comment stands for."""
    return re.compile(".*".join(map(re.escape, said.split("..."))))


def said_in(blocks: list[Block]) -> list[str]:
    """Return what the comments of blocks say that is printed, in order."""
    lines = (line for block in blocks for line in block.code.splitlines())
    return [match["said"] for line in lines if (match := PRINTED.search(line))]


def awaits(statement: ast.stmt) -> bool:
    """Whether a statement awaits, outside of the functions that it defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    return any(isinstance(node, ast.Await | ast.AsyncWith | ast.AsyncFor) for node in ast.walk(statement))


def run_parts(blocks: list[Block], *, endpoint: str) -> int:
    """Run blocks, in order, as one program with a `main`; return how many printed lines were compared."""
    source: list[str] = []
    body: list[ast.stmt] = []
    for block in blocks:
        tree = ast.parse(block.code.replace(ENDPOINT, endpoint), block.where)
        body += ast.increment_lineno(tree, len(source)).body
        source += block.code.splitlines()
    module = ast.parse("async def main():\n    pass\n")
    (main,) = module.body
    assert isinstance(main, ast.AsyncFunctionDef)
    imports = [statement for statement in body if isinstance(statement, ast.Import | ast.ImportFrom)]
    body = [statement for statement in body if statement not in imports]
    first = next((n for n, statement in enumerate(body) if awaits(statement)), len(body))
    module.body = [*imports, *body[:first], main]
    main.body = body[first:] or main.body
    printer = Printer(source)
    page = types.ModuleType("docs_page")
    vars(page)["print"] = printer
    sys.modules[page.__name__] = page
    try:
        exec(compile(module, str(blocks[0].page) if blocks else "", "exec", dont_inherit=True), vars(page))
        asyncio.run(vars(page)["main"]())
    finally:
        del sys.modules[page.__name__]
    return printer.checked


def run_script(block: Block, folder: Path) -> None:
    """Run a whole script that was saved in a folder, and look for what its comments say in what it prints."""
    done = subprocess.run(
        [sys.executable, block.title], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{block.where}: {done.stdout}{done.stderr}"
    printed = iter(done.stdout.splitlines())
    for said in said_in([block]):
        assert any(pattern_of(said).fullmatch(line) for line in printed), (
            f"{block.where}: {said!r} not in {done.stdout}"
        )


@pytest.mark.etcd
@pytest.mark.any_etcd
@pytest.mark.parametrize("page", with_python(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(page: Path, etcd: EtcdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of the page runs, in order, and prints what its comments say."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    etcd.etcdctl("del", "--from-key", "")
    blocks = blocks_of(page)
    scripts = [block for block in blocks if block.title.endswith(".py")]
    for script in scripts:
        (tmp_path / script.title).write_text(script.code.replace(ENDPOINT, etcd.endpoint))
    tests = [script for script in scripts if fnmatch.fnmatch(script.title, "test_*.py")]
    for script in scripts:
        if script not in tests:
            run_script(script, tmp_path)
    parts = [block for block in blocks if block not in scripts]
    expected = len(said_in(parts))
    checked = run_parts(parts, endpoint=etcd.endpoint)
    assert checked >= expected, f"{expected} lines say what they print, and only {checked} were reached"
    if tests:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_comment_is_found(tmp_path: Path) -> None:
    """A comment that says something else than what is printed fails the page, in a part and in a script."""
    code = "print(1 + 1)  # 3\n"
    with pytest.raises(AssertionError, match="but it prints: 2"):
        run_parts([Block(ROOT / "README.md", 1, "", code)], endpoint=ENDPOINT)
    (tmp_path / "sum.py").write_text(code)
    with pytest.raises(AssertionError, match="'3' not in 2"):
        run_script(Block(ROOT / "README.md", 1, "sum.py", code), tmp_path)


def test_parts_of_a_page_are_one_program() -> None:
    """A part may await, and what it defines is there for the next one; an error has the line of its part."""
    blocks = [
        Block(ROOT / "README.md", 1, "", "import asyncio\nx = await asyncio.sleep(0, 5)\n"),
        Block(ROOT / "README.md", 9, "", "print(x)  # 5\n"),
    ]
    assert run_parts(blocks, endpoint=ENDPOINT) == 1


def test_no_script_awaits_outside_of_a_function() -> None:
    """What is titled as a script is one: no `python` of any version refuses it."""
    for page in with_python(PAGES):
        for block in blocks_of(page):
            if block.title.endswith(".py"):
                compile(block.code, block.where, "exec", dont_inherit=True)


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
