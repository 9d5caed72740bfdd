"""Where a password comes from, without an etcd."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.canaries import canary
from tideover.etcd import password as module
from tideover.etcd.password import PasswordError, PasswordSource, read_password
from tideover.policies import Password
from tideover.store.faults import Fault, FaultKind, StoreFault, public_error

pytestmark = pytest.mark.anyio

SECRET = canary("source-password")


async def fault_of(given: Password) -> Fault:
    """Return what asking a source ends with."""
    source = PasswordSource(given)
    with pytest.raises(StoreFault) as caught:
        await source.ask()
    assert SECRET not in f"{caught.value!r} {source!r}"
    cause: BaseException | None = caught.value
    while cause is not None:
        assert SECRET not in str(cause)
        cause = cause.__cause__ or cause.__context__
    return caught.value.fault


class Asked:
    """An object with an async `__call__`."""

    async def __call__(self) -> str:
        """Give it."""
        await asyncio.sleep(0)
        return SECRET


async def _give(text: str) -> str:
    await asyncio.sleep(0)
    return text


def _later() -> Awaitable[str]:
    return _give(SECRET)


@pytest.mark.parametrize(
    "given",
    [
        SECRET,
        lambda: SECRET,
        partial(_give, SECRET),
        partial(str, SECRET),
        Asked(),
        partial(Asked()),
        _later,
        Asked().__call__,
    ],
)
async def test_every_form_gives_the_password(given: Password) -> None:
    """A text, plain functions, async ones, partials, objects that are called, and plain functions that return
    something to be awaited; and none of them is shown."""
    source = PasswordSource(given)
    assert [await source.ask() for _ in range(2)] == [SECRET] * 2
    assert SECRET not in repr(source)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
async def test_a_file_is_read_each_time_without_its_newline(tmp_path: Path, end: str) -> None:
    """What is in the file counts when it is asked, and blanks are part of a password."""
    path = tmp_path / "password"
    source = PasswordSource(path)
    for text in (f" {SECRET} ", "another", "ünï"):
        path.write_bytes(f"{text}{end}".encode())
        assert await source.ask() == text


async def test_a_relative_file_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later chdir of the process moves nothing."""
    (tmp_path / "password").write_text(SECRET)
    monkeypatch.chdir(tmp_path)
    source = PasswordSource(Path("password"))
    monkeypatch.chdir("/")
    assert await source.ask() == SECRET


async def test_a_blocking_function_blocks_nobody() -> None:
    """A plain function runs in another thread than the event loop's."""
    assert await PasswordSource(lambda: threading.current_thread().name).ask() == "tideover-password"


def _raise(error: Exception) -> str:
    raise error


