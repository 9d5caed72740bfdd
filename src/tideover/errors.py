"""The error tree.

A caller who only asks "is etcd away?" catches `Unavailable`. A definite no (`PermissionDenied`, a key that is
not there) is never an `Unavailable`, and an outage is never reported as a definite no.
"""

from __future__ import annotations

from tideover.shown import shown_line


class TideoverError(Exception):
    """Raised when tideover cannot do what it was asked; the root of all its errors.

    The message is one line of at most 1,000 characters: what others have written is escaped in it, and cut.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(shown_line(arg) if isinstance(arg, str) else arg for arg in args))

    def __reduce__(self) -> tuple[object, ...]:
        """Let an error with details cross to another process: exceptions are rebuilt from `args` alone."""
        return _rebuild, (type(self), self.args), self.__dict__


def _rebuild(kind: type[TideoverError], args: tuple[object, ...]) -> TideoverError:
    error = kind.__new__(kind, *args)
    error.args = args
    return error


class Unavailable(TideoverError):
    """Raised when etcd is away for this call and no other rung of the ladder could answer."""


class Unreachable(Unavailable):
    """Raised when no member could serve the request: cut off, gone or not in service; nothing was written."""


class NoQuorum(Unavailable):
    """Raised when a member answered that the cluster has no leader."""


class DeadlineExceeded(Unavailable):
    """Raised when no answer came before the call's deadline, or etcd's own. For reads: see `OutcomeUnknown`."""


class CircuitOpen(Unavailable):
    """Raised when an outage has been declared; the call was refused without sending a packet.

    Attributes:
        retry_after: Seconds until the next background probe; asking earlier is pointless.
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OutcomeUnknown(TideoverError):
    """Raised when a write was sent and no verdict came back: it may be applied now, later or never.

    Deliberately not an `Unavailable`: reading back is the caller's only way to know, and repeating the write
    blindly may overwrite newer data.
    """


class InvalidRequest(TideoverError, ValueError):
    """Raised when etcd refuses a request as malformed or too large; asking again cannot help.

    Also when a proxy before etcd takes it for too large; the message says so.
    """


class SpaceExhausted(TideoverError):
    """Raised when etcd refuses writes because its database quota is used up; reads still work."""


class DataCorrupt(TideoverError):
    """Raised when etcd refuses writes because it has found that its members' data differ; reads still work."""


class PermissionDenied(TideoverError):
    """Raised when a quorum says that this user may not read or write the key."""


class AuthenticationFailed(TideoverError):
    """Raised when a quorum refuses the credentials."""


class BehindProxy(TideoverError):
    """Raised when something is asked for through an `etcd grpc-proxy` that cannot be trusted there: a lease."""


class ConfigKeyError(TideoverError, KeyError):
    """Raised when a configuration key does not exist and no default was given.

    Attributes:
        key: The key as the caller named it.
        exception: None, as no check has refused anything.
    """

    exception: Exception | None = None

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key

    def __str__(self) -> str:
        """Return the message as written: `KeyError` alone would show its `repr`."""
        return str(self.args[0])


class NotSynced(ConfigKeyError):
    """Raised when the key's prefix has never been read: not from etcd, not from a snapshot.

    Says since when etcd is away, because that is the reason.
    """


class NotFollowed(TideoverError, LookupError):
    """Raised when `get` or `read` is asked for a key outside the followed prefixes; `fetch` is for those.

    Also by `discover`, for a service that is not followed yet and cannot be from here: too many are, or this
    thread does not belong to the coordinator's event loop.
    """


