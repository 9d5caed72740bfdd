"""One reader under atheris: inputs are changed so that they reach code which none before has reached.

    python -m tests.fuzz.guided READER FOLDER [libFuzzer's options]

Only tideover's own code is looked at. The first input after which something else than the reader's error comes
out, or which takes longer than it may, is saved in the folder.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from pathlib import Path
from random import Random

import atheris

from tests.fuzz.harm import foreign

with atheris.instrument_imports(include=["tideover"]):
    from tests.fuzz.readers import READERS


def mutate(raw: bytes, longest: int, seed: int) -> bytes:
    """Return other bytes: every second time changed as a document, which libFuzzer cannot do."""
    if seed % 2:
        return foreign(Random(seed), raw)[:longest]
    return bytes(atheris.Mutate(raw, longest))


def main() -> None:
    """Search until the time is over."""
    name, folder, *options = sys.argv[1:]
    (reader,) = (each for each in READERS if each.name == name)
    corpus = Path(folder, "corpus")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(reader.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    # As in the tests: what warns is a fault.
    warnings.simplefilter("error")
    with reader.open() as read:

        def once(raw: bytes) -> None:
            with suppress(*reader.errors):
                read(raw)

        atheris.Setup([sys.argv[0], *options, str(corpus)], once, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
