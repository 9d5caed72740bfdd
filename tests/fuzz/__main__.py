"""Search all readers for inputs that break them, guided by coverage: `nox -s fuzz`.

    python -m tests.fuzz --seconds 600 [--folder FOLDER] [READER ...]

Inputs are changed so that they reach code of tideover's which none before has reached. Each reader has a process
of its own, so that none hides what is wrong with another. The first input after which something else than the
reader's error comes out, or which takes longer or more than it may, is shown, is left in the folder, and makes the
exit code 1; `--again FILE READER` reads such a file once more.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from random import Random

import atheris

from tests.fuzz.harm import foreign
from tests.fuzz.reader import Reader

with atheris.instrument_imports(include=["tideover"]):
    from tests.fuzz.readers import READERS

# Seconds and MiB for one input, and bytes of it; longer ones: `python -m benchmarks --only worst-cases`.
_SLOWEST, _MEMORY, _LONGEST = 5, 2_048, 8_192


def search(reader: Reader, folder: Path, seconds: int) -> list[Path]:
    """Search one reader; return the inputs that break it.

    Args:
        reader: The reader.
        folder: Where it keeps what it has found.
        seconds: For how long.
    """
    place = folder / re.sub(r"\W+", "-", reader.name)
    corpus, log = place / "corpus", place / "log"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(reader.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    known = {*place.iterdir(), log}
    # Forked, so that all of it is imported once.
    pid = os.fork()
    if pid == 0:
        try:
            _guide(reader, log, [f"-max_total_time={seconds}", f"-artifact_prefix={place}/", str(corpus)])
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    written = log.read_text(errors="replace")
    broken = sorted(set(place.iterdir()) - known)
    if status:
        print(written)
        if not broken:
            raise SystemExit(f"{reader.name}: the search itself has ended with {status}")
    read = re.search(r"number_of_executed_units: (\d+)", written)
    print(f"{reader.name}: {read[1] if read else '?'} inputs in {seconds} s", flush=True)
    return broken


def _guide(reader: Reader, log: Path, options: list[str]) -> None:
    """Search until the time is over, and end the process."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # As in the tests: what warns is a fault.
    warnings.simplefilter("error")
    bounds = [f"-timeout={_SLOWEST}", f"-rss_limit_mb={_MEMORY}", f"-max_len={_LONGEST}", "-print_final_stats=1"]
    with reader.open() as read:

        def once(raw: bytes) -> None:
            with suppress(*reader.errors):
                read(raw)

        atheris.Setup([sys.argv[0], *bounds, *options], once, custom_mutator=_mutate)
        atheris.Fuzz()


def _mutate(raw: bytes, longest: int, seed: int) -> bytes:
    """Return other bytes: every second time changed as a document, which libFuzzer cannot do."""
    if seed % 2:
        return foreign(Random(seed), raw)[:longest]
    return bytes(atheris.Mutate(raw, longest))


def main() -> None:
    """Search, or read one file again."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Search all readers.")
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
        for path in search(reader, given.folder, max(1, given.seconds // len(chosen))):
            failed += 1
            print(f"{reader.name} is broken by {path}:\n{path.read_bytes()!r}")
            print(f"again: python -m tests.fuzz --again {path} {reader.name!r}", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
