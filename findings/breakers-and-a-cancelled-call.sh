#!/usr/bin/env bash
# Python 3.11 (asyncio); circuitbreaker 2.1.3, aiobreaker 1.2.0, purgatory 3.0.1, hyx 0.0.2.
# Guess: a call that is cancelled from outside, by `asyncio.timeout` around it or because its client is gone, tells a
#   circuit breaker nothing, as it tells `except Exception` nothing: it is neither a failure nor a success.
# Behaviour: that is so with aiobreaker alone. For circuitbreaker, and for hyx in its form with `async with`, it is a
#   success: it wipes out the failures before it, so that a service that fails and hangs in turn never opens the
#   circuit, and as the trial call after a pause it closes the circuit though nothing was answered. For purgatory it
#   is a failure: three impatient clients open the circuit for all.
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


async def fails():
    raise ConnectionError("away")


async def hangs():
    await asyncio.sleep(60)


async def works():
    pass


async def call(action):
    await action()


def with_hyx():
    breaker = hyx.circuitbreaker.consecutive_breaker(
        exceptions=(ConnectionError,), failure_threshold=3, recovery_time_secs=1, recovery_threshold=1
    )

    async def guarded(action):
        async with breaker:
            await action()

    return guarded


# Each opens after three failures in a row and tries again after a second.
breakers = {
    "circuitbreaker": lambda: circuitbreaker.CircuitBreaker(failure_threshold=3, recovery_timeout=1)(call),
    "hyx": with_hyx,
    "aiobreaker": lambda: aiobreaker.CircuitBreaker(fail_max=3, timeout_duration=timedelta(seconds=1))(call),
    "purgatory": lambda: purgatory.AsyncCircuitBreakerFactory(default_threshold=3, default_ttl=1)("etcd")(call),
}


async def outcome(guarded, action):
    try:
        async with asyncio.timeout(0.05):
            await guarded(action)
    except TimeoutError:
        pass
    except ConnectionError:
        pass
    except Exception:
        return "refused"
    return "let through"


async def main():
    for name, make in breakers.items():
        guarded = make()
        for action in (fails, fails, hangs, fails):
            await outcome(guarded, action)
        print(f"{name}: after two failures, a time-out and a failure:", await outcome(guarded, works))
        guarded = make()
        for _ in range(3):
            await outcome(guarded, hangs)
        print(f"{name}: after three time-outs:", await outcome(guarded, works))
        guarded = make()
        for _ in range(3):
            await outcome(guarded, fails)
        assert await outcome(guarded, works) == "refused"
        await asyncio.sleep(1.2)
        assert await outcome(guarded, hangs) == "let through"
        await outcome(guarded, fails)
        print(f"{name}: after a pause, a time-out and a failure:", await outcome(guarded, works))


asyncio.run(main())
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
circuitbreaker: after two failures, a time-out and a failure: let through
circuitbreaker: after three time-outs: let through
circuitbreaker: after a pause, a time-out and a failure: let through
hyx: after two failures, a time-out and a failure: let through
hyx: after three time-outs: let through
hyx: after a pause, a time-out and a failure: let through
aiobreaker: after two failures, a time-out and a failure: refused
aiobreaker: after three time-outs: let through
aiobreaker: after a pause, a time-out and a failure: refused
purgatory: after two failures, a time-out and a failure: refused
purgatory: after three time-outs: refused
purgatory: after a pause, a time-out and a failure: refused
SEEN
