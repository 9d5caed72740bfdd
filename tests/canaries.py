"""Secrets that can be recognised, and a search for them in all that a run of the tests says.

`canary("password")` is a secret of a test's own. While the tests run, everything that is said passes a search:
lines of the log, output of commands and of child processes, errors, spans and events, reports of the status, and
the snapshots and ledgers on disk. The test in which one is found fails, and the place is named. Secrets that are
made as the tests go, as tokens and private keys are, are looked for as well once `watch` knows them.
"""

from __future__ import annotations

import base64
import logging
import subprocess
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import anyio
import pytest

from tideover.coordinator.status_report import Reporter
from tideover.errors import TideoverError
from tideover.etcd.auth_token import Login
from tideover.telemetry import events

# In every canary, and nowhere else: no name has it, and it stays as it is in URLs, JSON and reprs.
MARK = "k4n4r13nv0g3l"
# Characters to each side of a secret that are shown of where it was.
_AROUND = 60
_SHORTEST = 12
# Also as base64 has it, at each of three offsets.
_secrets = {MARK, *(base64.b64encode(b"x" * n + MARK.encode()).decode()[4 * (n > 0) : -4] for n in range(3))}
_found: list[str] = []


def canary(kind: str) -> str:
    """Return a secret that nothing may say; the same one for the same `kind`."""
    return f"{kind}-{MARK}"


def watch(secret: str) -> None:
    """Look for a secret that was made elsewhere, from now on; what is too short for one is left alone."""
    if len(secret) >= _SHORTEST:
        _secrets.add(secret)


def search(place: str, *said: object) -> None:
    """Look for secrets in what was said.

    Args:
        place: Where it was said, for messages.
        said: Texts or bytes; whatever else is looked at by its `repr`; None says nothing.
    """
    for each in said:
        text = each if isinstance(each, str) else each.decode("latin-1") if isinstance(each, bytes) else repr(each)
        for secret in _secrets:
            at = text.find(secret)
            if at >= 0:
                _found.append(f"{place}: ...{text[max(0, at - _AROUND) : at + len(secret) + _AROUND]!r}...")
                break


def taken() -> list[str]:
    """Return what was found, and forget it."""
    found = _found.copy()
    _found.clear()
    return found


def search_files(folder: Path) -> None:
    """Look into snapshots, ledgers and files of host locks below a folder; not into those of a test's own."""
    for pattern in ("config-*", "discovery-*", "ledger/**/*"):
        for path in folder.rglob(pattern):
            if path.is_file():
                search(f"the file {path}", path.read_bytes())


def install() -> None:
    """Let all that is said pass the search; once for the process."""
    logging.getLogger().addHandler(_Lines())
    # All events, also those whose level nobody wants.
    _listen(events._log, "log", lambda _, level, form, *said: search("an event", *said))
    _listen(events._events, "emit", lambda _, record: search("an event", record.attributes))
    _listen(subprocess.Popen, "communicate", lambda output, child, *_: search(_output_of(child), *output))
    _listen(pytest.CaptureFixture, "readouterr", lambda output, *_: search("what was captured", *output))
    _listen(type(pytest.raises(ValueError)), "__exit__", lambda _, block, *error: _search_error(*error))
    _listen(TideoverError, "__init__", lambda _, error, *args: search(f"a {type(error).__name__}", *args))
    _listen(Reporter, "report", lambda report, *_: search("the status", report))
    _listen_async(Login, "_authenticate", lambda token: watch(token.partition(".")[0]))
    _listen_async(anyio, "run_process", lambda done: search("the output of a process", done.stdout, done.stderr))


class _Lines(logging.Handler):
    """Looks at each line of anybody's."""

    def emit(self, record: logging.LogRecord) -> None:
        search(f"a line of {record.name}", record.getMessage(), record.exc_text or "")


def _listen(owner: Any, name: str, heard: Callable[..., object]) -> None:
    """Call a function with the result and the arguments of another one, each time that it has returned."""
    real = getattr(owner, name)

    @wraps(real)
    def call(*args: Any, **options: Any) -> Any:
        result = real(*args, **options)
        heard(result, *args)
        return result

    setattr(owner, name, call)


def _listen_async(owner: Any, name: str, heard: Callable[[Any], object]) -> None:
    real = getattr(owner, name)

    @wraps(real)
    async def call(*args: Any, **options: Any) -> Any:
        result = await real(*args, **options)
        heard(result)
        return result

    setattr(owner, name, call)


def _output_of(child: subprocess.Popen[Any]) -> str:
    words = child.args if isinstance(child.args, list | tuple) else [child.args]
    return f"the output of {' '.join(map(str, words[:6]))}"


def _search_error(kind: object, error: BaseException | None, trace: object) -> None:
    for each in _chain(error):
        search(f"a {type(each).__name__}", str(each), each.args, *getattr(each, "__notes__", ()))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    if error is not None:
        yield error
        within = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        for each in (error.__cause__, None if error.__suppress_context__ else error.__context__, *within):
            yield from _chain(each)
