"""Every public call that may wait: found by looking at what is public, and how a test makes each of them."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

import tideover
from tideover import Coordinator, locked, while_leader
from tideover.coordinator.survey import survey
from tideover.elections.admin import ElectionAdmin, RecordSnapshot
from tideover.elections.leader_view import LeaderView
from tideover.request_record import current_coordinator
from tideover.sessions.key import Notice

# What is no annotation of anything, and yet in users' hands.
_SEEDS = (Notice,)
# Run by the coordinator itself, in the background.
BACKGROUND = {"Config.tend", "LeaderView.run"}
_SPECIAL = ("__aenter__", "__aexit__", "__anext__", "__await__")


def _mentioned(annotation: object) -> Iterator[type]:
    """The classes of ours in an annotation."""
    if inspect.isclass(annotation) and annotation.__module__.startswith("tideover"):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _mentioned(argument)


def _returned(function: object) -> Iterator[type]:
    if isinstance(function, property):
        function = function.fget
    if inspect.isfunction(function):
        known = {**vars(typing), **vars(importlib.import_module("typing_extensions"))}
        yield from _mentioned(typing.get_type_hints(function, localns=known).get("return"))


def public_classes() -> set[type]:
    """Return all classes of which a user may have an object: public ones, and what their methods return."""
    public = [getattr(tideover, name) for name in tideover.__all__]
    found: set[type] = set()
    waiting: list[type] = [*_SEEDS, *(each for each in public if inspect.isclass(each))]
    waiting += [cls for each in public for cls in _returned(each)]
    while waiting:
        cls = waiting.pop()
        if cls in found:
            continue
        found.add(cls)
        members = [name for name in dir(cls) if not name.startswith("_")]
        waiting += [mentioned for name in members for mentioned in _returned(inspect.getattr_static(cls, name))]
    return {cls for cls in found if not issubclass(cls, Exception) and not getattr(cls, "_is_protocol", False)}


def found_entries() -> set[str]:
    """Return the names of all public methods that may wait."""
    return BACKGROUND ^ {
        f"{cls.__name__}.{name}"
        for cls in {*public_classes(), tideover.Config, tideover.ClusterHealth}
        for name, value in inspect.getmembers(cls)
        if (not name.startswith("_") or name in _SPECIAL)
        and (inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value) or name == "__await__")
    }


@dataclass
class Things:
    """One open object of each kind, all of one coordinator."""

    tide: Coordinator
    lock: tideover.Lock
    held: tideover.Held
    session_block: tideover.SessionBlock
    session: tideover.Session
    own: tideover.LeasedKey
    leadership: tideover.Leadership
    term: tideover.Term
    job: tideover.Job
    election: tideover.Election
    admin: ElectionAdmin
    sighting: RecordSnapshot
    registration: tideover.RegistrationBlock
    registered: tideover.Registered
    view: tideover.ServiceView
    followed: LeaderView
    endpoint_changes: tideover.EndpointChanges
    changes: tideover.Changes
    health_changes: tideover.HealthChanges


URL = "http://127.0.0.1:8000"
ANOTHER = tideover.Registration("foreign", "http://127.0.0.1:8001")


@asynccontextmanager
async def things(tide: Coordinator) -> AsyncIterator[Things]:
    """Open one of each kind."""
    await tide.config.put("known", "1")
    lock, session_block = tide.lock("held", timeout=5), tide.session(ttl=15)
    leadership, registration = tide.leader("boss"), tide.register("api", URL)
    async with lock as held, session_block as session, leadership as term, registration as registered:
        view, election, job = tide.discover("api"), tide.election("seat"), tide.job("duty", anyio.sleep_forever)
        job.start()
        await view.wait_for(1, timeout=5)
        yield Things(
            tide,
            lock,
            held,
            session_block,
            session,
            await session.put("own"),
            leadership,
            term,
            job,
            election,
            election.admin(),
            await election.admin().look(),
            registration,
            registered,
            view,
            tide.follow_leader("seat"),
            view.changes(),
            tide.config.changes(),
            tide.health.changes(),
        )
        await election.resign()
        await job.stop()


async def _next(changes: AsyncIterator[object]) -> object:
    return await anext(changes)


async def _await(notice: Notice) -> str:
    return await notice


@locked("decorated", timeout=5)
async def with_lock() -> None:
    """Run under a lock."""


@while_leader("decorated")
async def with_leadership() -> None:
    """Run while leading."""


async def nothing() -> None:
    """Have nothing to do."""


async def _within(tide: Coordinator, function: Callable[[], Awaitable[object]]) -> object:
    token = current_coordinator.set(tide)
    try:
        return await function()
    finally:
        current_coordinator.reset(token)


async def _sync(call: Callable[[], object]) -> object:
    return call()


_NOBODY = (None, None, None)

ENTRIES: Mapping[str, Callable[[Things], Awaitable[object]]] = {
    "Coordinator.__aexit__": lambda t: t.tide.__aexit__(*_NOBODY),
    "Coordinator.run_while_leading": lambda t: t.tide.run_while_leading("foreign", nothing),
    "Coordinator.lock_conflicts": lambda t: t.tide.lock_conflicts(),
    "Coordinator.foreign_values": lambda t: t.tide.foreign_values(),
    "Coordinator.services": lambda t: t.tide.services(),
    "Catalog.config": lambda t: anext(t.tide.catalog.config()),
    "Catalog.elections": lambda t: anext(t.tide.catalog.elections()),
    "Catalog.locks": lambda t: anext(t.tide.catalog.locks()),
    "Catalog.lock": lambda t: t.tide.catalog.lock("held"),
    "LeaderView.wait": lambda t: t.followed.wait(timeout=0.1),
    "Namespaces.find_misspelled": lambda t: t.tide.namespaces.find_misspelled("config/"),
    "Namespaces.walk": lambda t: anext(t.tide.namespaces.walk()),
    "ClusterHealth.wait_for": lambda t: t.tide.health.wait_for(tideover.HealthState.UNAVAILABLE, timeout=0.1),
    "HealthChanges.__anext__": lambda t: _next(t.health_changes),
    "Config.fetch": lambda t: t.tide.config.fetch("unfollowed"),
    "Config.put": lambda t: t.tide.config.put("foreign", "1"),
    "Config.delete": lambda t: t.tide.config.delete("foreign"),
    "Changes.__anext__": lambda t: _next(t.changes),
    "Lock.__aenter__": lambda t: t.tide.lock("foreign").__aenter__(),
    "Lock.__aexit__": lambda t: t.lock.__aexit__(*_NOBODY),
    "SessionBlock.__aenter__": lambda t: t.tide.session().__aenter__(),
    "SessionBlock.__aexit__": lambda t: t.session_block.__aexit__(*_NOBODY),
    "Session.put": lambda t: t.session.put("foreign"),
    "Session.claim": lambda t: t.session.claim("foreign"),
    "Session.make": lambda t: t.session.make({"foreign": b""}),
    "Session.delete": lambda t: t.session.delete("own"),
    "Session.aclose": lambda t: t.session.aclose(1.0),
    "Notice.wait": lambda t: t.own.gone.wait(),
    "Notice.__await__": lambda t: _await(t.session.lost),
    "Leadership.__aenter__": lambda t: t.tide.leader("foreign").__aenter__(),
    "Leadership.__aexit__": lambda t: t.leadership.__aexit__(*_NOBODY),
    "Election.campaign": lambda t: t.election.campaign(),
    "Election.proclaim": lambda t: t.election.proclaim("foreign"),
    "Election.resign": lambda t: t.election.resign(),
    "Election.current": lambda t: t.election.current(),
    "Election.observe": lambda t: anext(t.election.observe()),
    "ElectionAdmin.look": lambda t: t.admin.look(),
    "ElectionAdmin.renewed": lambda t: t.admin.renewed(t.sighting, 0.1),
    "ElectionAdmin.clear": lambda t: t.admin.clear(t.sighting),
    "Job.run": lambda t: t.tide.job("foreign", nothing).run(),
    "Job.stop": lambda t: t.job.stop(),
    "RegistrationBlock.__aenter__": lambda t: t.tide.register("foreign", URL).__aenter__(),
    "RegistrationBlock.__aexit__": lambda t: t.registration.__aexit__(*_NOBODY),
    "Registered.wait_registered": lambda t: t.registered.wait_registered(),
    "Registered.update": lambda t: t.registered.update(weight=0.5),
    "Registered.deregister": lambda t: t.registered.deregister(),
    "ServiceView.wait_for": lambda t: t.view.wait_for(2, timeout=0.1),
    "EndpointChanges.__anext__": lambda t: _next(t.endpoint_changes),
}

# What does not wait, but begins or ends something; and what decorators make of coroutine functions.
OTHERS: Mapping[str, Callable[[Things], Awaitable[object]]] = {
    "Life.know_members": lambda t: t.tide._life.know_members(0.1),
    "Life.until_live": lambda t: t.tide._life.until_live(),
    "survey": lambda t: survey(t.tide._parts.client),
    "Registrations.start": lambda t: _sync(lambda: t.tide._parts.registrations.start(ANOTHER)),
    "Job.start": lambda t: _sync(t.tide.job("foreign", nothing).start),
    "Registered.begin_deregistering": lambda t: _sync(t.registered.begin_deregistering),
    "Session.orphan": lambda t: _sync(t.session.orphan),
    "Session.bind": lambda t: _sync(lambda: t.session.bind(anyio.CancelScope())),
    "locked": lambda t: _within(t.tide, with_lock),
    "while_leader": lambda t: _within(t.tide, with_leadership),
}