class ConfigValueError(TideoverError, ValueError):
    """Raised when a value cannot be decoded as the type asked for, and no earlier value could be.

    The message never shows the value. What a type's or a user's own check has raised may show it, so that it is
    neither in the message nor the cause.

    Attributes:
        key: The key as the caller named it.
        revision: The revision of the refused value.
        exception: What the check of a type or of a user has raised; None if tideover has refused the value. It
            stays in this process: pickling leaves it out.
    """

    def __init__(self, message: str, *, key: str, revision: int, exception: Exception | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.revision = revision
        self.exception = exception

    def __reduce__(self) -> tuple[object, ...]:
        """Leave out what may show the value, and may not be made for pickling."""
        return _rebuild, (type(self), self.args), {**self.__dict__, "exception": None}


class InvalidValue(TideoverError, ValueError):
    """Raised when a check of the application's own refuses a value: raise it in `__post_init__` or `validate=`.

    Its text is meant for operators: it goes into the log, the event, the status and the error, in one line. Of any
    other exception these show the class only, because its text may quote the value.
    """


class TooStale(TideoverError):
    """Raised when a value is older than its `max_stale` and the limit says `on_stale="raise"`.

    Attributes:
        age: Seconds since the value was last proven in sync; infinite if that is unknown.
        max_stale: The limit in seconds.
    """

    def __init__(self, message: str, *, age: float, max_stale: float) -> None:
        super().__init__(message)
        self.age = age
        self.max_stale = max_stale


class NoEndpoints(TideoverError, LookupError):
    """Raised when a service has no endpoint that could be picked; the message says why.

    By itself it says that the service is known to have none, or none with a weight: a definite no, as of `age`
    seconds ago. Its subclass `EndpointsUnknown` says that nothing is known.

    Attributes:
        service: The service.
        age: Seconds since that was last proven in sync; infinite if it never was.
    """

    def __init__(self, message: str, *, service: str, age: float) -> None:
        super().__init__(message)
        self.service = service
        self.age = age


class EndpointsUnknown(NoEndpoints, Unavailable):
    """Raised when a service's endpoints were never read: not from etcd, not from a snapshot."""


class SessionLost(TideoverError):
    """Raised when what stands under a session may not be believed in any more.

    Attributes:
        definite: Whether that is for good. False while only the deadline has passed and the same session may yet
            come back.
    """

    def __init__(self, message: str, *, definite: bool) -> None:
        super().__init__(message)
        self.definite = definite


class KeyTaken(TideoverError):
    """Raised when a key that a session was to own exists already and does not belong to it.

    Attributes:
        key: The key as the caller named it.
    """

    def __init__(self, message: str, *, key: str) -> None:
        super().__init__(message)
        self.key = key


class LockUnavailable(Unavailable):
    """Raised when an outage is declared and the lock was not asked for with another word than `on_outage="fail"`.

    Also when `on_outage="local"` was asked for and this machine cannot give a local lock.
    """


class LockTimeout(TideoverError, TimeoutError):
    """Raised when a lock could not be had within its `timeout`; the message says what it waited for."""


class LockLost(TideoverError):
    """Raised when a lock is not held any more although its body has not ended."""


class LockConflict(TideoverError):
    """Raised when a LOCAL lock was not to be had from etcd after the outage: another process holds it."""


class NotDistributed(TideoverError):
    """Raised when something is asked of a LOCAL lock that only a DISTRIBUTED one has, such as its fencing
    token."""


class NotConnected(TideoverError, RuntimeError):
    """Raised when a module-level function finds no open coordinator."""


class AmbiguousCoordinator(TideoverError, RuntimeError):
    """Raised when a module-level function finds several open coordinators and none in the context."""


class Closed(TideoverError, RuntimeError):
    """Raised when a coordinator is used before it was entered, after it was left, or in a forked child."""


class WrongLoop(TideoverError, RuntimeError):
    """Raised when something that may wait is called in another event loop than its coordinator's, or in none.

    Nothing has happened then. In a worker thread of the right loop, such as that of a synchronous endpoint,
    `anyio.from_thread.run(function)` runs a coroutine function where it belongs.
    """


class SnapshotCorrupt(TideoverError):
    """Raised when a snapshot file is damaged or not a snapshot at all.

    Attributes:
        path: The file.
    """

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class SnapshotSealed(SnapshotCorrupt):
    """Raised when a snapshot file is encrypted with another key, or is not where only encrypted ones are used.

    It may be whole: the right key would tell.
    """


class LeadershipLost(TideoverError):
    """Raised when a body that runs while leading has outlived its leadership; the message says how it was lost."""


class ElectionMismatch(TideoverError, ValueError):
    """Raised when a candidate asks for another `on_outage` than the election's record says.

    All candidates must agree on it, because each relies on what the others do in an outage.
    """


class RecordCorrupt(TideoverError):
    """Raised when an election's record cannot be read: damaged, foreign, or written by a newer version.

    It is never overwritten: a process that can read it may hold it.

    Attributes:
        key: The record's key in etcd.
    """

    def __init__(self, message: str, *, key: str) -> None:
        super().__init__(message)
        self.key = key
