#!/usr/bin/env bash
# Python 3.11; uvicorn 0.54.0 (httptools 0.9.0, h11 0.16.0), hypercorn 0.18.0, granian 2.8.9, gunicorn 27.0.1.
# Guess: a client that has sent its whole request and then closes its sending half (`nc -N`, a checker's shutdown(SHUT_WR))
#   gets the answer: its connection is open for reading, and the request was complete.
# Behaviour: only hypercorn answers both. uvicorn answers where the application does so before the end of the stream is
#   read, and drops the answer of a slow one; granian and gunicorn's own worker drop both. The application runs to its
#   end all the same: what it has done is done, and nobody is told.
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
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})
    print("done", scope["path"], file=open("done", "a"))
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
        connection.shutdown(socket.SHUT_WR)
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
        request = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        answers = [exchange(port, request % path)[-4:].decode() or "nothing" for path in (b"/at-once", b"/slow")]
        time.sleep(1)
        with open("done") as file:
            done = len(file.readlines())
        os.remove("done")
        print(f"{name}: at once {answers[0]}, slow {answers[1]}; {done} of 2 done", flush=True)
    finally:
        server.terminate()
        server.wait(30)
PY
cd "$folder"
"$folder/venv/bin/python" probe.py | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
uvicorn with httptools: at once done, slow nothing; 2 of 2 done
uvicorn with h11: at once done, slow nothing; 2 of 2 done
hypercorn: at once done, slow done; 2 of 2 done
granian: at once nothing, slow nothing; 2 of 2 done
gunicorn's own worker: at once nothing, slow nothing; 2 of 2 done
SEEN
