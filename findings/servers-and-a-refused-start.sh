#!/usr/bin/env bash
# Python 3.11; uvicorn 0.54.0, gunicorn 27.0.1 (its own worker `-k asgi`, and uvicorn-worker 0.4.0), hypercorn 0.18.0,
#   granian 2.8.0, anyio 4.16.0.
# Guess: an application that answers `lifespan.startup.failed` and raises, as Starlette's does, is not served: the server
#   ends, with an exit code other than 0, whatever its number of workers; so restarts and rollouts see it.
# Behaviour: uvicorn with workers and hypercorn end with 0, as after a clean stop. gunicorn's own worker ends with 3,
#   unless the start has used anyio's thread pool (Starlette's run_in_threadpool): then "Worker exiting" is logged, the
#   process waits for ever for a pool thread that only the finished loop could have ended, and the port accepts
#   connections and answers none of them.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uvicorn==0.54.0 gunicorn==27.0.1 anyio==4.16.0 uvicorn-worker==0.4.0 hypercorn==0.18.0 granian==2.8.0
cat >"$folder/service.py" <<'PY'
import os

import anyio.to_thread


async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    if os.environ.get("THREAD"):
        await anyio.to_thread.run_sync(str)
    await send({"type": "lifespan.startup.failed", "message": "not today"})
    raise RuntimeError("not today")
PY
cat >"$folder/probe.py" <<'PY'
import asyncio
import os
import signal
import socket
import subprocess
import sys
import time

here = os.path.dirname(sys.executable)
with socket.create_server(("127.0.0.1", 0)) as free:
    port = str(free.getsockname()[1])


def answers():
    """Say what a client of the port meets."""
    try:
        with socket.create_connection(("127.0.0.1", int(port)), timeout=2) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            connection.settimeout(5)
            return "closes" if not connection.recv(100) else "answers"
    except TimeoutError:
        return "accepts, and does not answer"
    except OSError:
        return "refuses"


def attempt(*command):
    process = subprocess.Popen(
        [os.path.join(here, command[0]), *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        print(f"{' '.join(command[:-1])}: exit code {process.wait(12)}".replace(port, "PORT"), flush=True)
    except subprocess.TimeoutExpired:
        print(f"{' '.join(command[:-1])}: up, {answers()}".replace(port, "PORT"), flush=True)
        process.send_signal(signal.SIGTERM)
        process.wait(60)


bound = "127.0.0.1:" + port
attempt("uvicorn", "--port", port, "service:app")
attempt("uvicorn", "--port", port, "--workers", "2", "service:app")
attempt("gunicorn", "-b", bound, "-k", "uvicorn_worker.UvicornWorker", "service:app")
attempt("gunicorn", "-b", bound, "-k", "asgi", "service:app")
os.environ["THREAD"] = "yes"
print("after a call in anyio's thread pool:", flush=True)
attempt("gunicorn", "-b", bound, "-k", "asgi", "service:app")
attempt("hypercorn", "-b", bound, "service:app")
attempt("granian", "--interface", "asgi", "--port", port, "service:app")
PY
cd "$folder"
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
uvicorn --port PORT: exit code 3
uvicorn --port PORT --workers 2: exit code 0
gunicorn -b 127.0.0.1:PORT -k uvicorn_worker.UvicornWorker: exit code 3
gunicorn -b 127.0.0.1:PORT -k asgi: exit code 3
after a call in anyio's thread pool:
gunicorn -b 127.0.0.1:PORT -k asgi: up, accepts, and does not answer
hypercorn -b 127.0.0.1:PORT: exit code 0
granian --interface asgi --port PORT: exit code 1
SEEN
