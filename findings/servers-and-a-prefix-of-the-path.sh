#!/usr/bin/env bash
# Python 3.11; uvicorn 0.54.0 (httptools 0.9.0), hypercorn 0.18.0, granian 2.8.9; starlette 1.10.0.
# Guess: the option for an application that a proxy serves below a prefix (`--root-path /api`; granian's
#   `--url-path-prefix`) means one thing, as ASGI 2.4 has it: `path` begins with `root_path`, and routes are what follows.
# Behaviour: uvicorn puts the prefix in front of the path that came: the proxy has to strip it, and one that passes it on
#   gets 404. hypercorn and granian set `root_path` and leave `path` as it came. With a proxy that strips the prefix,
#   Starlette then serves plain routes and answers 404 below a mount; with one that passes it on, both are served. So
#   a proxy and an application that work behind one server give 404 behind the next, for all routes or for some. And
#   granian alone hands on the port of `server` as a text, where ASGI says it is an integer.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uvicorn==0.54.0 httptools==0.9.0 hypercorn==0.18.0 granian==2.8.9 \
    starlette==1.10.0
cat >"$folder/service.py" <<'PY'
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route


async def show(request):
    port = request.scope["server"][1]
    return PlainTextResponse(f"path {request.scope['path']}, port of {type(port).__name__}")


app = Starlette(routes=[Route("/one", show), Mount("/sub", routes=[Route("/two", show)])])
PY
cat >"$folder/probe.py" <<'PY'
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

here = os.path.dirname(sys.executable)
SERVERS = {
    "uvicorn": "uvicorn --port {port} --root-path /api",
    "hypercorn": "hypercorn --bind 127.0.0.1:{port} --root-path /api",
    "granian": "granian --interface asgi --port {port} --url-path-prefix /api",
}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def ask(port, path):
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as exc:
            return str(exc.code)
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not come up")


for name, command in SERVERS.items():
    port = free_port()
    program, *arguments = command.format(port=port).split()
    server = subprocess.Popen(
        [os.path.join(here, program), *arguments, "service:app"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for path in ("/one", "/api/one", "/sub/two", "/api/sub/two"):
            print(f"{name} {path}: {ask(port, path)}", flush=True)
    finally:
        server.terminate()
        server.wait(30)
PY
cd "$folder"
"$folder/venv/bin/python" probe.py | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
uvicorn /one: path /api/one, port of int
uvicorn /api/one: 404
uvicorn /sub/two: path /api/sub/two, port of int
uvicorn /api/sub/two: 404
hypercorn /one: path /one, port of int
hypercorn /api/one: path /api/one, port of int
hypercorn /sub/two: 404
hypercorn /api/sub/two: path /api/sub/two, port of int
granian /one: path /one, port of str
granian /api/one: path /api/one, port of str
granian /sub/two: 404
granian /api/sub/two: path /api/sub/two, port of str
SEEN
