#!/usr/bin/env bash
# grpcio 1.85.3 (Python, grpc.aio), Linux.
# Guess: `grpc.min_reconnect_backoff_ms` is what it says, the least pause between two attempts to connect; a smaller one
#   only means that a peer that came back is found sooner.
# Behaviour: it is also the time that one attempt may take, HTTP/2 settings (and TLS) included. With 500 ms a peer whose
#   first answer takes 0.8 s is never reached, however long the call waits; with the default of 20 s the first call
#   is answered. While it never arrives, the peer sees one connection after the other.
# Output seen: "default: answered" and "500 ms: DEADLINE_EXCEEDED, more than 10 connections: True".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.3
cat >"$folder/probe.py" <<'PY'
import asyncio

import grpc


async def echo(request, context):
    return request


async def pump(reader, writer, delay):
    """Copy bytes, each chunk `delay` seconds late."""
    loop = asyncio.get_running_loop()
    try:
        while data := await reader.read(65536):
            loop.call_later(delay, writer.write, data)
    finally:
        loop.call_later(delay, writer.close)


async def attempt(name, port, options):
    connections = 0

    async def link(reader, writer):
        nonlocal connections
        connections += 1
        up, down = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, down, 0.0), pump(up, writer, 0.8), return_exceptions=True)

    async with await asyncio.start_server(link, "127.0.0.1", 0) as far:
        options = [("grpc.max_reconnect_backoff_ms", 500), *options]
        async with grpc.aio.insecure_channel("127.0.0.1:%d" % far.sockets[0].getsockname()[1], options) as channel:
            try:
                await channel.unary_unary("/test.Echo/Echo")(b"", timeout=20, wait_for_ready=True)
                print(f"{name}: answered")
            except grpc.aio.AioRpcError as exc:
                print(f"{name}: {exc.code().name}, more than 10 connections: {connections > 10}")


async def main():
    server = grpc.aio.server()
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await attempt("default", port, [])
    await attempt("500 ms", port, [("grpc.min_reconnect_backoff_ms", 500), ("grpc.initial_reconnect_backoff_ms", 500)])
    await server.stop(None)


asyncio.run(main())
PY
timeout 90 "$folder/venv/bin/python" "$folder/probe.py" 2>"$folder/err" | tee "$folder/out"
diff "$folder/out" - <<"SEEN"
default: answered
500 ms: DEADLINE_EXCEEDED, more than 10 connections: True
SEEN
