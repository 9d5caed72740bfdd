#!/usr/bin/env bash
# grpcio 1.66.2 and 1.85.3 (Python, grpc.aio, Linux with glibc 2.33 or newer).
# Guess: a unary call that its caller cancels while it waits, as asyncio.timeout() does, is freed as one is that ends
#   by its own deadline.
# Behaviour: the operations of the batch under way are never freed: some 900 bytes for each cancelled call, native and
#   for good, also after the channel is closed. The same calls ended by `timeout=` leave nothing. Known as
#   grpc/grpc#43360, which names the reason: only a coroutine that gets the batch's event frees what belongs to it.
# Output seen: "VERSION: cancelled keeps, deadline frees" for both versions.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/probe.py" <<'PY'
import asyncio
import ctypes
import gc

import grpc

COUNT = 4000
libc = ctypes.CDLL("libc.so.6")


class Mallinfo2(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]


libc.mallinfo2.restype = Mallinfo2


def in_use():
    gc.collect()
    found = libc.mallinfo2()
    return found.uordblks + found.hblkhd


class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        async def answer(request, context):
            await asyncio.sleep(0.2)
            return request

        return grpc.unary_unary_rpc_method_handler(answer)


async def cancelled(ask):
    async def one():
        await ask(b"a", timeout=5)

    tasks = [asyncio.create_task(one()) for _ in range(100)]
    await asyncio.sleep(0.02)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def by_deadline(ask):
    async def one():
        await ask(b"a", timeout=0.02)

    await asyncio.gather(*[one() for _ in range(100)], return_exceptions=True)


async def each(end, ask):
    await end(ask)
    await asyncio.sleep(0.5)
    before = in_use()
    for _ in range(COUNT // 100):
        await end(ask)
    await asyncio.sleep(1)
    return (in_use() - before) / COUNT


async def main(target):
    async with grpc.aio.insecure_channel(target) as channel:
        ask = channel.unary_unary("/s/m", None, None)
        await ask(b"a")
        deadline, cancel = await each(by_deadline, ask), await each(cancelled, ask)
    words = ("keeps" if cancel > 400 else "frees", "keeps" if deadline > 200 else "frees")
    print(f"{grpc.__version__}: cancelled {words[0]}, deadline {words[1]}", f"({cancel:.0f} and {deadline:.0f} bytes)")


async def serve():
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


import subprocess
import sys

if sys.argv[1:] == ["serve"]:
    asyncio.run(serve())
else:
    with subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True) as process:
        asyncio.run(main(f"127.0.0.1:{process.stdout.readline().strip()}"))
        process.kill()
PY
for version in 1.66.2 1.85.3; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet "grpcio==$version"
    "$folder/$version/bin/python" "$folder/probe.py"
done | tee "$folder/out"
grep -q '^1.66.2: cancelled keeps, deadline frees' "$folder/out"
grep -q '^1.85.3: cancelled keeps, deadline frees' "$folder/out"
