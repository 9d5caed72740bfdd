#!/usr/bin/env bash
# Python 3.11; uvicorn 0.54.0 (httptools 0.9.0, h11 0.16.0), hypercorn 0.18.0, granian 2.8.9, gunicorn 27.0.1.
# Guess: a body without a content-length is sent to a client of HTTP/1.0 as it is and ends with the connection: chunks are
#   of HTTP/1.1, and RFC 9112 (6.1) forbids them towards older clients. So do all servers.
# Behaviour: uvicorn with httptools (the default where it is installed) sends `transfer-encoding: chunked`, and the client
#   reads the chunks' lengths as part of the body; uvicorn with h11 and the three others do not. Health checks and old
#   proxies speak HTTP/1.0; a streamed body reaches them with hexadecimal lines in it.
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
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(2):
        await send({"type": "http.response.body", "body": b"degraded", "more_body": True})
        await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": b""})
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
        head, _, body = exchange(port, b"GET /health HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
        how = "chunked" if b"transfer-encoding: chunked" in head.lower() else "as it is"
        print(f"{name}: {how}, {body.decode()!r}", flush=True)
    finally:
        server.terminate()
        server.wait(30)
PY
cd "$folder"
"$folder/venv/bin/python" probe.py | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
uvicorn with httptools: chunked, '8\r\ndegraded\r\n8\r\ndegraded\r\n0\r\n\r\n'
uvicorn with h11: as it is, 'degradeddegraded'
hypercorn: as it is, 'degradeddegraded'
granian: as it is, 'degradeddegraded'
gunicorn's own worker: as it is, 'degradeddegraded'
SEEN
