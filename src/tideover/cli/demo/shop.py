"""The service of the demo: prices, kept in etcd. Run as a process: `python -m tideover.cli.demo.shop`.

What a service needs of tideover is in `make_app` and the two handlers; the rest is about being a child process.
"""

from __future__ import annotations

import argparse
import math
import os
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tideover.asgi import TideoverMiddleware
from tideover.decorators.injection import with_config
from tideover.functions import current

# Seconds that requests in flight have when the process is asked to end.
_GRACE = 3


@with_config(currency="shop/currency")
async def price(request: Request, *, currency: str = "EUR") -> Response:
    """Say what an item costs, and how we know."""
    tide = current()
    reading = tide.config.read(f"prices/{request.path_params['item']}", float)
    if reading.value is None:
        return JSONResponse({"error": "no such item"}, status_code=404)
    return JSONResponse(
        {
            "item": request.path_params["item"],
            "price": reading.value,
            "currency": currency,
            "source": reading.source,
            "age": round(reading.age, 3) if math.isfinite(reading.age) else None,
            "stale": reading.stale,
            "revision": reading.revision,
            "etcd": tide.health.state,
            "instance": request.app.state.name,
        }
    )


async def status(request: Request) -> Response:
    """Say everything an operator asks first."""
    return JSONResponse(current().status().to_dict())


def make_app(name: str, *, endpoints: Sequence[str], cache_dir: Path) -> Starlette:
    """Return the service."""
    app = Starlette(
        routes=[Route("/price/{item}", price), Route("/status", status)],
        middleware=[Middleware(TideoverMiddleware, endpoints=endpoints, cache_dir=cache_dir, status_header=True)],
    )
    app.state.name = name
    return app


def main() -> None:
    """Serve on the inherited socket until SIGTERM, or until the parent has gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--fd", type=int, required=True, help="a listening socket")
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("endpoints", nargs="+")
    options = parser.parse_args()
    app = make_app(options.name, endpoints=options.endpoints, cache_dir=options.cache_dir)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            lifespan="on",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_GRACE,
        )
    )
    threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
    server.run(sockets=[socket.socket(fileno=options.fd)])


def _end_with_parent(server: uvicorn.Server) -> None:
    # Standard input is a pipe from the parent, which never writes; its end is the parent's.
    os.read(0, 1)
    server.should_exit = True
    time.sleep(_GRACE)
    os._exit(1)


if __name__ == "__main__":
    main()
