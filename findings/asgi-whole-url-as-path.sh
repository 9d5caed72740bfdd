#!/usr/bin/env bash
# Python 3.11; uvicorn 0.54.0 (httptools 0.9.0, h11 0.16.0), hypercorn 0.18.0, granian 2.8.9, gunicorn 27.0.1.
# Guess: `GET http://a/x?y=1 HTTP/1.1`, the form that RFC 9112 (3.2.2) has every server accept, is `GET /x?y=1`: the
#   scope's path is /x, whatever the server, so that routes, prefixes and exclusions match.
# Behaviour: the path is /x with granian and with uvicorn where httptools is installed. With uvicorn's h11, hypercorn and
#   gunicorn's own worker it is the whole URL, `http://a/x`, which no route of a framework matches: 404. Whether the same
#   request is answered depends on whether an optional package of the server is installed.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uvicorn==0.54.0 httptools==0.9.0 h11==0.16.0 hypercorn==0.18.0 granian==2.8.9 \
    gunicorn==27.0.1
cat >"$folder/service.py" <<'PY'
import asyncio


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    text = b"path=" + scope["path"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})
PY
cat >"$folder/probe.py" <<'PY'
import os
import socket
import subprocess
import sys
import time

here = os.path.dirname(sys.executable)
SERVERS = {
    "uvicorn with httptools": "uvicorn --http httptools --port {port}",
    "uvicorn with h11": "uvicorn --http h11 --port {port}",
    "hypercorn": "hypercorn --bind 127.0.0.1:{port}",
    "granian": "granian --interface asgi --port {port}",
    "gunicorn's own worker": "gunicorn --worker-class asgi --bind 127.0.0.1:{port}",
}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def reach(port):
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise SystemExit("the server did not come up")


def exchange(port, request):
    with reach(port) as connection:
        connection.sendall(request)
        received = b""
        while part := connection.recv(65536):
            received += part
    return received


for name, command in SERVERS.items():
    port = free_port()
    program, *arguments = command.format(port=port).split()
    server = subprocess.Popen(
        [os.path.join(here, program), *arguments, "service:app"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        answer = exchange(port, b"GET http://a/x?y=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        print(f"{name}: {answer.rpartition(bytes([13, 10]))[2].decode()}", flush=True)
    finally:
        server.terminate()
        server.wait(30)
PY
cd "$folder"
"$folder/venv/bin/python" probe.py | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
uvicorn with httptools: path=/x
uvicorn with h11: path=http://a/x
hypercorn: path=http://a/x
granian: path=/x
gunicorn's own worker: path=http://a/x
SEEN
