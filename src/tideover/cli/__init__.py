"""The command line: `tideover`, also as `python -m tideover`.

One module per command group, each imported only when its command is used; `demo/` is a whole little service with
its cluster. Nothing here is imported by the library, and nothing here knows more of it than its users do, except
`cache` and `snapshots`, which read the files of `tideover.prefixes`, and `doctor`, which asks members one by one.

This module must work without the `cli` extra, to say that it is missing.
"""

from __future__ import annotations

import logging
import sys

from tideover.extras import lacking


def main() -> None:
    """Run the command line and exit; the exit codes are in `tideover.cli.exit_codes` and in `tideover --help`."""
    if needs := lacking("the command line", "click", install="'tideover[cli]'"):
        print(f"tideover: {needs}", file=sys.stderr)
        sys.exit(2)
    try:
        from tideover.cli import printer
        from tideover.cli.app import run

        logging.lastResort, sys.excepthook = printer.Notes(logging.WARNING), printer.print_crash
        code = run()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
