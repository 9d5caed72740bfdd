"""A process that forks, for `test_forks`: `python -m tests.etcd.forking SCENE ENDPOINT ...`; it prints facts."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from typing import Any

import tideover
from tideover import Coordinator

# Newer Pythons warn of forks beside threads.
warnings.simplefilter("ignore", DeprecationWarning)

_kept: list[object] = []


def say(**facts: object) -> None:
    """Print facts."""
    print(json.dumps(facts), flush=True)


def connecting(endpoint: str, **options: Any) -> Coordinator:
    """Return a coordinator, to be entered."""
    return tideover.connect(endpoint, cache_dir=False, start_timeout=3, **options)


def state_of(endpoint: str) -> str:
    """Connect, once; return the state of etcd, or the error."""

    async def look() -> str:
        async with connecting(endpoint) as tide:
            return tide.health.state

    try:
        return asyncio.run(look())
    except tideover.TideoverError as exc:
        return f"{type(exc).__name__}: {exc}"


def in_fork(work: Callable[[], str]) -> tuple[str, float]:
    """Do something in a forked child that ends as a worker does; return what it returned, and its seconds."""
    reading, writing = os.pipe()
    began, pid = time.monotonic(), os.fork()
    if not pid:
        faulthandler.dump_traceback_later(20, exit=True)
        os.write(writing, work().encode())
        sys.exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    _, status = os.waitpid(pid, 0)
    return (text if status == 0 else f"wait status {status:#x}"), time.monotonic() - began


async def use(endpoint: str, trouble: str) -> None:
    """Use everything, perhaps get into trouble, and keep what was raised."""
    async with connecting(endpoint) as tide:
        async with tide.lock("a", timeout=5), tide.leader("b"), tide.register("c", "http://127.0.0.1:1"):
            await tide.discover("c").wait_for(1, timeout=5)
            await tide.config.put("key", "value")
        if trouble == "cancelled":
            for _ in range(20):
                task = asyncio.create_task(tide.config.put("key", "value"))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                task.cancel()
        if trouble == "renewed":
            for _ in range(3):
                assert tide._parts.store is not None
                tide._parts.store.renew(endpoint)
                await tide.config.put("key", "value")
        if trouble == "kept":
            for call in (
                lambda: tide.config.put("key", "x" * 3_000_000),
                lambda: tide.config.put("key", "value", timeout=0.00001),
                lambda: tide.config.fetch("other", timeout=0.00001),
            ):
                try:
                    await call()
                except tideover.TideoverError as exc:
                    _kept.append(exc)


def after_close(endpoint: str, trouble: str, rounds: int) -> None:
    """Connect, close, fork; the child connects. Again and again."""
    for _ in range(rounds):
        asyncio.run(use(endpoint, trouble))
        said, seconds = in_fork(lambda: state_of(endpoint))
        say(child=said, seconds=seconds)
    say(kept=len(_kept))


async def closed_in_the_loop(endpoint: str) -> None:
    """Fork a pool in the event loop in which a coordinator was closed, with its objects still at hand."""
    async with connecting(endpoint) as tide:
        held = tide.lock("a", timeout=5)
        async with held:
            pass
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        loop = asyncio.get_running_loop()
        for _ in range(4):
            say(child=await loop.run_in_executor(pool, state_of, endpoint))
    say(here=repr(tide))


def made_before(endpoint: str) -> None:
    """Make a coordinator, fork twice, and enter it in both children and here."""
    tide = connecting(endpoint)

    async def enter() -> str:
        async with tide:
            locks = tide._parts.locks
            own = locks.context.process_name().endswith(f":{os.getpid()}")
            return f"{tide.health.state} {own} {locks._ledger._owner}"

    say(each=[in_fork(lambda: asyncio.run(enter()))[0] for _ in range(2)])
    say(each=[asyncio.run(enter())])


def busy(seconds: float) -> str:
    """Work in a child, with collections."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)
    return "done"


def use_inherited() -> str:
    """Use the parent's coordinator in a child."""
    try:
        asyncio.run(_inherited[0].config.put("key", "child"))
    except tideover.TideoverError as exc:
        return f"{type(exc).__name__}: {exc}"
    return "put"


_inherited: list[Coordinator] = []


async def while_open(endpoint: str, context: BaseContext) -> None:
    """Run a pool of processes while connected, and put all the time."""
    fork = context.get_start_method() == "fork"
    async with connecting(endpoint) as tide, tide.lock("held", timeout=5) as held:
        _inherited.append(tide)
        errors: list[str] = []
        puts = 0
        with ProcessPoolExecutor(2, context) as pool:
            loop = asyncio.get_running_loop()
            work = [loop.run_in_executor(pool, state_of, endpoint) for _ in range(3)]
            work += [loop.run_in_executor(pool, busy, 1.0)]
            if fork:
                work += [loop.run_in_executor(pool, use_inherited)]
            while not all(each.done() for each in work) or puts < 100:
                try:
                    await tide.config.put("key", puts, timeout=5)
                except tideover.TideoverError as exc:
                    errors.append(repr(exc))
                puts += 1
                await asyncio.sleep(0.005)
        held.check()
        say(children=[each.result() for each in work], puts=puts, errors=errors, state=tide.health.state)


async def without_grpc(endpoint: str) -> None:
    """Use everything, with grpc as good as not installed; say what was loaded for it."""
    sys.modules["grpc"] = None  # type: ignore[assignment] # an import of it fails
    async with connecting(endpoint) as tide:
        async with tide.lock("a", timeout=5), tide.leader("b"), tide.register("c", "http://127.0.0.1:1"):
            await tide.config.put("key", "value")
            threads = threading.active_count()
        names = sorted(name for name in sys.modules if name.partition(".")[0] in ("grpc", "aetcd"))
        say(grpc=names, state=tide.health.state, threads=threads)


if __name__ == "__main__":
    scene, server, *rest = sys.argv[1:]
    if scene == "after_close":
        after_close(server, rest[0], int(rest[1]))
    elif scene == "without_grpc":
        asyncio.run(without_grpc(server))
    elif scene == "made_before":
        made_before(server)
    elif scene == "closed_in_the_loop":
        asyncio.run(closed_in_the_loop(server))
    else:
        asyncio.run(while_open(server, multiprocessing.get_context(rest[0])))
