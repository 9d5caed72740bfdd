"""Pictures of results: `python -m benchmarks.plots results.json` writes them to `docs/assets`.

What is drawn is what `python -m benchmarks --json results.json` has measured: each ratio beside its goal.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.picture import Ratio, ratios

FOLDER = Path(__file__).parent.parent / "docs/assets"


class Plot(NamedTuple):
    """One picture: its file's name, its title, and the rows whose goals it shows."""

    file: str
    title: str
    rows: tuple[str, ...]


PLOTS = (
    Plot(
        "bench-calls.svg",
        "Calls to etcd, in units of etcd's Go client",
        ("transport", "one-call", "point-reads", "point-reads-uvloop"),
    ),
    Plot("bench-locks.svg", "Locks, in units of etcd's Go client", ("lock", "lock-contended")),
    Plot("bench-reads.svg", "Reads in memory, in units of dict.get", ("warm-get", "warm-models")),
    Plot("bench-start.svg", "Imports, in units of `import grpc`", ("import",)),
)


def bars(results: Iterable[Mapping[str, Any]], rows: Sequence[str]) -> list[Ratio]:
    """Return what has a goal that limits a ratio, in the order of the rows."""
    shown = [
        (rows.index(one["row"]), Ratio(one["what"], one["ratio"], one["goal"]["limit"], one["quartiles"]))
        for one in results
        if one["row"] in rows and one["goal"] is not None and one["goal"]["of"] == "ratio"
    ]
    return [ratio for _, ratio in sorted(shown, key=lambda pair: pair[0])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw what the results have; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description="Draw results as SVG.")
    parser.add_argument("results", type=Path, help="what `python -m benchmarks --json` has written")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (docs/assets)")
    options = parser.parse_args(arguments)
    document = json.loads(options.results.read_text(encoding="utf-8"))
    for plot in PLOTS:
        if shown := bars(document["results"], plot.rows):
            path = options.folder / plot.file
            path.write_text(ratios(plot.title, shown), encoding="utf-8")
            print(path)
        else:
            print(f"no results for {plot.file}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
