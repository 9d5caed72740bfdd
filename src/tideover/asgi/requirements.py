"""`requires` and `leader_only`: a route's requirements, declared at the route."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from starlette.endpoints import WebSocketEndpoint
from starlette.requests import HTTPConnection
from starlette.types import Scope

from tideover.asgi.refusals import RequirementNotMet, find_refusal, raise_refusal
from tideover.asgi.rules.requirements import Available, KnownConfig, Leads, Lockable, Need, PickableEndpoints
from tideover.callables import behind, is_async, refuse_endpoint
from tideover.decorators.signatures import show
from tideover.discovery.endpoint import check_name as check_service
from tideover.elections.claim import check_name as check_election
from tideover.request_record import present_record
from tideover.types import Standing

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: dict[str, tuple[str, ...]] = {
    "config": ("max_age", "prefix"),
    "discovery": ("at_least", "max_age"),
    "lock": (),
    "etcd": (),
    "quorum": (),
}


class Requirement:
    """What a request needs: a decorator of endpoints, and an entry of `RequirementsMiddleware`.

    Made by `requires` and `leader_only`, which document it.

    Args:
        need: What is needed.
    """

    __slots__ = ("need",)

    def __init__(self, need: Need) -> None:
        self.need = need

    def __repr__(self) -> str:
        return f"<Requirement {self.need!r}>"

    @property
    def name(self) -> str:
        """The name in answers, such as `"lock"` or `"leader:reaper"`."""
        return self.need.name

    def __call__(self, endpoint: F) -> F:
        """Decorate an endpoint.

        Args:
            endpoint: A function, sync or async, or a method of an `HTTPEndpoint` or `WebSocketEndpoint`.

        Returns:
            The endpoint, which a request reaches only if what it needs can be had; its signature is the same, with
            annotations resolved that are strings. Of several such decorators on top of each other all are looked
            at, and all that are not met are named in one answer.

        Raises:
            TypeError: It is no function, a generator, or already a route's endpoint (the route's decorator goes
                above).
        """
        return _guard(endpoint, self.need)


def requires(
    name: str, *, max_age: float | None = None, prefix: str | None = None, at_least: int | None = None
) -> Requirement:
    """Let an endpoint be reached only while a requirement is met; else the answer is 503.

        @requires("config", prefix="prices/", max_age=60)
        @requires("lock")
        async def pay(request: Request) -> Response: ...

    | name | met when |
    |---|---|
    | `"config"` | what is followed under `prefix` was read, is not denied, and is no older than `max_age` |
    | `"discovery:billing"` | `at_least` of its endpoints can be picked, of a list no older than `max_age` |
    | `"lock"` | a lock could be had across machines: no outage is declared, and etcd takes writes |
    | `"etcd"`, `"quorum"` | the state is `AVAILABLE`; the one means the same as the other |

    etcd is not asked, and nothing waits. The answer is a problem (RFC 9457), or text for a client that
    prefers it, with `Retry-After`; a WebSocket is refused before it is accepted where the server can do that, else
    accepted and closed with 1013.

    Args:
        name: What is required.
        max_age: Seconds since it was last proven in sync; None means any age. While all is well that happens every
            3.5 to 5 s: for less give `connect(limits=...)` as well, which has it proven more often.
        prefix: Of the configuration: the keys' prefix, as `get` names keys; None means all that is followed.
        at_least: Of a service: how many endpoints; None means 1.

    Returns:
        A decorator of endpoints, which `RequirementsMiddleware` takes as well.

    Raises:
        ValueError: There is no such requirement, an option does not go with it, or is out of range.
        TypeError: An option is of the wrong type.

    When degraded:
        Requests are refused as the table says.
    """
    if not isinstance(name, str):
        raise TypeError(f"requires: write @requires('lock'), with a name, and not {name!r}")
    kind, _, service = name.partition(":")
    if kind not in _OPTIONS or (service != "") is not (kind == "discovery"):
        known = ", ".join(repr(f"{kind}:SERVICE" if kind == "discovery" else kind) for kind in _OPTIONS)
        raise ValueError(f"requires: there is {known}, and not {name!r}")
    given = {"max_age": max_age, "prefix": prefix, "at_least": at_least}
    for option, value in given.items():
        if value is not None and option not in _OPTIONS[kind]:
            raise ValueError(f"requires({name!r}): {option} does not go with it")
    age = _positive("max_age", max_age)
    if kind == "config":
        if prefix is not None and not isinstance(prefix, str):
            raise TypeError(f"prefix must be a string, not {prefix!r}")
        if prefix is not None and prefix.startswith("/"):
            raise ValueError(f"a configuration prefix does not begin with a slash: {prefix!r}")
        return Requirement(KnownConfig(prefix or "", age))
    if kind == "discovery":
        count = 1 if at_least is None else at_least
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"at_least must be a whole number, not {count!r}")
        if count < 1:
            raise ValueError(f"at_least must be 1 or more, not {count}")
        return Requirement(PickableEndpoints(check_service(service), count, age))
    return Requirement(Lockable() if kind == "lock" else Available(kind))


def leader_only(
    election: str, *, standing: Collection[Standing | str] = ("held", "confirmed"), redirect: bool = False
) -> Requirement:
    """Let an endpoint be reached only while this process leads, by the clock, at this instant; else it is 503.

        @leader_only("reaper", redirect=True)
        async def reap(request: Request) -> Response: ...

    Args:
        election: The election.
        standing: The standings that count: `"held"`, `"confirmed"`, `"unconfirmed"`.
        redirect: Whether a client of HTTP is sent on to the leader by 307, with path and query: to the `address`
            that the leader campaigns with, if that is an `http` or `https` URL and not where the request came to.
            A candidate for the election must be in this process, because it knows that address. The leader itself
            decides about whatever else is required.

    Returns:
        A decorator of endpoints, which `RequirementsMiddleware` takes as well.

    Raises:
        ValueError: No valid name of an election, an unknown standing, or no standing at all.
        TypeError: An option is of the wrong type.

    When degraded:
        As `Term.check`: a leader that cannot renew leads until its deadline, and under `"peers"` or `"stay"` on.
    """
    check_election(election)
    if isinstance(standing, str):
        raise TypeError(f"standing must be a collection, such as ({standing!r},), not a string")
    grounds = tuple(Standing(each) for each in standing)
    if not grounds:
        raise ValueError("standing must name at least one of 'held', 'confirmed' and 'unconfirmed'")
    return Requirement(Leads(election, grounds, redirect))


def _positive(what: str, seconds: float | None) -> float:
    if seconds is None:
        return math.inf
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{what} must be a number of seconds, not {seconds!r}")
    if not seconds > 0:
        raise ValueError(f"{what} must be more than 0 seconds, not {seconds}")
    return float(seconds)


# What each guarded endpoint needs, and the function behind it. Not attributes: other decorators would copy them.
_guarded: WeakKeyDictionary[Callable[..., Any], tuple[tuple[Need, ...], Callable[..., Any]]] = WeakKeyDictionary()


def _guard(endpoint: F, need: Need) -> F:
    """Return an endpoint that is reached only if this need and its earlier needs are met."""
    _check_endpoint(endpoint)
    others, function = _guarded.get(endpoint, ((), endpoint)) if inspect.isfunction(endpoint) else ((), endpoint)
    needs = (need, *others)
    guarded: Callable[..., Any]
    if is_async(function):

        @functools.wraps(function)
        async def guarded_async(*args: Any, **kwargs: Any) -> Any:
            refusal = find_refusal(needs)
            if refusal is None:
                return await function(*args, **kwargs)
            connection, scope = _at_hand(args, kwargs)
            response = await refusal.answer(connection, scope)
            if scope is not None and isinstance(args[0] if args else None, WebSocketEndpoint):
                # Else it would serve what the client has sent meanwhile.
                raise_refusal(RequirementNotMet(refusal, told=True), scope)
            return response

        guarded = guarded_async
    else:

        @functools.wraps(function)
        def guarded_sync(*args: Any, **kwargs: Any) -> Any:
            # In the thread in which the endpoint runs: it may have waited for one.
            refusal = find_refusal(needs)
            if refusal is None:
                return function(*args, **kwargs)
            return refusal.response(_at_hand(args, kwargs)[1])

        guarded = guarded_sync
    show(guarded, function)
    _guarded[guarded] = needs, function
    return cast("F", guarded)


def _check_endpoint(endpoint: Callable[..., Any]) -> None:
    """Reject what is no endpoint, or cannot refuse a request."""
    inner = behind(endpoint) if callable(endpoint) else endpoint
    what = getattr(endpoint, "__qualname__", repr(endpoint))
    known = inspect.isroutine(endpoint) or isinstance(endpoint, functools.partial)
    if not known or isinstance(endpoint, type | staticmethod | classmethod):
        raise TypeError(
            f"a requirement decorates functions and methods, not {what}: decorate a class's methods, below "
            "@staticmethod and @classmethod, and wrap an application in RequirementsMiddleware"
        )
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError(
            f"a requirement cannot refuse for the generator {what}, which has no answer to return: use "
            "tideover.contrib.fastapi.Requires, or RequirementsMiddleware"
        )
    refuse_endpoint(endpoint, "requires")


def _at_hand(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[HTTPConnection | None, Scope | None]:
    """Return the request, if the endpoint was given it, and its scope, which `TideoverMiddleware` remembers."""
    for each in (*args, *kwargs.values()):
        if isinstance(each, HTTPConnection):
            return each, each.scope
    record = present_record()
    return None, None if record is None else record.scope
