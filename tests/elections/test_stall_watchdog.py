"""The watchdog's thread: when it is there, what it says, and that a fork does not keep it."""

from __future__ import annotations

import os
import threading
import time
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from tideover.clock import system_boot_time
from tideover.elections.stall_watchdog import Watchdog


def led(left: float) -> Any:
    """Return what the watchdog sees of a record that is held, with its deadline in so many seconds."""
    now = system_boot_time()
    return SimpleNamespace(state=SimpleNamespace(held=True, deadline=now + left, token=7), looked_at=now)


def threads() -> list[str]:
    """Return which of the watchdog's threads there are."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tideover-")]


def test_a_thread_only_while_something_is_led() -> None:
    """Nothing led, no thread; several led, one thread; after `close` none."""
    watchdog = Watchdog(system_boot_time)
    assert threads() == []
    records = [led(100), led(200)]
    for name, record in zip("ab", records, strict=True):
        watchdog.watch(name, record)
        watchdog.watch(name, record)
    assert threads() == ["tideover-watchdog"]
    assert repr(watchdog) == "<Watchdog awake, 2 led, 0 stalls>"
    for name, record in zip("ab", records, strict=True):
        watchdog.forget(name, led(1))
        watchdog.forget(name, record)
    watchdog.close()
    assert threads() == []
    watchdog.watch("a", records[0])
    assert threads() == ["tideover-watchdog"]
    watchdog.close()
    watchdog.close()
    assert threads() == []
    assert watchdog.last() is None


def test_what_it_says_and_does(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """A stall is told once, with the stack; the next one again; with "abort" the process is ended after that."""
    aborted: list[float] = []
    watchdog = Watchdog(system_boot_time, on_stall="abort", abort=lambda: aborted.append(system_boot_time()))
    record = led(0.05)
    watchdog.watch("reaper", record)
    time.sleep(0.9)
    last = watchdog.last()
    assert last is not None
    assert last.election == "reaper"
    assert 0.5 <= last.late < 0.85
    assert last.ago < 0.5
    assert "test_what_it_says_and_does" in last.stack
    assert watchdog.stalls == 1
    # At once, and once more by the one who does not wait for the last words.
    assert len(aborted) == 2
    assert "on_stall='abort'" in capfd.readouterr().err
    assert "'reaper', token 7: the event loop is blocked" in caplog.text
    record.looked_at = system_boot_time()
    time.sleep(0.3)
    record.state.deadline = system_boot_time()
    time.sleep(0.9)
    assert watchdog.stalls == 2
    watchdog.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child() -> None:
    """A child has no such thread, and closes without waiting for it; the parent's goes on."""
    watchdog = Watchdog(system_boot_time)
    watchdog.watch("a", led(100))
    with warnings.catch_warnings():
        # Newer Pythons warn of forks of processes with threads, and this is about just that.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        began = time.monotonic()
        watchdog.close()
        os._exit(int(bool(threads()) or time.monotonic() - began > 0.5))
    assert os.waitpid(child, 0)[1] == 0
    assert threads() == ["tideover-watchdog"]
    watchdog.close()
