#!/usr/bin/env bash
# grpcio 1.85.3 (Python, grpc.aio), Linux.
# Guess: with retries switched off (grpc.enable_retries=0) a call on a READY channel whose TCP connection has just
#   been cut fails with UNAVAILABLE, and the next look at the channel's state shows something else than READY.
# Behaviour: the call is sent over a new connection, made for it without a word, to whatever process listens at the
#   address by then, metadata and all; it succeeds, and every look at the state says READY. Who wants to see who is
#   at the other end before sending a secret cannot tell one connection from the next.
# Output seen: "answered by second, state before READY, after READY" in 4 to 20 of 20 tries; else UNAVAILABLE, as guessed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.3
cat >"$folder/probe.py" <<'PY'
import asyncio
import collections

import grpc


class Handler(grpc.GenericRpcHandler):
    def __init__(self, name):
        self.name = name

    def service(self, call):
        async def answer(request, context):
            return self.name

        return grpc.unary_unary_rpc_method_handler(answer)


async def serve(name):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handler(name),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


async def attempt():
    first, port = await serve(b"first")
    second, other = await serve(b"second")
    target = [port]
    writers = set()

    async def copy(reader, writer):
        writers.add(writer)
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except OSError:
            pass
        writer.close()

    async def relay(reader, writer):
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target[0])
        await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))

    listening = await asyncio.start_server(relay, "127.0.0.1", 0)
    address = "127.0.0.1:%d" % listening.sockets[0].getsockname()[1]
    options = [("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        call = channel.unary_unary("/s/m", None, None)
        assert await call(b"", timeout=5) == b"first"
        before = channel.get_state()
        target[0] = other
        for writer in list(writers):
            writer.transport.abort()
        try:
            answered = await call(b"", timeout=5)
            seen = f"answered by {answered.decode()}, state before {before.name}, after {channel.get_state().name}"
        except grpc.aio.AioRpcError as error:
            seen = error.code().name
    listening.close()
    await first.stop(None)
    await second.stop(None)
    return seen


async def main():
    tries = collections.Counter([await attempt() for _ in range(20)])
    for seen, times in tries.items():
        print(f"{times} of 20: {seen}")


asyncio.run(main())
PY
seen=$("$folder/venv/bin/python" "$folder/probe.py")
echo "$seen"
grep -q "answered by second, state before READY, after READY" <<<"$seen"
