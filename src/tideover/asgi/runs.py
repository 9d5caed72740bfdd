"""The runs of one application object, and the coordinator of each request.

A server runs an application's lifespan once, and several servers may run one application object at once: on two
ports, or nested test clients. Each run has a coordinator of its own. Servers hand the `state` of the lifespan's
scope on to the scope of each request, and so a request names its run. Where a server does not, only one run is
possible at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from starlette.types import Scope

from tideover.coordinator.coordinator import Coordinator
from tideover.errors import AmbiguousCoordinator
from tideover.options import Options


class Runs:
    """The active runs of one middleware; `options` distinguish its coordinators from those of other middleware."""

    def __init__(self, options: Options, *, apart: str = "") -> None:
        self._key = f"tideover.coordinator{apart} of {options.namespace!r} at {','.join(options.endpoints)}"
        # Each with whether its server passes on the state.
        self._open: dict[Coordinator, bool] = {}

    @contextmanager
    def run(self, coordinator: Coordinator, state: MutableMapping[str, Any] | None) -> Iterator[None]:
        """Keep a run active for a block.

        Raises:
            AmbiguousCoordinator: Another run is active, and the requests of the two could not be told apart.
        """
        if self._open and (state is None or not all(self._open.values())):
            raise AmbiguousCoordinator(
                "a second server starts this application object while another one runs it, and not both hand the "
                "state of the lifespan on to requests (scope['state'] of ASGI), so that these could not be told "
                "apart: give each server an application object of its own"
            )
        if state is not None:
            state[self._key] = coordinator
        self._open[coordinator] = state is not None
        try:
            yield
        finally:
            del self._open[coordinator]

    def of(self, scope: Scope) -> Coordinator | None:
        """Return the coordinator of a request's run; None without an active run.

        Raises:
            AmbiguousCoordinator: The request names no run, and several are active.
        """
        found = (scope.get("state") or {}).get(self._key)
        if isinstance(found, Coordinator):
            return found
        if len(self._open) > 1:
            raise AmbiguousCoordinator(
                f"{len(self._open)} servers run this application object, and this request's server does not hand "
                "the state of the lifespan on (scope['state'] of ASGI): give each an application object of its own"
            )
        return next(iter(self._open), None)
