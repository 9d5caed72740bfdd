"""Builds versions of etcd and prints the folders of their programs: `python -m tests.etcds --help`."""

from __future__ import annotations

import argparse
import sys

from tests.etcds.builder import NotBuilt, build
from tests.etcds.golang import GoNotFound
from tests.etcds.versions import UnknownVersion, versions


def main() -> int:
    """Build what was asked for; the exit code says whether all of it is there."""
    parser = argparse.ArgumentParser(prog="python -m tests.etcds", description=__doc__)
    parser.add_argument("version", nargs="*", help=f"of {', '.join(versions())}; all of them, if none is named")
    failed = False
    for version in parser.parse_args().version or versions():
        try:
            print(build(version), flush=True)
        except (UnknownVersion, GoNotFound, NotBuilt) as exc:
            print(f"error: {exc}", file=sys.stderr, flush=True)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
