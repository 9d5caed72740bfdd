"""Searches the variants of the model and compares the verdicts: `python -m models --help`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from models.spin import Finding, search, tell
from models.variants import VARIANTS, Variant


def chosen(names: list[str], *, deep: bool) -> list[Variant]:
    """Return the variants to search, the longest first.

    Args:
        names: Which; all, if empty.
        deep: Whether those that take long belong to all.

    Raises:
        ValueError: There is none of that name.
    """
    unknown = set(names) - {variant.name for variant in VARIANTS}
    if unknown:
        raise ValueError(f"no such variant: {', '.join(sorted(unknown))}")
    if names:
        return [variant for variant in VARIANTS if variant.name in names]
    return [variant for variant in VARIANTS if deep or not variant.deep]


def line(variant: Variant, finding: Finding) -> str:
    """Return one line of the table.

    Args:
        variant: What was searched.
        finding: What was found.
    """
    mark = "ok " if finding.verdict is variant.expected else "BAD"
    expected = "" if mark == "ok " else f" (expected: {variant.expected})"
    return (
        f"{mark} {variant.name:<20} {finding.verdict + expected:<22} {finding.states:>10,} states "
        f"{finding.depth:>7,} deep {finding.seconds:>6.1f} s  {variant.says}"
    )


def main() -> int:
    """Search, print a line each, and return whether anything was not as expected."""
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    parser.add_argument("names", nargs="*", help="the variants to search (default: all)")
    parser.add_argument("--deep", action="store_true", help="also those that take minutes and gigabytes")
    parser.add_argument("--trace", action="store_true", help="tell each counter-example")
    parser.add_argument("--list", action="store_true", help="only name the variants")
    parser.add_argument(
        "--spin", default=os.environ.get("SPIN", "spin"), help="the program (default: $SPIN, or spin)"
    )
    options = parser.parse_args()
    if options.list:
        for variant in VARIANTS:
            print(f"{variant.name:<20} {variant.expected:<22} {variant.says}")
        return 0
    for program in (options.spin, "gcc"):
        if shutil.which(program) is None:
            parser.error(f"{program} is needed; on Debian: apt-get install spin gcc libc6-dev")
    try:
        variants = chosen(options.names, deep=options.deep)
    except ValueError as exc:
        parser.error(str(exc))

    def look(variant: Variant) -> bool:
        with tempfile.TemporaryDirectory(prefix="tideover-model-") as place:
            finding = search(variant, options.spin, Path(place))
            said = [line(variant, finding)]
            if options.trace and any(Path(place).glob("*.trail")):
                said += [f"      {sentence}" for sentence in tell(variant, options.spin, Path(place))]
        print("\n".join(said), flush=True)
        return finding.verdict is variant.expected

    with ThreadPoolExecutor(2) as pool:
        as_expected = list(pool.map(look, variants))
    print(f"{sum(as_expected)} of {len(as_expected)} as expected")
    return 0 if all(as_expected) else 1


if __name__ == "__main__":
    sys.exit(main())
