"""`Tide` and `Current`: the coordinator and its parts, as parameters of a route."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import Depends

from tideover.cluster.health import ClusterHealth
from tideover.config.config import Config
from tideover.contrib.fastapi.by_type import ByType, replaceable
from tideover.coordinator.coordinator import Coordinator
from tideover.discovery.service_view import ServiceView
from tideover.elections.election import Election
from tideover.elections.term import Term
from tideover.functions import current
from tideover.status import StatusReport
from tideover.types import Standing


async def get_tide() -> Coordinator:
    """Return the coordinator of the request: what `Tide` depends on, for `app.dependency_overrides[get_tide]`.

    Raises:
        NotConnected: There is none.
        AmbiguousCoordinator: There are several, and none in the context.

    When degraded:
        The same.
    """
    return current()


# The coordinator of the request, as a parameter: `async def pay(tide: Tide) -> None`.
Tide = Annotated[Coordinator, Depends(get_tide)]

_UNNAMED: Mapping[object, Callable[[Coordinator], object]] = {
    Coordinator: lambda tide: tide,
    Config: lambda tide: tide.config,
    ClusterHealth: lambda tide: tide.health,
    StatusReport: lambda tide: tide.status(),
}
_NAMED: Mapping[object, Callable[[Coordinator, str], object]] = {
    Election: lambda tide, name: tide.election(name),
    ServiceView: lambda tide, name: tide.discover(name),
    Term | None: lambda tide, name: tide.term(name),
    Standing | None: lambda tide, name: tide.standing(name),
}


@replaceable
class Current(ByType):
    """A part of the coordinator, by the parameter's type: `Annotated[ServiceView, Current("billing")]`.

    | type | what it is |
    |---|---|
    | `Election` | the election of that name, as of `Coordinator.election` |
    | `Term`, or None | the term, if this process leads it; for a route of the leader alone, write `LeaderOnly` |
    | `Standing`, or None | with which standing it is led here |
    | `ServiceView` | the service of that name, as of `Coordinator.discover` |
    | `Config`, `ClusterHealth`, `StatusReport`, `Coordinator` | the coordinator's, or itself; without a name |

    Nothing waits for etcd. No caller can set it, and it is in no OpenAPI document. Tests override it:
    `app.dependency_overrides[Current("billing")] = lambda: ...`.

    Args:
        name: The election or the service; empty for what has no name.
        type: What to give, where that is not the parameter's type. None means the parameter's.

    Raises:
        TypeError: Where the route is made: there is nothing of that type, or a name is missing or too much.
        NotConnected: In a request: there is no coordinator.
        ValueError: In a request: that is no name of a service.

    When degraded:
        The same: each of these shows its own state.
    """

    def __init__(self, name: str = "", type: object = None, **fastapi: Any) -> None:
        super().__init__(name, type, **fastapi)

    def _resolve(self, form: Any) -> Callable[[], object]:
        if form in _UNNAMED and not self.name:
            return partial(_read_part, _UNNAMED[form])
        if form in _NAMED and self.name:
            return partial(_read_part, _NAMED[form], self.name)
        if form is Term:
            raise TypeError(
                f"{self!r}: write LeaderOnly({self.name!r}), or `Term | None` where another process may lead"
            )
        if form in _UNNAMED or form in _NAMED:
            what = "has no name" if form in _UNNAMED else "needs a name"
            raise TypeError(f"{self!r}: {getattr(form, '__name__', form)} {what}")
        known = ", ".join(getattr(each, "__name__", str(each)) for each in (*_NAMED, *_UNNAMED))
        raise TypeError(f"{self!r}: a parameter may be one of {known}, not {form!r}")


def _read_part(get: Callable[..., object], *name: str) -> object:
    return get(current(), *name)
