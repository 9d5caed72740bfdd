#!/usr/bin/env bash
# httpx 0.28.1, idna 3.20, Python 3.11.
# Guess: whatever a server answers, `httpx.get` raises httpx's own errors (RemoteProtocolError for a Location that is no URL,
#   as its documentation of exceptions has it), and none at all with follow_redirects=False, the default.
# Behaviour: a 302 whose Location has a host that IDNA refuses raises idna's error, also where redirects are not followed:
#   the client builds the next request for `response.next_request` either way. `except httpx.HTTPError` lets it through,
#   and so does a retry that is written with it.
# Output seen: "follow=False: idna.core.InvalidCodepoint, an httpx error: False" and the same for True.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet httpx==0.28.1 idna==3.20
cat >"$folder/probe.py" <<'PY'
import httpx


def answer(request):
    return httpx.Response(302, headers={"Location": "http://xn--a/"})


for follow in (False, True):
    with httpx.Client(transport=httpx.MockTransport(answer), follow_redirects=follow) as client:
        try:
            print(client.get("http://shop/").status_code)
        except Exception as exc:
            kind = f"{type(exc).__module__}.{type(exc).__name__}"
            print(f"follow={follow}: {kind}, an httpx error: {isinstance(exc, httpx.HTTPError)}")
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
follow=False: idna.core.InvalidCodepoint, an httpx error: False
follow=True: idna.core.InvalidCodepoint, an httpx error: False
SEEN
