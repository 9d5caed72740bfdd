"""`python -m tools.house`: count and print; the exit code says nothing about the numbers."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import tideover
from tools.house.hops import hops
from tools.house.imports import graph_of, imports, read_floors
from tools.house.phrases import LIST, expressions, phrases
from tools.house.report import House, document, text
from tools.house.sizes import sizes
from tools.house.source import read

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def measure() -> House:
    """Count everything in the tideover that is installed."""
    sources = read(Path(tideover.__file__).parent)
    return House(
        sizes=sizes(sources),
        hops=asyncio.run(hops()),
        phrases=phrases(sources, expressions(LIST.read_text("utf-8"))),
        imports=imports(graph_of("tideover"), "tideover", read_floors(PYPROJECT)),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tools.house", description="The house in numbers.")
    parser.add_argument("--json", action="store_true", help="print JSON, to compare two trees")
    options = parser.parse_args(arguments)
    house = measure()
    print(json.dumps(document(house), indent=2) if options.json else text(house))


if __name__ == "__main__":
    main()
