"""Everything at length: `nox -s soak`, an hour; `python -m tests.soak --minutes 3` for less.

    python -m tests.soak                                 everything, while members are killed and stopped
    python -m tests.soak --way nginx --minutes 10        a thousand sessions behind nginx; or tls, haproxy, direct

The first form says what grows, with the error of each slope; the second what was lost or degraded. The exit
code is 1 if there is a complaint. The first needs another etcd than 3.5.0 to 3.5.2, whose members may disagree for
good once one was killed under load (etcd #13766); nox brings one. Either ends by itself and leaves no process.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from typing import get_args

from tests.soak.churn import RSS_BOUND, Churn
from tests.soak.crowd import Size, Way, crowd
from tideover.testing.etcd.binary import binary_version, find_etcd


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Everything at length.")
    parser.add_argument("--minutes", type=float, default=60, help="how long (60)")
    parser.add_argument("--seed", type=int, default=1, help="what strikes and loads are drawn from (1)")
    parser.add_argument("--processes", type=int, default=2, help="how many do everything (2)")
    parser.add_argument("--transports", default="http2", help="of these processes, in turn: http2,grpc (http2)")
    parser.add_argument("--rss", type=float, default=RSS_BOUND, help=f"MiB an hour for each ({RSS_BOUND:g})")
    parser.add_argument("--way", choices=get_args(Way), help="a crowd that comes this way, instead")
    parser.add_argument("--sessions", type=int, default=Size.sessions, help="how many in a crowd (1000)")
    parser.add_argument("--prefixes", type=int, default=Size.prefixes, help="followed by a crowd (200)")
    parser.add_argument("--elections", type=int, default=Size.elections, help="led by a crowd (50)")
    options = parser.parse_args(arguments)
    version = binary_version(find_etcd())
    if not options.way and version in ("3.5.0", "3.5.1", "3.5.2"):
        parser.error(f"etcd {version} may corrupt itself when it is killed: set TIDEOVER_ETCD_DIR to another one")
    if options.way:
        size = Size(options.sessions, options.prefixes, options.elections)
        complaints = asyncio.run(crowd(options.way, options.minutes, size))
    else:
        churn = Churn(
            options.minutes,
            processes=options.processes,
            transports=options.transports.split(","),
            seed=options.seed,
            rss_bound=options.rss,
        )
        complaints = asyncio.run(churn.run())
        print(churn.report())
    print("\n".join(complaints) or "no complaint")
    return 1 if complaints else 0


if __name__ == "__main__":
    logging.getLogger("tideover").setLevel(logging.CRITICAL)
    sys.exit(main())