async def _raise_later(error: Exception) -> str:
    await asyncio.sleep(0)
    raise error


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (partial(_raise, ValueError(SECRET)), "raised ValueError: _raise"),
        (partial(_raise, StopIteration(SECRET)), "raised RuntimeError: _raise"),
        (partial(_raise_later, TimeoutError(SECRET)), "raised TimeoutError: _raise_later"),
        (lambda: SECRET.encode(), "returned a bytes, not a string: <lambda>"),
        (lambda: None, "returned a NoneType, not a string: <lambda>"),
        (lambda: "", "returned an empty password: <lambda>"),
        (lambda: f"{SECRET}\ud800", "returned no Unicode text: <lambda>"),
        (partial(_give, ""), "returned an empty password: _give"),
    ],
)
async def test_a_function_that_gives_none_is_an_outage_that_names_it(given: Callable[[], Any], said: str) -> None:
    """Nobody of etcd was asked: no refusal, nothing applied, and what it said is not repeated."""
    fault = await fault_of(given)
    assert fault.message == f"the password function {said}"
    assert (fault.kind, fault.outage, fault.applied, fault.retry_read) == (
        FaultKind.NO_PASSWORD,
        True,
        False,
        True,
    )
    error = public_error(fault, doing="put a", writes=True)
    assert type(error).__name__ == "Unreachable"
    assert said in str(error)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "is empty"),
        (b"\r\n\n", "is empty"),
        (f"{SECRET}\xff".encode("latin-1"), "is not UTF-8 text"),
        (SECRET.encode() * 10_000, "is larger than 65536 bytes"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    """The error names the file and says why, and shows nothing of what is in it."""
    path = tmp_path / "pw"
    if content is not None:
        path.write_bytes(content)
    assert (await fault_of(path)).message == f"the password file {said}: {path}"
    with pytest.raises(PasswordError, match=re.escape(said)):
        read_password(path)


async def test_a_folder_is_no_password_file(tmp_path: Path) -> None:
    """Whatever the system says of it is told."""
    assert (await fault_of(tmp_path)).message == f"the password file cannot be read (Is a directory): {tmp_path}"


async def test_logins_at_the_same_time_ask_once() -> None:
    """However many want the password, the function is called once for all."""
    calls = []
    event = asyncio.Event()

    async def give() -> str:
        calls.append(1)
        await event.wait()
        return SECRET

    source = PasswordSource(give)
    answers = []

    async def ask() -> None:
        answers.append(await source.ask())

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(ask)
        await anyio.sleep(0.01)
        event.set()
    assert (answers, len(calls)) == ([SECRET] * 20, 1)


async def test_a_slow_source_answers_the_next_login() -> None:
    """One that takes longer than a login is not asked anew, and not lost: the login says what it waits for."""
    calls = []
    event = threading.Event()

    def give() -> str:
        calls.append(1)
        event.wait(10)
        return SECRET

    source = PasswordSource(give)
    for _ in range(3):
        with anyio.move_on_after(0.05) as scope:
            await source.ask()
        assert scope.cancelled_caught
        pending = source.pending()
        assert pending is not None
        assert pending.message.startswith("the password function has not answered yet: ")
        assert pending.outage
    event.set()
    assert await source.ask() == SECRET
    assert len(calls) == 1
    assert source.pending() is None


async def test_a_source_that_fails_is_left_alone_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes come several times a second: the source is not asked as often, and is believed when it answers."""
    calls = []

    def give() -> str:
        calls.append(1)
        return _raise(KeyError()) if len(calls) < 3 else SECRET

    now = [100.0]
    monkeypatch.setattr(module, "time", type("Clock", (), {"monotonic": staticmethod(lambda: now[0])}))
    source = PasswordSource(give)
    for at, called in ((100.0, 1), (100.9, 1), (101.1, 2), (102.0, 2)):
        now[0] = at
        with pytest.raises(StoreFault):
            await source.ask()
        assert len(calls) == called
    now[0] = 102.2
    assert await source.ask() == SECRET
    assert await source.ask() == SECRET


async def test_an_async_function_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never answers is given up, and asked again at a later login."""
    monkeypatch.setattr(module, "_LONGEST", 0.05)

    async def never() -> str:
        await asyncio.Event().wait()
        return SECRET

    assert (await fault_of(never)).message.startswith("the password function has not answered within 0 s: ")


async def test_closing_ends_what_is_under_way() -> None:
    """A function that is asked when the store closes is cancelled, and whoever waited is told."""
    source = PasswordSource(partial(_give_never, started := asyncio.Event()))
    asking = asyncio.ensure_future(source.ask())
    await started.wait()
    await source.aclose()
    with pytest.raises(StoreFault, match="was given up"):
        await asking
    await source.aclose()


async def _give_never(started: asyncio.Event) -> str:
    started.set()
    await asyncio.Event().wait()
    return SECRET


def test_a_thread_that_hangs_does_not_keep_the_process(tmp_path: Path) -> None:
    """A file on a mount that has gone away blocks its reader for ever: the process ends all the same."""
    os.mkfifo(tmp_path / "pipe")
    program = (
        "import asyncio, pathlib, sys\n"
        "from tideover.etcd.password import PasswordSource\n"
        "async def main():\n"
        "    source = PasswordSource(pathlib.Path(sys.argv[1]))\n"
        "    try:\n"
        "        await asyncio.wait_for(source.ask(), 0.1)\n"
        "    except TimeoutError:\n"
        "        print(source.pending().message)\n"
        "    await source.aclose()\n"
        "asyncio.run(main())\n"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "pipe")], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout == f"the password file has not answered yet: {tmp_path / 'pipe'}\n"
    assert time.monotonic() - began < 50


async def test_a_fifo_is_read_once_and_for_all_logins(tmp_path: Path) -> None:
    """A second reading would find nothing, so that the password is kept; one that nobody writes is an outage."""
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo, mode=0o600)
    source = PasswordSource(fifo)
    writer = threading.Thread(target=lambda: fifo.write_text(f"{SECRET}\n"))
    writer.start()
    assert [await source.ask(), await source.ask()] == [SECRET, SECRET]
    writer.join()


@pytest.mark.anyio
@pytest.mark.parametrize(("mode", "lines"), [(0o600, 0), (0o640, 0), (0o644, 1)])
async def test_a_file_that_everybody_can_read_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, lines: int
) -> None:
    """The warning names the file and its mode, not what is in it, and is not repeated at the next login."""
    path = tmp_path / "password"
    path.write_text(SECRET)
    path.chmod(mode)
    source = PasswordSource(path)
    assert [await source.ask(), await source.ask()] == [SECRET, SECRET]
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == lines
    assert all(str(path) in line and f"{mode:04o}" in line and SECRET not in line for line in said)
