#!/usr/bin/env bash
# Python 3.11 (asyncio); tenacity 9.2.1, stamina 26.1.0.
# Guess: "retry whatever is not a ValueError" (`retry_if_not_exception_type(ValueError)`, a lambda in its place, stamina's
#   `on=` with a function) speaks of errors: a task that is cancelled ends, as with `retry_if_exception_type`.
# Behaviour: a CancelledError is no ValueError, so it is caught and retried as an error is. `asyncio.timeout` around the call
#   passes without effect, `task.cancel()` and the end of a task group are ignored, and the call runs once more and
#   returns; in a loop without end a service is then ended by SIGKILL alone. What names the errors to retry is spared.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tenacity==9.2.1 stamina==26.1.0
cat >"$folder/probe.py" <<'PY'
import asyncio
import logging

import stamina
import tenacity

logging.disable()


def permanent(error):
    return isinstance(error, ValueError)


def retried(condition):
    return tenacity.retry(retry=condition, stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())


policies = {
    "tenacity, retry_if_exception_type": retried(tenacity.retry_if_exception_type(OSError)),
    "tenacity, retry_if_not_exception_type": retried(tenacity.retry_if_not_exception_type(ValueError)),
    "tenacity, a function": retried(tenacity.retry_if_exception(lambda error: not permanent(error))),
    "stamina, on=OSError": stamina.retry(on=OSError, attempts=3, wait_initial=0),
    "stamina, a function": stamina.retry(on=lambda error: not permanent(error), attempts=3, wait_initial=0),
}


async def main():
    for name, policy in policies.items():
        calls = 0

        @policy
        async def work():
            nonlocal calls
            calls += 1
            await asyncio.sleep(0.5)
            return "returned"

        try:
            async with asyncio.timeout(0.1):
                outcome = await work()
        except TimeoutError:
            outcome = "timed out"
        print(f"{name}: {outcome}, calls: {calls}", end="; ")
        calls, task = 0, asyncio.create_task(work())
        await asyncio.sleep(0.1)
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        print("cancelled:", "ended" if isinstance(outcome, asyncio.CancelledError) else f"{outcome}, calls: {calls}")


asyncio.run(main())
PY
timeout 100 "$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
tenacity, retry_if_exception_type: timed out, calls: 1; cancelled: ended
tenacity, retry_if_not_exception_type: returned, calls: 2; cancelled: returned, calls: 2
tenacity, a function: returned, calls: 2; cancelled: returned, calls: 2
stamina, on=OSError: timed out, calls: 1; cancelled: ended
stamina, a function: returned, calls: 2; cancelled: returned, calls: 2
SEEN
