#!/usr/bin/env bash
# Python 3.11; fastapi 0.165.0 (starlette 1.10.0).
# Guess: `Annotated[float, note]` keeps the note that it was given. How notes compare matters to those who compare them.
# Behaviour: `Annotated[...]` is cached like other subscriptions, by the equality and hash of its arguments. A note whose
#   equality leaves something out, as a dependency's does that `app.dependency_overrides` is to find by its name alone,
#   silently takes the place of every other note that is equal to it, in other functions and other modules: FastAPI calls
#   the first one everywhere. Notes that cannot be hashed are spared. So are those that are not equal, as dataclasses
#   with all their fields are.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fastapi==0.165.0 starlette==1.10.0 httpx==0.28.1
cat >"$folder/probe.py" <<'PY'
from typing import Annotated, get_args

import anyio
import httpx
from fastapi import Depends, FastAPI


class Setting:
    """A dependency that gives a setting, or its default; overridden by its name alone."""

    def __init__(self, name, default):
        self.name, self.default = name, default

    def __call__(self):
        return self.default

    def __eq__(self, other):
        return isinstance(other, Setting) and self.name == other.name

    def __hash__(self):
        return hash(self.name)


app = FastAPI()


@app.get("/cheap")
def cheap(rate: Annotated[float, Depends(Setting("rate", 0.01))]):
    return rate


@app.get("/dear")
def dear(rate: Annotated[float, Depends(Setting("rate", 0.99))]):
    return rate


async def ask(path):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return (await client.get(path)).json()


one, other = Setting("rate", 0.01), Setting("rate", 0.99)
kept = get_args(Annotated[int, one])[1], get_args(Annotated[int, other])[1]
print("the second note is kept:", kept[1] is other)
print("the second note is the first:", kept[1] is kept[0])
print("FastAPI, a default of 0.01:", anyio.run(ask, "/cheap"))
print("FastAPI, a default of 0.99:", anyio.run(ask, "/dear"))
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
the second note is kept: False
the second note is the first: True
FastAPI, a default of 0.01: 0.01
FastAPI, a default of 0.99: 0.01
SEEN
