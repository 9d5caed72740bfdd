#!/usr/bin/env bash
# Python 3.11 (asyncio); circuitbreaker 2.1.3, aiobreaker 1.2.0, purgatory 3.0.1, hyx 0.0.2.
# Guess: when an open circuit's pause is over one call tries the service, "the next call", and the others are refused
#   until it has ended: that is what the state in between is for. And an open circuit closes by such a trial only.
# Behaviour: all four let every call through as long as the trial has not ended. In an async service the trial
#   hangs for its whole time-out, and all that comes meanwhile goes to a server that is just coming up. circuitbreaker
#   also closes the open circuit, at once and for all, when a slow call that began before the opening is answered.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet circuitbreaker==2.1.3 aiobreaker==1.2.0 purgatory==3.0.1 hyx==0.0.2
cat >"$folder/probe.py" <<'PY'
import asyncio
from datetime import timedelta

import aiobreaker
import circuitbreaker
import hyx.circuitbreaker
import purgatory


async def call(action):
    await action()


# Each opens after three failures in a row and tries again after a second.
breakers = {
    "circuitbreaker": lambda: circuitbreaker.CircuitBreaker(failure_threshold=3, recovery_timeout=1),
    "hyx": lambda: hyx.circuitbreaker.consecutive_breaker(
        exceptions=(ConnectionError,), failure_threshold=3, recovery_time_secs=1, recovery_threshold=1
    ),
    "aiobreaker": lambda: aiobreaker.CircuitBreaker(fail_max=3, timeout_duration=timedelta(seconds=1)),
    "purgatory": lambda: purgatory.AsyncCircuitBreakerFactory(default_threshold=3, default_ttl=1)("etcd"),
}


async def main():
    for name, make in breakers.items():
        guarded, reached, back = make()(call), [], asyncio.Event()

        async def fails():
            raise ConnectionError("away")

        async def works():
            reached.append(True)

        async def waits():
            reached.append(True)
            await back.wait()

        async def passes(action):
            reached.clear()
            await asyncio.gather(guarded(action), return_exceptions=True)
            return bool(reached)

        slow = asyncio.create_task(guarded(waits))
        await asyncio.sleep(0.05)
        for _ in range(3):
            await passes(fails)
        assert not await passes(works), "the circuit is open"
        back.set()
        await slow
        print(f"{name}: open, after an old call's answer:", "closed" if await passes(works) else "open")

        for _ in range(3):
            await passes(fails)
        await asyncio.sleep(1.2)
        back.clear()
        reached.clear()
        tasks = [asyncio.create_task(guarded(waits)) for _ in range(20)]
        await asyncio.sleep(0.2)
        print(f"{name}: {len(reached)} of 20 calls reach the service before the first has ended")
        back.set()
        await asyncio.gather(*tasks, return_exceptions=True)


asyncio.run(main())
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
circuitbreaker: open, after an old call's answer: closed
circuitbreaker: 20 of 20 calls reach the service before the first has ended
hyx: open, after an old call's answer: open
hyx: 20 of 20 calls reach the service before the first has ended
aiobreaker: open, after an old call's answer: open
aiobreaker: 20 of 20 calls reach the service before the first has ended
purgatory: open, after an old call's answer: open
purgatory: 20 of 20 calls reach the service before the first has ended
SEEN
