"""Search all readers for inputs that break them, guided by coverage: `nox -s fuzz`.

    python -m tests.fuzz --seconds 600 [--folder FOLDER] [READER ...]

Each reader has a process of its own, so that none hides what is wrong with another. The first input that breaks
one is shown, is left in the folder, and makes the exit code 1; `--again FILE READER` reads such a file once more.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.reader import Reader
from tests.fuzz.readers import READERS

# Seconds and MiB for one input, and bytes of it. Longer ones are what `python -m benchmarks worst_cases` is about.
_SLOWEST, _MEMORY, _LONGEST = 5, 2_048, 8_192


def search(reader: Reader, folder: Path, seconds: int) -> list[Path]:
    """Search one reader; return the inputs that break it.

    Args:
        reader: The reader.
        folder: Where it keeps what it has found.
        seconds: For how long.
    """
    place = folder / reader.name.replace(" ", "-").replace("'", "")
    place.mkdir(parents=True, exist_ok=True)
    known = set(place.iterdir())
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={_SLOWEST}",
        f"-rss_limit_mb={_MEMORY}",
        f"-max_len={_LONGEST}",
        f"-artifact_prefix={place}/",
        "-print_final_stats=1",
    ]
    command = [sys.executable, "-m", "tests.fuzz.guided", reader.name, str(place), *options]
    done = subprocess.run(command, timeout=seconds + 120, capture_output=True, text=True, errors="replace")
    broken = sorted(path for path in set(place.iterdir()) - known if path.is_file())
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n")
        if not broken:
            raise SystemExit(f"{reader.name}: the search itself ended with {done.returncode}")
    read = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    print(f"{reader.name}: {read[1] if read else '?'} inputs in {seconds} s", flush=True)
    return broken


def main() -> None:
    """Search, or read one file again."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=300, help="for all of them together")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"), help="where inputs are kept")
    parser.add_argument("--again", type=Path, help="read this file, and search nothing")
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(each.name for each in READERS))
    given = parser.parse_args()
    chosen = [each for each in READERS if each.name in given.readers or not given.readers]
    if missing := set(given.readers) - {each.name for each in chosen}:
        parser.error(f"no reader is called {', '.join(sorted(missing))}")
    if given.again is not None:
        for reader in chosen:
            with reader.open() as read:
                print(f"{reader.name}: {read(given.again.read_bytes())!r}")
        return
    failed = 0
    for reader in chosen:
        seconds = max(1, given.seconds // len(chosen))
        for path in search(reader, given.folder, seconds):
            failed += 1
            print(f"{reader.name} is broken by {path}:\n{path.read_bytes()!r}")
            print(f"again: python -m tests.fuzz --again {path} {reader.name!r}", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
