"""Where a password comes from: a text, a file that is read at each login, or a function that is then asked.

A source that fails is not a refusal: etcd was not asked. So the failure is an outage, in which nothing was sent,
until the source answers. The error names the source. What the source holds or says is never repeated, not even the
words of an exception from the user's function: the secret may be in them.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from functools import partial
from pathlib import Path

from tideover import telemetry
from tideover.callables import is_async
from tideover.daemon_thread import in_daemon_thread
from tideover.policies import Password
from tideover.secret_files import is_read_once, open_to_all, read_secret
from tideover.store.faults import Fault, FaultKind, StoreFault

# The most bytes of a password file.
_LARGEST = 65_536
# Seconds for which a source that has failed is not asked again: probes come several times a second.
_FAILURE_HOLDS = 1.0
# Seconds that an async function may take. A thread cannot be ended, so that a function in one has no limit.
_LONGEST = 30.0


class PasswordError(ValueError):
    """Raised when a source gives no password; the message names the source and shows nothing of the password."""


def read_password(path: Path) -> str:
    """Return the text of a password file, without newlines at the end; of a FIFO within 5 s.

    Raises `PasswordError` if it cannot be read, is empty, too large, or not UTF-8.
    """
    try:
        content = read_secret(path, most=_LARGEST + 1)
    except OSError as exc:
        raise _unusable(path, f"cannot be read ({exc.strerror or type(exc).__name__})") from None
    if len(content) > _LARGEST:
        raise _unusable(path, f"is larger than {_LARGEST} bytes")
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        text = None
    if not text:
        # Raised out here because the error above has the content.
        raise _unusable(path, "is not UTF-8 text" if text is None else "is empty")
    return text


def _unusable(path: Path, problem: str) -> PasswordError:
    return PasswordError(f"the password file {problem}: {path}")


class PasswordSource:
    """Gives the password, as it is now.

    Concurrent logins share one question to the source. An answer that comes after its logins have given up serves
    the next login, so that a source may take longer than a login does.
    """

    def __init__(self, given: Password) -> None:
        # Absolute, so that a later chdir of the process does not move it.
        self._given = given.absolute() if isinstance(given, Path) else given
        self._asking: asyncio.Task[str | Fault] | None = None
        self._failure: Fault | None = None
        self._failed_at = 0.0
        self._looked = False

    def _named(self, problem: str) -> str:
        """Say what is wrong, and with which source; the name comes last because long ones are cut off."""
        given = self._given
        if isinstance(given, Path):
            return f"the password file {problem}: {given}"
        function: object = given.func if isinstance(given, partial) else given
        return f"the password function {problem}: {getattr(function, '__qualname__', type(function).__qualname__)}"

    async def ask(self) -> str:
        """Return the password; raise `StoreFault` (`FaultKind.NO_PASSWORD`) if the source gives none."""
        if isinstance(self._given, str):
            return self._given
        if self._failure is not None and time.monotonic() - self._failed_at < _FAILURE_HOLDS:
            raise StoreFault(self._failure)
        asking = self._asking = self._asking or asyncio.get_running_loop().create_task(self._fetch())
        # A cancelled login leaves the question to the others.
        await asyncio.wait({asking})
        if self._asking is asking:
            self._asking = None
        answer = _fault(self._named("was given up")) if asking.cancelled() else asking.result()
        if isinstance(answer, Fault):
            self._failure, self._failed_at = answer, time.monotonic()
            raise StoreFault(answer)
        self._failure = None
        return answer

    def pending(self) -> Fault | None:
        """Return the fault of a login that timed out on the source; None if the source has answered."""
        if self._asking is None or self._asking.done():
            return None
        return _fault(self._named("has not answered yet"))

    async def aclose(self) -> None:
        """Ask no more."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
            await asyncio.wait({asking})

    async def _fetch(self) -> str | Fault:
        try:
            return await self._answer()
        except PasswordError as exc:
            return _fault(str(exc))
        except Exception as exc:  # noqa: BLE001  # the user's own; told by its class
            return _fault(self._named(f"raised {type(exc).__name__}"))

    def _read(self, path: Path) -> str:
        password = read_password(path)
        problem = "" if self._looked else open_to_all(path)
        self._looked = True
        if problem:
            telemetry.secret_exposed(problem)
        if is_read_once(path):
            self._given = password
        return password

    async def _answer(self) -> str:
        given = self._given
        if isinstance(given, str):
            return given
        if isinstance(given, Path):
            return await in_daemon_thread(partial(self._read, given), name="tideover-password")
        said = given() if is_async(given) else await in_daemon_thread(given, name="tideover-password")
        if inspect.isawaitable(said):
            try:
                async with asyncio.timeout(_LONGEST) as limit:
                    said = await said
            except TimeoutError:
                if not limit.expired():
                    raise
                raise PasswordError(self._named(f"has not answered within {_LONGEST:.0f} s")) from None
        if not isinstance(said, str):
            raise PasswordError(self._named(f"returned a {type(said).__name__}, not a string"))
        if not said or not is_unicode(said):
            problem = "no Unicode text" if said else "an empty password"
            raise PasswordError(self._named(f"returned {problem}"))
        return said


def is_unicode(text: str) -> bool:
    """Whether a text can be sent: half a surrogate pair cannot, and the error of trying would show the text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fault(message: str) -> Fault:
    return Fault(FaultKind.NO_PASSWORD, "UNAVAILABLE", message, retry_read=True, applied=False)
