#!/usr/bin/env bash
# grpcio 1.85.3 (Python, grpc.aio), cryptography 46.0.3.
# Guess: a server certificate without subject alternative names fits no name, as in browsers and in Go since 1.15,
#   whose etcdctl refuses it: "certificate relies on legacy Common Name field".
# Behaviour: gRPC's core still falls back to the common name. A Python client of the same server connects by that
#   name, and the fault shows only when somebody uses another client, or the IP address.
# Output seen: "127.0.0.1: UNAVAILABLE", "localhost: answered", "calls seen by the server: 1".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.3 cryptography==46.0.3
cat >"$folder/probe.py" <<'PY'
import asyncio
import datetime

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

seen = 0


class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        async def answer(request, context):
            global seen
            seen += 1
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


def certificate():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return built.public_bytes(serialization.Encoding.PEM), private


async def main():
    public, private = certificate()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(private, public)]))
    await server.start()
    for host in ("127.0.0.1", "localhost"):
        credentials = grpc.ssl_channel_credentials(public)
        async with grpc.aio.secure_channel(f"{host}:{port}", credentials) as channel:
            try:
                await channel.unary_unary("/s/m", None, None)(b"", timeout=5)
                print(f"{host}: answered")
            except grpc.aio.AioRpcError as error:
                print(f"{host}: {error.code().name}")
    print(f"calls seen by the server: {seen}")
    await server.stop(None)


asyncio.run(main())
PY
"$folder/venv/bin/python" "$folder/probe.py" 2>/dev/null | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
127.0.0.1: UNAVAILABLE
localhost: answered
calls seen by the server: 1
SEEN
