#!/usr/bin/env bash
# FastAPI 0.165.0, pydantic 2.14.4, Starlette as it comes with them; Python 3.11.
# Guess: a route that returns a record with an infinite number answers the same with a response model and without one:
#   null, as pydantic writes it, or an error at both.
# Behaviour: with a response model it is 200 and null. Without one the very same value is 500, "Out of range float values
#   are not JSON compliant". Dropping a return annotation turns an answer into an error, for rare values only.
# Output seen: "with a model: 200 {"age":null}", "without: ValueError, 500 to the client".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fastapi==0.165.0 pydantic==2.14.4 httpx==0.28.1
cat >"$folder/probe.py" <<'PY'
import asyncio
import math
from dataclasses import dataclass

import fastapi
import httpx


@dataclass
class Reading:
    age: float


app = fastapi.FastAPI()


@app.get("/with")
def modelled() -> Reading:
    return Reading(math.inf)


@app.get("/without")
def bare():
    return Reading(math.inf)


async def main():
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        for path in ("/with", "/without"):
            answer = await client.get(path)
            print(path, answer.status_code, answer.text)


asyncio.run(main())
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
/with 200 {"age":null}
/without 500 Internal Server Error
SEEN
