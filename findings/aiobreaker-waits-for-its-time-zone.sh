#!/usr/bin/env bash
# Python 3.11; aiobreaker 1.2.0.
# Guess: `error.sleep_until_open()` and `breaker.sleep_until_open()`, made for those who wait and try again, sleep for what
#   is left of the pause, wherever the process runs.
# Behaviour: the opening is written down in UTC and compared with local time. In UTC, where containers and CI run, the
#   guess holds. West of it the wait is longer by the offset: five hours in New York for a pause of a minute. East of it
#   both raise TypeError. The circuit itself counts in UTC alone, and lets calls through again in time.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet aiobreaker==1.2.0
cat >"$folder/probe.py" <<'PY'
import asyncio
import os
from datetime import timedelta

import aiobreaker


async def fails():
    raise ConnectionError("away")


async def slept(asked, call):
    """Return for how many minutes `call` wants to sleep."""
    asked.clear()
    try:
        await call()
    except TypeError:
        return "TypeError"
    return f"{asked[0] / 60:.0f} min"


async def main():
    breaker = aiobreaker.CircuitBreaker(fail_max=1, timeout_duration=timedelta(minutes=1))
    try:
        await breaker.call_async(fails)
    except aiobreaker.CircuitBreakerError as error:
        opened = error
    asked, sleep = [], asyncio.sleep

    async def note(seconds):
        asked.append(seconds)

    asyncio.sleep = note
    for name, call in (("error", opened.sleep_until_open), ("breaker", breaker.sleep_until_open)):
        print(f"{os.environ['TZ']}: {name}.sleep_until_open() of 1 min sleeps:", await slept(asked, call))
    asyncio.sleep = sleep


asyncio.run(main())
PY
# The zones as POSIX writes them: UTC, New York's standard time, Berlin's.
for zone in UTC0 EST5 CET-1; do TZ=$zone "$folder/venv/bin/python" "$folder/probe.py"; done | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
UTC0: error.sleep_until_open() of 1 min sleeps: 1 min
UTC0: breaker.sleep_until_open() of 1 min sleeps: 1 min
EST5: error.sleep_until_open() of 1 min sleeps: 301 min
EST5: breaker.sleep_until_open() of 1 min sleeps: 301 min
CET-1: error.sleep_until_open() of 1 min sleeps: TypeError
CET-1: breaker.sleep_until_open() of 1 min sleeps: TypeError
SEEN
