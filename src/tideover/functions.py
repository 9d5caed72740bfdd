"""The coordinator that module-level functions act on, and `connect`."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Concatenate, Literal, ParamSpec, TypeVar

import anyio.lowlevel

from tideover import telemetry
from tideover.coordinator.coordinator import Coordinator, life_of, open_coordinators
from tideover.elections.stall_watchdog import OnStall
from tideover.encryption import Encryption
from tideover.environment import ENDPOINTS, Target, read_target, unused_password
from tideover.errors import AmbiguousCoordinator, NotConnected
from tideover.options import Options, Require
from tideover.policies import CachePolicy, Failsafe, Password, RetryPolicy, StalenessLimit, Tls, Transport
from tideover.request_record import current_coordinator, current_record
from tideover.store.protocol import Store

P = ParamSpec("P")
T = TypeVar("T")


def connect(
    *endpoints: str,
    namespace: str | None = None,
    follow: Sequence[str] = ("",),
    discover: Sequence[str] = (),
    cache_dir: str | Path | Literal[False] | None = None,
    profile: str = "safety",
    start_timeout: float = 1.0,
    require: Require | None = None,
    limits: Mapping[str, StalenessLimit] | None = None,
    retry: RetryPolicy | None = None,
    cache: CachePolicy | None = None,
    exclude: Sequence[str] = (),
    record_keys: bool = False,
    tls: Tls | None = None,
    username: str | None = None,
    password: Password | None = None,
    sync_members: bool = True,
    failsafe: Failsafe | None = None,
    on_stall: OnStall = "report",
    encryption: Encryption | None = None,
    bootstrap: str | Path | None = None,
    transport: Transport | None = None,
    store: Store | None = None,
) -> Coordinator:
    """Return a coordinator, to be entered: `async with connect("10.0.0.1:2379") as tide:`.

    Entering returns as soon as the first read is done or etcd is known to be away, at the latest after
    `start_timeout`. With etcd away it starts from the snapshot an earlier process has left on disk.

    Without endpoints they are read from the environment variable `TIDEOVER_ENDPOINTS`, separated by commas, and
    with them what is not given here: `TIDEOVER_NAMESPACE`; `TIDEOVER_CACERT`, `TIDEOVER_CERT`, `TIDEOVER_KEY` and
    `TIDEOVER_SERVER_NAME`; `TIDEOVER_USER` with `TIDEOVER_PASSWORD` or `TIDEOVER_PASSWORD_FILE`;
    `TIDEOVER_SNAPSHOT_KEYS` or `TIDEOVER_SNAPSHOT_KEYS_FILE`, and `TIDEOVER_BOOTSTRAP`. A line at INFO says so.
    Where endpoints are given, no variable is read but `TIDEOVER_TRANSPORT` and those of a proxy, such as
    `http_proxy`, which say nothing of which etcd is meant.

    Args:
        endpoints: The members' `host:port`, or `https://host:port` for TLS; several, so that one of them may be
            dead when the service starts. Each address of a name is a member.
        namespace: The prefix of everything in etcd, letter for letter, such as `"/shop"`: configuration lives
            under `{namespace}/config/`. None means that of the environment, if it gives the endpoints; else none.
        follow: Prefixes of the configuration keys to keep in memory; `("",)` means all.
        discover: Services to follow from the start, such as `["billing"]`: entering waits for their first read
            too, so that the first `tide.discover("billing").pick()` is what etcd says. Others are followed from
            `tide.discover(name)` on.
        cache_dir: The folder for snapshots, and for what locks keep on disk: host locks and the ledger. None means
            the user's cache folder, and the user's state folder for locks; False means no snapshots. Processes
            that are to exclude one another in an outage need the same.
        profile: `"safety"` or `"availability"`: the defaults of locks and leadership in an outage.
        start_timeout: Seconds that entering waits for etcd; a link of 300 ms takes 2 to 4. Reading a snapshot
            from disk, when etcd is away, has its own time.
        require: `"etcd"` raises if etcd is away at the start, `"config"` if there is no configuration at all;
            None starts anyway.
        limits: Prefix to how old its values may be, and what happens beyond that.
        retry: How failed calls are tried again; None means three attempts within 5 s.
        cache: How answers about keys that are not followed are kept; None means for a day, for outages only.
        exclude: Prefixes of configuration keys that must not be written to disk.
        record_keys: Whether spans may name configuration keys.
        tls: How to encrypt, and with which certificates; None means with the system's CAs if the endpoints begin
            with `https://`, else not at all.
        username: The etcd user; None if etcd has no users, or knows this one by the certificate.
        password: The user's password; or a `pathlib.Path`, read in a thread at each login, without the newline at
            its end; or a function that returns it, asked at each login: a plain one in a thread, an async one
            awaited for up to 30 s. So a password that was changed in etcd is used at the next login, without a
            restart. A file or function that gives none is an outage and not a refusal, because etcd could not be
            asked; it is tried again after 1 s at the earliest.
        sync_members: Whether to learn the cluster's other members from etcd and connect to those that answer at
            the address they advertise. False keeps to the endpoints given: for forwarded ports, and where members
            must not be reached directly.
        failsafe: How leaders are confirmed by the other candidates when etcd is away; what `on_outage="peers"`
            needs, and with the profile `"safety"` the default of leadership. None means not at all.
        on_stall: What happens when the event loop is blocked beyond the deadline of something that is led here, so
            that another process may be elected. `"report"`: an error is logged, with the stack of what blocks.
            `"abort"`: it is written to stderr as well, and the process ends by SIGABRT, before another one leads.
        encryption: How snapshots are encrypted on disk; None means not at all. A key that is missing or wrong is a
            start without snapshots: each file that cannot be opened is told of, and none is deleted.
        bootstrap: A file with configuration for a start at which neither etcd nor a snapshot knows a key: a
            snapshot, or a JSON object by key, such as `{"payments/timeout": 0.1}`. Its values are labelled `DISK`
            with an unknown age, which no `max_stale` allows. What etcd or a snapshot knows to be absent is so.
        transport: What calls to etcd go over: `"http2"`, tideover's own HTTP/2, or `"grpc"`, gRPC's library. None
            means that of `TIDEOVER_TRANSPORT`, and else `"http2"`, but `"grpc"` to endpoints that the environment
            names a proxy for (`http_proxy`), which the other one does not know.
        store: A store instead of the real etcd, for tests; replaces the endpoints, and there are no snapshots
            unless `cache_dir` names a folder.

    Returns:
        The coordinator.

    Raises:
        ValueError: An option is out of range or contradicts another; the message names it. No endpoints are given,
            and the environment has none, or a variable is of no use. The bootstrap file is missing or of no use.
        TypeError: An option is of the wrong type.
        ModuleNotFoundError: The environment has keys for snapshots, and `cryptography` is not installed.
        Unavailable: When entering: `require="etcd"` was given and etcd is away.
        AuthenticationFailed: When entering: `require` was given and cannot be met, because etcd refuses this
            client's credentials.
        NotSynced: When entering: `require="config"` was given and there is no configuration.
        OSError: When entering: the failsafe's address cannot be listened at.

    When degraded:
        Entering takes milliseconds if the members refuse connections, and `start_timeout` if they are silent.
    """
    named = endpoints if store is None else tuple(store.members)
    target = Target(named, "" if namespace is None else namespace, tls, username, password, encryption, bootstrap)
    if store is None and not endpoints:
        target = _of_environment(target, namespace)
    options = Options(
        endpoints=target.endpoints,
        namespace=target.namespace,
        follow=follow,
        discover=discover,
        # A fake cluster's values must not meet the next test's on disk unasked.
        cache_dir=False if store is not None and cache_dir is None else cache_dir,
        profile=profile,
        start_timeout=start_timeout,
        require=require,
        limits=limits or {},
        retry=retry or RetryPolicy(),
        cache=cache or CachePolicy(),
        exclude=exclude,
        record_keys=record_keys,
        tls=target.tls,
        username=target.username,
        password=target.password,
        sync_members=sync_members,
        failsafe=failsafe,
        on_stall=on_stall,
        encryption=target.encryption,
        bootstrap=target.bootstrap,
        transport=transport,
    )
    return Coordinator(options, store=store)


def _of_environment(given: Target, namespace: str | None) -> Target:
    target = read_target(os.environ, given, namespace)
    if target is None:
        raise ValueError(f"give at least one endpoint, such as connect('127.0.0.1:2379'), or set {ENDPOINTS}")
    telemetry.environment_read(str(target), unused_password(os.environ) if target.username is None else None)
    return target


def current() -> Coordinator:
    """Return the coordinator that module-level functions act on.

    That is the one in the context, where the middleware puts it; else the only open one of the running event
    loop; where no event loop runs, the only open one of the process.

    Returns:
        The coordinator.

    Raises:
        NotConnected: There is none.
        AmbiguousCoordinator: There are several; the message names them.

    When degraded:
        The same.
    """
    coordinator = _in_context()
    if coordinator is not None:
        return coordinator
    everywhere = found = list(open_coordinators)
    try:
        loop = anyio.lowlevel.current_token()
    except RuntimeError:
        pass
    else:
        found = [coordinator for coordinator in everywhere if life_of(coordinator).loop == loop]
    if len(found) == 1:
        return found[0]
    if found:
        raise AmbiguousCoordinator(
            f"{len(found)} coordinators are open here: {', '.join(map(repr, found))}; use the one you mean"
        )
    elsewhere = f" (in other event loops: {', '.join(map(repr, everywhere))})" if everywhere else ""
    raise NotConnected(
        f"no coordinator is open here{elsewhere}: use `async with connect(...)`, or TideoverMiddleware with a "
        "server that runs the application's lifespan"
    )


def current_for_reads() -> Coordinator:
    """Return the coordinator that synchronous reads act on: like `current`, but of any thread or event loop.

    Raises:
        NotConnected: There is none.
        AmbiguousCoordinator: There are several, and none or several belong here.
    """
    coordinator = _in_context()
    if coordinator is not None:
        return coordinator
    if len(open_coordinators) == 1:
        for coordinator in open_coordinators:
            return coordinator
    return current()


def _in_context() -> Coordinator | None:
    """Return the coordinator that the middleware has put into the context; None if there is none."""
    record = current_record.get()
    coordinator = current_coordinator.get() if record is None else record.coordinator
    if not isinstance(coordinator, Coordinator):
        return None
    if life_of(coordinator).loop is None:
        raise NotConnected(
            f"TideoverMiddleware's {coordinator!r}: the server has not run this application's lifespan, which "
            "opens it, or not through this middleware. Servers can be told to insist (uvicorn --lifespan on); a "
            "test must run the lifespan itself; a mounted application has none, so the middleware belongs on the "
            "outermost one; a framework that gives its middleware no lifespan, such as Litestar, is wrapped "
            "instead: TideoverMiddleware(app, ...); and a stack that is built again while the application runs, "
            "as by uninstrument_app, needs another start"
        )
    return coordinator


def _of_current(
    method: Callable[Concatenate[Coordinator, P], T], find: Callable[[], Coordinator] = current
) -> Callable[P, T]:
    """Return a method as a function of the current coordinator, with its signature and its documentation."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return method(find(), *args, **kwargs)

    signature = inspect.signature(method)
    call.__dict__["__signature__"] = signature.replace(parameters=list(signature.parameters.values())[1:])
    call.__qualname__, call.__module__ = method.__name__, __name__
    words = inspect.getdoc(method) or ""
    call.__doc__ = f"Of the coordinator that `current` returns. {words}".replace(
        "Raises:\n", f"Raises:\n{_NONE_CURRENT}", 1
    )
    return call


_NONE_CURRENT = (
    "    NotConnected: No coordinator is open.\n"
    "    AmbiguousCoordinator: Several are, and none is in the context.\n"
)

lock = _of_current(Coordinator.lock)
"""Return a lock of the coordinator that `current` returns; see `Coordinator.lock`."""
leader = _of_current(Coordinator.leader)
"""Run a body while this process leads, on the coordinator that `current` returns; see `Coordinator.leader`."""
register = _of_current(Coordinator.register)
"""Register an endpoint of a service with the coordinator that `current` returns; see `Coordinator.register`."""
discover = _of_current(Coordinator.discover, current_for_reads)
"""Return the endpoints of a service, of the coordinator that reads act on; see `Coordinator.discover`."""
