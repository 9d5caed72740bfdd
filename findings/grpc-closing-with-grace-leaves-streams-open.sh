#!/usr/bin/env bash
# grpcio 1.66.2 and 1.85.3 (Python, grpc.aio).
# Guess: channel.close(grace=1) gives what is under way one second, then ends it, open streams included.
# Behaviour: 1.66.2 returns at once from close(grace=1) while a stream is open, and leaves the stream open: it goes on
#   receiving over the channel that was closed. 1.85.3 waits the second and ends it. So a client that replaces its
#   channel, say for a renewed certificate, keeps old streams on the old certificate with the one and not with the other.
# Output seen: "1.66.2: returned after 0 s, stream open" and "1.85.3: returned after 1 s, stream ended".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/probe.py" <<'PY'
import asyncio
import time

import grpc


class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        async def answer(requests, context):
            async for request in requests:
                yield request
            await asyncio.sleep(60)

        return grpc.stream_stream_rpc_method_handler(answer)


async def main():
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    stream = channel.stream_stream("/s/m", None, None)()
    await stream.write(b"a")
    assert await stream.read() == b"a"
    began = time.monotonic()
    await channel.close(grace=1)
    took = time.monotonic() - began
    await asyncio.sleep(3)
    print(f"{grpc.__version__}: returned after {took:.0f} s, stream {'ended' if stream.done() else 'open'}")
    stream.cancel()
    await server.stop(None)


asyncio.run(main())
PY
for version in 1.66.2 1.85.3; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet "grpcio==$version"
    "$folder/$version/bin/python" "$folder/probe.py"
done | tee "$folder/out"
grep -qx '1.66.2: returned after 0 s, stream open' "$folder/out"
grep -qx '1.85.3: returned after 1 s, stream ended' "$folder/out"
