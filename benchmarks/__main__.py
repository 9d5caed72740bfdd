"""`python -m benchmarks`: run the rows, print the table, exit with 1 if a goal is missed or not measured."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import TRIES, NotMeasured, Outcome, Row, run_row
from benchmarks.registry import ROWS
from benchmarks.report import document, environment, table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What tideover costs, beside its peers."
    )
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help="this row; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well, row by row")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument(
        "--tries",
        type=int,
        default=TRIES,
        help=f"measure a row that misses a goal so often ({TRIES}), keep the best",
    )
    options = parser.parse_args(arguments)
    chosen = [row for row in ROWS if not options.only or row.name in options.only]
    if options.list:
        for row in chosen:
            print(f"{row.name:14} {row.what}; peer: {row.peer}")
        return 0
    tries = max(1, options.tries)
    outcomes, unmeasured = _run(chosen, tries, options.json)
    print(", ".join(f"{name} {value}" for name, value in environment().items()), end="\n\n")
    print(table(outcomes))
    missed = [outcome.comparison.what for outcome in outcomes if outcome.met is False]
    print(f"\n{'missed: ' + ', '.join(missed) if missed else 'all goals met' if outcomes else 'nothing measured'}")
    for name, why in unmeasured.items():
        print(f"not measured: {name}: {why}")
    print(f"A row that misses a goal is measured up to {tries} times; the best is shown.")
    return 1 if missed or unmeasured else 0


def _run(rows: Sequence[Row], tries: int, file: Path | None) -> tuple[list[Outcome], dict[str, str]]:
    """Measure the rows; return what came of them, and why others have not been measured.

    Each row's results are shown and written when the row ends: no later row can take them along.
    """
    outcomes: list[Outcome] = []
    unmeasured: dict[str, str] = {}
    for number, row in enumerate(rows):
        print(f"{row.name}: {row.what} ...", file=sys.stderr, flush=True)
        try:
            # A loop of its own for each row: nothing that one leaves behind may disturb the next.
            found = asyncio.run(run_row(row, tries=tries))
        except KeyboardInterrupt:
            unmeasured |= {left.name: "interrupted" for left in rows[number:]}
            break
        except Exception as error:
            unmeasured[row.name] = str(error) if isinstance(error, NotMeasured) else f"{error!r}"
            print(f"not measured: {unmeasured[row.name]}", file=sys.stderr, flush=True)
        else:
            outcomes += found
            print(table(found), file=sys.stderr, flush=True)
        _write(file, outcomes, unmeasured)
    _write(file, outcomes, unmeasured)
    return outcomes, unmeasured


def _write(file: Path | None, outcomes: Sequence[Outcome], unmeasured: dict[str, str]) -> None:
    if file is not None:
        whole = file.with_name(file.name + ".part")
        whole.write_text(json.dumps(document(outcomes, unmeasured), indent=2) + "\n", encoding="utf-8")
        whole.replace(file)


if __name__ == "__main__":
    # Outages are what is measured here, and not worth a line each.
    logging.getLogger("tideover").setLevel(logging.CRITICAL)
    sys.exit(main())
