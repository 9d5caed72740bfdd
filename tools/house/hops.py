"""What a call passes on its way to the store: calls into the package, modules entered, frames above the store.

Only the task that makes the call is counted, for background tasks take their own time. The depth is that of the
deepest stack at which any task reaches the store meanwhile, counted from the first frame of that task. A process
caches some answers for good, so a cold call is cold once in a process.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import tideover
from tideover.store.operations import Op, R
from tideover.testing import MemoryStore

# Seconds in which background tasks finish what the call before has left to them.
_REST = 0.1


@dataclass(frozen=True, slots=True)
class Hops:
    """What one call passed.

    Attributes:
        calls: How often a function of the package was entered; a coroutine that resumes counts again.
        modules: The modules of those functions, sorted.
        path: The functions on the deepest stack at the store, the outermost first; empty if the store was not
            reached.
    """

    calls: int
    modules: tuple[str, ...]
    path: tuple[str, ...]


class Trace:
    """Counts the calls of one task into the modules below a folder.

    Args:
        root: The folder.
        without: A folder in it that is not counted; None means all are.
    """

    def __init__(self, root: Path, *, without: str | None = None) -> None:
        self._root = f"{root}/"
        self._without = None if without is None else f"{without}/"
        self._path: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Show the folder."""
        return f"<Trace {self._root}>"

    async def run(self, body: Callable[[], Awaitable[object]]) -> Hops:
        """Count one call.

        Args:
            body: Makes the call, in the task that runs this.
        """
        task = asyncio.current_task()
        calls = 0
        modules = set()

        def count(frame: FrameType, event: str, _: object) -> None:
            nonlocal calls
            module = self._module(frame) if event == "call" else None
            if module is not None and _current_task() is task:
                calls += 1
                modules.add(module)

        self._path = ()
        sys.setprofile(count)
        try:
            await body()
        finally:
            sys.setprofile(None)
        return Hops(calls, tuple(sorted(modules)), self._path)

    def reached(self) -> None:
        """Record the stack, if it is the deepest yet; the store calls this."""
        path = []
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            module = self._module(frame)
            if module is not None:
                path.append(f"{module}.{frame.f_code.co_name}")
            frame = frame.f_back
        if len(path) > len(self._path):
            self._path = tuple(reversed(path))

    def _module(self, frame: FrameType) -> str | None:
        file = frame.f_code.co_filename
        if not file.startswith(self._root):
            return None
        module = file.removeprefix(self._root).removesuffix(".py")
        return None if self._without and module.startswith(self._without) else module


class _TracedStore(MemoryStore):
    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        self._trace.reached()
        return await super().call(op, member=member, timeout=timeout)


async def hops() -> dict[str, Hops]:
    """Trace the calls that users make, on a cluster in memory."""
    trace = Trace(Path(tideover.__file__).parent, without="testing")
    async with tideover.connect(store=_TracedStore(trace)) as tide:
        await tide.config.put("a", "1")

        async def get() -> object:
            return tide.config.get("a")

        async def read() -> object:
            return tide.config.read("a")

        async def lock() -> None:
            async with tide.lock("x"):
                pass

        async def leader() -> None:
            async with tide.leader("r"):
                pass

        async def register() -> None:
            async with tide.register("api", "http://10.0.0.1:80"):
                pass

        async def discover() -> object:
            service = tide.discover("api")
            while True:
                await asyncio.sleep(_REST)
                with suppress(tideover.EndpointsUnknown):
                    return service.endpoints

        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "config.get, cold": get,
            "config.get, warm": get,
            "config.read": read,
            "config.fetch": lambda: tide.config.fetch("a"),
            "config.put": lambda: tide.config.put("a", "2"),
            "lock, the first": lock,  # opens the session that the next lock finds
            "lock, uncontended": lock,
            "leader": leader,
            "register": register,
            "discover": discover,
        }
        found = {}
        for name, call in calls.items():
            found[name] = await trace.run(call)
            await asyncio.sleep(_REST)
    return found


def _current_task() -> asyncio.Task[object] | None:
    # Between two tasks, in a callback of the loop, there is none; outside the loop that is an error.
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
