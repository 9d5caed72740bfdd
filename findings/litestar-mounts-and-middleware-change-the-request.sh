#!/usr/bin/env bash
# Python 3.11; Litestar 2.25.0, starlette 1.10.0 to compare with.
# Guess: an ASGI application mounted at /p sees the path of a request for /p/livez as it was asked (ASGI: /p/livez with
#   the root_path /p; frameworks that cut it hand on /livez), and the application's own middleware sees every request,
#   404s and the lifespan included. Starlette does so.
# Behaviour: what Litestar mounts with `@asgi("/p", is_mount=True)` is handed /livez/, with a slash that nobody sent, so
#   that an exact comparison never matches. Its `middleware=` sees neither requests without a route nor the lifespan: a
#   health endpoint or a pool opened in a middleware answers 404, or is never opened.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet litestar==2.25.0 starlette==1.10.0
cat >"$folder/probe.py" <<'PY'
import asyncio

from litestar import Litestar, asgi
from litestar.types import Receive, Scope, Send
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount


class Seeing:
    """A middleware that notes what passes it."""

    seen = []

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        Seeing.seen.append(scope["type"] if scope["type"] != "http" else scope["path"])
        await self.app(scope, receive, send)


async def mounted(scope, receive, send):
    mounted.path = scope["path"].removeprefix(scope["root_path"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@asgi("/p", is_mount=True, copy_scope=True)
async def handler(scope: Scope, receive: Receive, send: Send) -> None:
    await mounted(scope, receive, send)


async def lifespan(app):
    messages = asyncio.Queue()
    ended = asyncio.Event()

    async def send(message):
        if message["type"] == "lifespan.startup.complete":
            messages.put_nowait({"type": "lifespan.shutdown"})
        else:
            ended.set()

    messages.put_nowait({"type": "lifespan.startup"})
    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, messages.get, send)
    await ended.wait()


async def ask(app, path):
    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    statuses = []
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http"}
    scope |= {"path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": []}
    scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {}}
    await app(scope, receive, send)
    return statuses[0]


async def main():
    apps = {
        "litestar": Litestar(route_handlers=[handler], middleware=[Seeing], openapi_config=None),
        "starlette": Starlette(routes=[Mount("/p", mounted)], middleware=[Middleware(Seeing)]),
    }
    for name, app in apps.items():
        Seeing.seen.clear()
        await lifespan(app)
        statuses = [await ask(app, path) for path in ("/p/livez", "/nowhere")]
        print(f"{name}: statuses {statuses}, mounted sees {mounted.path}, middleware has seen {Seeing.seen}")


asyncio.run(main())
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
litestar: statuses [200, 404], mounted sees /livez/, middleware has seen ['/livez/']
starlette: statuses [200, 404], mounted sees /livez, middleware has seen ['lifespan', '/p/livez', '/nowhere']
SEEN
