#!/usr/bin/env bash
# grpcio 1.85.3 (Python, grpc.aio), Linux.
# Guess: after `await channel.close()` a channel does nothing any more, whoever still refers to one of its calls.
# Behaviour: while a finished call of it is referred to, be it by an exception that somebody keeps, the closed channel
#   goes on connecting to a peer that turns it away, with its usual backoff, until the call is freed.
# Output seen: "kept: some connections after closing", "freed: no connections after closing".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.3
cat >"$folder/probe.py" <<'PY'
import asyncio
import gc

import grpc

OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100)]


async def attempt(name, keep):
    connections = 0

    async def turn_away(reader, writer):
        nonlocal connections
        connections += 1
        writer.close()

    server = await asyncio.start_server(turn_away, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS)
    call = channel.stream_stream("/s/m", None, None)()
    try:
        await call.read()
    except grpc.aio.AioRpcError:
        pass
    await channel.close()
    if not keep:
        del call
    gc.collect()
    await asyncio.sleep(0.5)
    before = connections
    await asyncio.sleep(3)
    print(f"{name}: {'some' if connections > before else 'no'} connections after closing")
    server.close()


async def main():
    await attempt("kept", True)
    await attempt("freed", False)


asyncio.run(main())
PY
"$folder/venv/bin/python" "$folder/probe.py" 2>/dev/null | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
kept: some connections after closing
freed: no connections after closing
SEEN
