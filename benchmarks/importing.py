"""What importing tideover takes of the processor, beside importing grpc, each in a fresh process by turns."""

from __future__ import annotations

from benchmarks.harness import Comparison, Goal, Row
from benchmarks.scripts import compiled

ROUNDS = 15
_PEER = "import grpc"
_WHOLE = "import tideover, processor"
_CONNECT = "from tideover import connect, processor"
_EVERYTHING = "for scale: from tideover import *"

_SCRIPT = "import time; began = time.process_time()\n{}\nprint(time.process_time() - began)"
_IMPORTS = {
    _WHOLE: "import tideover",
    _CONNECT: "from tideover import connect",
    _EVERYTHING: "from tideover import *",
    _PEER: "import grpc",
}


async def measure() -> list[Comparison]:
    """Import in processes by turns."""
    async with compiled() as processes:
        scripts = {what: _SCRIPT.format(line) for what, line in _IMPORTS.items()}
        times = await processes.by_turns(scripts, rounds=ROUNDS)
    return [times.compare(what, what, _PEER, _PEER) for what in (_WHOLE, _CONNECT, _EVERYTHING)]


ROW = Row(
    name="import",
    what="importing the package, and what connecting needs of it",
    peer="import grpc",
    goals={_WHOLE: Goal(1.6), _CONNECT: Goal(1.6)},
    measure=measure,
)
