#!/usr/bin/env bash
# Python 3.11; starlette 1.10.0, uvicorn 0.54.0 with websockets 16.0.
# Guess: a `WebSocketEndpoint` whose on_connect closes the WebSocket, before or after accepting it, is done: on_receive is
#   for clients that were let in.
# Behaviour: dispatch goes on to receive. Of a client that was accepted and closed at once, on_receive gets what it had
#   sent meanwhile, and acts on it; an answer raises. A check in on_connect keeps nobody out unless it raises.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet starlette==1.10.0 uvicorn==0.54.0 websockets==16.0
cat >"$folder/probe.py" <<'PY'
import asyncio
import socket

import uvicorn
import websockets
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.routing import WebSocketRoute
from websockets.asyncio.client import connect

seen = []


class Guarded(WebSocketEndpoint):
    encoding = "text"

    async def on_connect(self, websocket):
        await websocket.accept()
        await asyncio.sleep(0.5)  # looks whether the client may come, and it may not
        await websocket.close(1013)
        seen.append("closed")

    async def on_receive(self, websocket, data):
        seen.append(f"received {data}")

    async def on_disconnect(self, websocket, close_code):
        seen.append(f"disconnected {close_code}")


async def main():
    listening = socket.create_server(("127.0.0.1", 0))
    application = Starlette(routes=[WebSocketRoute("/", Guarded)])
    server = uvicorn.Server(uvicorn.Config(application, log_level="critical", ws="websockets-sansio"))
    serving = asyncio.create_task(server.serve([listening]))
    async with connect(f"ws://127.0.0.1:{listening.getsockname()[1]}/") as client:
        await client.send("pay 100")
        try:
            await client.recv()
        except websockets.ConnectionClosed as closed:
            print("client: closed with", closed.rcvd.code)
    await asyncio.sleep(0.5)
    print("endpoint:", "; ".join(seen))
    server.should_exit = True
    await serving


asyncio.run(main())
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
client: closed with 1013
endpoint: closed; received pay 100; disconnected 1013
SEEN
