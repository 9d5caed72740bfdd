"""What extras bring: whether it is installed, and the one sentence for those who lack it.

This module imports nothing but the standard library: it has to work where everything else is missing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager


def installed(module: str) -> bool:
    """Whether a module could be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def lacking(what: str, *modules: str, install: str) -> str | None:
    """Return the sentence for a module that is missing, with the command that installs it; None if none is."""
    missing = [module.replace("_", "-") for module in modules if not installed(module)]
    return _sentence(what, *missing, install=install) if missing else None


@contextmanager
def importing(what: str, *, extra: str) -> Iterator[None]:
    """Import, in the body, what an extra brings; if it is missing, `ImportError` says so in one sentence.

        with importing(__name__, extra="openfeature"):
            from openfeature.provider import AbstractProvider

    Raises:
        ImportError: Something is missing (`ModuleNotFoundError`), or too old for what is imported of it.
    """
    install = f"'tideover[{extra}]'"
    try:
        yield
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing in ("", "tideover"):
            raise
        raise ModuleNotFoundError(_sentence(what, missing, install=install), name=exc.name) from None
    except ImportError as exc:
        unfit = (exc.name or "").partition(".")[0]
        if unfit in ("", "tideover"):
            raise
        text = _sentence(what, f"another version of {unfit}", install=f"--upgrade {install}")
        raise ImportError(text, name=exc.name, path=exc.path) from exc


def _sentence(what: str, *missing: str, install: str) -> str:
    return f"{what} needs {' and '.join(missing)}: pip install {install}"
