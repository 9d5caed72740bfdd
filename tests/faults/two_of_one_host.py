"""A process that takes a lock again and again, and says when another one was inside: run by the trial."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import tideover


async def main(endpoint: str, folder: Path, times: int) -> None:
    """Take the lock so many times; print how often this process was not alone inside."""
    met = 0
    async with tideover.connect(endpoint, cache_dir=folder, follow=(), start_timeout=5) as tide:
        for _ in range(times):
            async with tide.lock("orders", on_outage="local"):
                try:
                    os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    met += 1
                    continue
                await asyncio.sleep(0)
                (folder / "inside").unlink()
    print(met)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
