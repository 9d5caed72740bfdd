"""A worker process for tests: follows a prefix until it is killed, and prints what it sees as JSON lines.

Run as: python worker.py CACHE_DIR PREFIX ENDPOINT...
"""

from __future__ import annotations

import json
import sys

import anyio

import tideover


async def main(*arguments: str) -> None:
    """Follow and print."""
    cache_dir, prefix, *endpoints = arguments
    async with tideover.connect(*endpoints, cache_dir=cache_dir, follow=(prefix,)) as tide:
        while True:
            reading = tide.config.read(f"{prefix}n", int, default=-1)
            status = tide.status().config[0]
            print(
                json.dumps(
                    {
                        "n": reading.value,
                        "source": reading.source,
                        "revision": reading.revision,
                        "error": status.snapshot_error,
                        "restarts": tide.status().restarts,
                        "epoch": tide.epoch,
                        "resets": tide.status().identity.resets,
                    }
                ),
                flush=True,
            )
            await anyio.sleep(0.02)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
