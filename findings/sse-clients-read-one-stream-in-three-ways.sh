#!/usr/bin/env bash
# Python 3.11; httpx-sse 0.4.3 (httpx 0.28.1), sseclient-py 1.9.0, sseclient 0.0.27 (both on requests 2.32.5).
# Guess: server-sent events have one grammar, WHATWG's, so every client reads the same events from the same bytes: a
#   block without data (a comment as a ping, a `retry`) is no event, lines end at CR and LF only, and what the end of the
#   stream has cut off is dropped.
# Behaviour: httpx-sse makes an event with empty data of a block that only has `retry`, on which json() of a reader that
#   expects objects fails. sseclient-py hands out the event that was cut off in the middle, as if it were whole. sseclient
#   makes events of pings, too, ends lines at U+0085 (and at form feeds), so that the rest of the data is lost, and decodes
#   UTF-8 as Latin-1. A stream that all three read alike sends `retry` with an event, and ASCII (JSON with escapes).
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for name in one two; do python3 -m venv "$folder/$name"; done
"$folder/one/bin/pip" install --quiet httpx-sse==0.4.3 httpx==0.28.1 sseclient-py==1.9.0 requests==2.32.5
"$folder/two/bin/pip" install --quiet sseclient==0.0.27 requests==2.32.5
cat >"$folder/probe.py" <<'PY'
import itertools
import socket
import sys
import threading

STREAMS = {
    "ping, then a": b": ping\n\ndata: a\n\n",
    "retry, then a": b"retry: 10\n\ndata: a\n\n",
    "a, NEL, b": "data: a\x85b\n\n".encode(),
    "euro sign": "data: \u20ac\n\n".encode(),
    "a, then b cut off": b"data: a\n\ndata: b\n",
}
listener = socket.create_server(("127.0.0.1", 0))


def serve():
    while True:
        connection, _ = listener.accept()
        with connection:
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += connection.recv(4096)
            body = list(STREAMS.values())[int(asked.split()[1][1:])]
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
            connection.sendall(head + body)


def httpx_sse(url):
    import httpx
    import httpx_sse

    with httpx.Client() as client, httpx_sse.connect_sse(client, "GET", url) as source:
        return [event.data for event in source.iter_sse()]


def sseclient_py(url):
    import requests
    import sseclient

    return [event.data for event in sseclient.SSEClient(requests.get(url, stream=True)).events()]


def sseclient(url):
    import sseclient

    # It connects again for ever: the first event of the first connection.
    return [event.data for event in itertools.islice(sseclient.SSEClient(url, retry=0), 1)]


threading.Thread(target=serve, daemon=True).start()
for client in [httpx_sse, sseclient_py] if sys.argv[1] == "one" else [sseclient]:
    for number, name in enumerate(STREAMS):
        found = client(f"http://127.0.0.1:{listener.getsockname()[1]}/{number}")
        print(f"{client.__name__}: {name}: {found!a}")
PY
for name in one two; do "$folder/$name/bin/python" "$folder/probe.py" "$name"; done | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
httpx_sse: ping, then a: ['a']
httpx_sse: retry, then a: ['', 'a']
httpx_sse: a, NEL, b: ['a\x85b']
httpx_sse: euro sign: ['\u20ac']
httpx_sse: a, then b cut off: ['a']
sseclient_py: ping, then a: ['a']
sseclient_py: retry, then a: ['a']
sseclient_py: a, NEL, b: ['a\x85b']
sseclient_py: euro sign: ['\u20ac']
sseclient_py: a, then b cut off: ['a', 'b']
sseclient: ping, then a: ['']
sseclient: retry, then a: ['']
sseclient: a, NEL, b: ['a\xc2']
sseclient: euro sign: ['\xe2\x82\xac']
sseclient: a, then b cut off: ['a']
SEEN
