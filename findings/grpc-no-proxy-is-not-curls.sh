#!/usr/bin/env bash
# grpcio 1.85.3 (Python, grpc.aio).
# Guess: gRPC, which obeys http_proxy, reads no_proxy as curl does: "*" spares everything, "host:port" one port, and an
#   entry is a whole name or a domain; upper-case names count as well, except HTTP_PROXY.
# Behaviour: "*" and "host:port" mean nothing; an entry is a suffix of the host's text, so "0.0.1" spares 127.0.0.1;
#   NO_PROXY is not read; an empty no_grpc_proxy hides a no_proxy that is set; an empty grpc_proxy switches http_proxy
#   off.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.3
cat >"$folder/probe.py" <<'PY'
import asyncio
import os
import subprocess
import sys

CASES = [
    {},
    {"no_proxy": "127.0.0.1"},
    {"no_proxy": "*"},
    {"no_proxy": "127.0.0.1:PORT"},
    {"no_proxy": "0.0.1"},
    {"NO_PROXY": "127.0.0.1"},
    {"no_proxy": "127.0.0.1", "no_grpc_proxy": ""},
    {"grpc_proxy": ""},
]


async def call(port):
    import grpc

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            await channel.unary_unary("/s/m", None, None)(b"", timeout=2)
        except grpc.aio.AioRpcError:
            pass


async def main():
    asked = []

    async def proxy(reader, writer):
        asked.append((await reader.readline()).split(b" ")[0])
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        writer.close()

    async def member(reader, writer):
        writer.close()

    proxying = await asyncio.start_server(proxy, "127.0.0.1", 0)
    serving = await asyncio.start_server(member, "127.0.0.1", 0)
    ports = [one.sockets[0].getsockname()[1] for one in (proxying, serving)]
    inherited = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    for case in CASES:
        asked.clear()
        case = {"http_proxy": f"http://127.0.0.1:{ports[0]}", **case}
        given = {name: value.replace("PORT", str(ports[1])) for name, value in case.items()}
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, str(ports[1]), env=inherited | given, stderr=subprocess.DEVNULL
        )
        await process.wait()
        del case["http_proxy"]
        print(case, "proxy" if b"CONNECT" in asked else "direct")


asyncio.run(call(int(sys.argv[1])) if len(sys.argv) > 1 else main())
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
{} proxy
{'no_proxy': '127.0.0.1'} direct
{'no_proxy': '*'} proxy
{'no_proxy': '127.0.0.1:PORT'} proxy
{'no_proxy': '0.0.1'} direct
{'NO_PROXY': '127.0.0.1'} proxy
{'no_proxy': '127.0.0.1', 'no_grpc_proxy': ''} proxy
{'grpc_proxy': ''} direct
SEEN
