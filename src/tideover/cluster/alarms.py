"""Asking etcd for its alarms, so that no user's write has to fail first.

A cluster whose quota is used up, or whose data is found damaged, answers reads as ever: a probe sees nothing.
etcd raises an alarm, which each member tells in its status, without a quorum and without a round of its own. (The
alarm request proper, even to list them, is a proposal that all members write to their logs.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from tideover.cluster.rules.health import sentence
from tideover.cluster.state import Lanes
from tideover.store.faults import StoreFault
from tideover.store.operations import Lane, Status
from tideover.store.protocol import Store

_log = logging.getLogger("tideover")

# Seconds between two questions, at the most: while there is no alarm, and while there is one.
QUIET_INTERVAL = 30.0
ALARMED_INTERVAL = 5.0
# Seconds for an answer.
_TIMEOUT = 0.5
# Seconds until the member in use has heard of an alarm that another one has raised or seen taken back.
_SETTLE = 0.5


class Alarms:
    """Keeps `Lanes.alarms` as etcd has them.

    Args:
        store: The cluster.
        lanes: Where they are noted; whose evidence, a write refused or accepted, is looked into at once.
        chance: Draws a number uniformly from [0, 1).
    """

    def __init__(self, store: Store, lanes: Lanes, *, chance: Callable[[], float]) -> None:
        self._store = store
        self._lanes = lanes
        self._chance = chance

    def __repr__(self) -> str:
        """Show the alarms there are."""
        return f"<Alarms {', '.join(sorted(self._lanes.alarms or ())) or 'none'}>"

    async def run(self) -> None:
        """Ask now and then, until cancelled; jittered, so that many clients do not ask in step."""
        lanes = self._lanes
        while True:
            await self._ask()
            interval = ALARMED_INTERVAL if lanes.alarms else QUIET_INTERVAL
            if await lanes.alarm_evidence.wait(interval * (0.7 + 0.3 * self._chance())):
                await anyio.sleep(_SETTLE)

    async def _ask(self) -> None:
        lanes, before = self._lanes, self._lanes.diagnosis_of_alarms
        if lanes.alarms is not None and not lanes.breaker(Lane.MEMBER).closed:
            return  # nobody is there to be asked
        try:
            with anyio.fail_after(_TIMEOUT):
                about = await self._store.call(Status(), member=lanes.active, timeout=_TIMEOUT)
        except (StoreFault, TimeoutError):
            # What was known stays known; the probes find out what is wrong.
            lanes.note_alarms(lanes.alarms or frozenset())
            return
        lanes.note_alarms(about.alarms)
        if lanes.diagnosis_of_alarms is not before:
            _log.warning("tideover: %s", sentence(lanes.diagnosis_of_alarms))
