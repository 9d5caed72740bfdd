"""Many processes that register one endpoint each, until they are told to end.

Run as: python -m tests.faults.registrant FOLDER TTL FIRST COUNT ENDPOINT...

They are forked from one that has imported everything and connected to nothing, which is how a hundred of them fit
into a small machine. Prints "NUMBER PID" for each; ends them, hard, when its standard input ends. One that ends by
SIGTERM leaves what its status was in FOLDER/NUMBER.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import anyio

import tideover

# Seconds between two starts: a machine with two cores has to run all of them.
STAGGER = 0.05


async def serve(folder: Path, ttl: int, number: int, *endpoints: str) -> None:
    """Be registered until SIGTERM."""
    async with tideover.connect(*endpoints, cache_dir=False, follow=()) as tide:
        with anyio.open_signal_receiver(signal.SIGTERM) as ends:
            async with tide.register("api", f"http://10.0.0.7:{number}", ttl=ttl):
                async for _ in ends:
                    report = tide.status().to_dict()
                    (folder / f"{number}.{os.getpid()}").write_text(json.dumps(report), encoding="utf-8")
                    break


def main(folder: str, ttl: str, first: str, count: str, *endpoints: str) -> None:
    """Fork the processes, and end them in the end."""
    importlib.import_module("tideover.etcd.adapter")
    pids = []
    for number in range(int(first), int(first) + int(count)):
        pid = os.fork()
        if not pid:
            anyio.run(serve, Path(folder), int(ttl), number, *endpoints)
            os._exit(0)
        pids.append(pid)
        print(number, pid, flush=True)
        time.sleep(STAGGER)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.stdin.read()
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main(*sys.argv[1:])
