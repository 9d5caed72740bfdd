"""What an etcd error means: classified once, by gRPC code and message.

The table is measured against etcd 3.4.23, 3.5.1 and grpc.aio 1.85 (docs/explanation/errors.md). Codes alone do not
do: UNAVAILABLE covers "never sent" as well as "may be applied in ten seconds", and UNKNOWN, INTERNAL and CANCELLED
carry transient cases. grpc itself says UNAUTHENTICATED and PERMISSION_DENIED too, of a certificate or of a proxy's
answer: a no counts as etcd's only in etcd's own words. An unrecognised error counts as an outage whose writes may
have been applied: an unknown is never turned into a no.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tideover import errors
from tideover.shown import shown
from tideover.store.hints import TLS_HINT, hint_of
from tideover.types import Header


class FaultKind(StrEnum):
    """What went wrong."""

    UNREACHABLE = "unreachable"
    CONNECTION_LOST = "connection_lost"
    NO_LEADER = "no_leader"
    LEADER_CHANGED = "leader_changed"
    HANDOVER = "handover"
    TIMED_OUT = "timed_out"
    DEADLINE = "deadline"
    OVERLOADED = "overloaded"
    NOT_SERVING = "not_serving"
    NO_SPACE = "no_space"
    COMPACTED = "compacted"
    FUTURE_REVISION = "future_revision"
    LEASE_NOT_FOUND = "lease_not_found"
    LEASE_EXISTS = "lease_exists"
    AUTH_TOKEN = "auth_token"
    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    INVALID = "invalid"
    CORRUPT = "corrupt"
    OVERFLOW = "overflow"
    PROXY = "proxy"
    # Decided by `epoch.tracker`, not by etcd: the member answers, but for another cluster.
    FOREIGN = "foreign"
    # Decided by `etcd.password`: its file or function gives no password, so that no member could be asked.
    NO_PASSWORD = "no_password"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Fault:
    """One failed attempt.

    Attributes:
        applied: Whether a write may have been applied, then or later.
        way: What lies on the way and may be the reason, such as a proxy; else empty.
    """

    kind: FaultKind
    code: str
    message: str
    retry_read: bool
    applied: bool
    way: str = ""

    @property
    def outage(self) -> bool:
        """Whether etcd is away, rather than that this request or this client is refused."""
        return self.kind in _OUTAGE

    @property
    def brief(self) -> str:
        """The message without grpc's account of its own layers, and a hint where to look."""
        # gRPC's own ping had no answer: the same silence as an unanswered probe's.
        if "ping timeout" in self.message:
            return f"silent{self.hint}"
        text = self.message.rpartition("last error: ")[2].rpartition("remote host: ")[2]
        return f"{shown(_LAYERS.sub('', text), _BRIEF) or self.code}{self.hint}"

    @property
    def hint(self) -> str:
        """Where to look, in brackets; empty where the message says it."""
        hint = hint_of(self.message)
        return f"{hint} ({shown(self.way)})" if self.way else hint

    @property
    def on_the_way(self) -> bool:
        """Whether the network may be the reason: etcd itself has said nothing."""
        return self.kind in _ON_THE_WAY

    @property
    def hung_up(self) -> bool:
        """Whether the server closed the connection at once, as a TLS server does to a client without TLS."""
        text = self.message.lower()
        return "failed to connect to all addresses" in text and text.endswith(": socket closed")

    @property
    def tls(self) -> bool:
        """Whether the two ends could not agree on TLS."""
        return TLS_HINT in self.hint

    def __str__(self) -> str:
        """Return the code, the message, and the hint where to look."""
        return f"{self.code}: {shown(self.message)}{self.hint}"


class StoreFault(errors.TideoverError):
    """Raised when one attempt at one member failed; the gateway turns it into a public error."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


_OUTAGE = frozenset(
    {
        FaultKind.UNREACHABLE,
        FaultKind.CONNECTION_LOST,
        FaultKind.NO_LEADER,
        FaultKind.LEADER_CHANGED,
        FaultKind.TIMED_OUT,
        FaultKind.DEADLINE,
        FaultKind.NOT_SERVING,
        FaultKind.FOREIGN,
        FaultKind.NO_PASSWORD,
        FaultKind.UNKNOWN,
    }
)

_ON_THE_WAY = frozenset({FaultKind.UNREACHABLE, FaultKind.CONNECTION_LOST, FaultKind.DEADLINE, FaultKind.UNKNOWN})

# Characters of a message that are looked at, from its beginning and from its end.
_KEPT = 2000
# Characters of a message where it is one of several.
_BRIEF = 120
# Whose status it was and at which address, and which of OpenSSL's routines found it.
_LAYERS = re.compile(
    r"^(?:UNKNOWN: |UNAVAILABLE: |INTERNAL: )?(?:ipv[46]:\S+: )?"
    r"|(?<=failed )\(TSI_\w+\): SSL_ERROR_\w+: error:\w+:[^:]* routines:OPENSSL_internal:"
)

# (part of "code: message", kind, may a read be retried, may a write have been applied); the first match wins.
_BY_MESSAGE: tuple[tuple[str, FaultKind, bool, bool], ...] = (
    # Ours, of a reply; grpc puts it within "Stream removed (...)", as it does everything it ends by itself.
    ("client: received message larger than max", FaultKind.INVALID, False, True),
    # Our own limit, in whatever words it comes back. etcd's, of 7 s, is the same to a caller: no answer in time.
    ("deadline_exceeded: ", FaultKind.DEADLINE, True, True),
    ("context deadline exceeded", FaultKind.DEADLINE, True, True),
    ("cancelled: stream removed (rst_stream", FaultKind.DEADLINE, True, True),
    # Our grpc's verdict on the certificate of a connection, before anything is sent over it.
    ("does not match ssl server name", FaultKind.UNREACHABLE, True, False),
    # HTTP's own statuses are a proxy's or another server's: etcd has none. 4xx refuses the request as it stands;
    # what has 5xx may have been passed on before.
    ("http2 header with status: 413", FaultKind.INVALID, False, False),
    ("http2 header with status: 4", FaultKind.UNREACHABLE, True, False),
    ("http2 header with status: ", FaultKind.UNREACHABLE, True, True),
    ("failed to connect to all addresses", FaultKind.UNREACHABLE, True, False),
    ("connections to all backends failing", FaultKind.UNREACHABLE, True, False),
    ("name resolution", FaultKind.UNREACHABLE, True, False),
    ("dns resolution failed", FaultKind.UNREACHABLE, True, False),
    ("errors resolving", FaultKind.UNREACHABLE, True, False),
    # A proxy's account of its own connection to a member; what it had sent before is its secret.
    ("error while dialing", FaultKind.UNREACHABLE, True, True),
    ("stream removed", FaultKind.CONNECTION_LOST, True, True),
    ("socket closed", FaultKind.CONNECTION_LOST, True, True),
    ("connection reset", FaultKind.CONNECTION_LOST, True, True),
    ("ping timeout", FaultKind.CONNECTION_LOST, True, True),
    ("keepalive watchdog timeout", FaultKind.CONNECTION_LOST, True, True),
    ("too_many_pings", FaultKind.CONNECTION_LOST, True, True),
    ("etcdserver: no leader", FaultKind.NO_LEADER, True, False),
    ("etcdserver: leader changed", FaultKind.LEADER_CHANGED, True, True),
    ("etcdserver: request timed out", FaultKind.TIMED_OUT, True, True),
    # The leader's own refusal during a transfer of leadership, before anything is in its log; a follower whose
    # proposal the leader drops hears nothing and says "request timed out".
    ("raft proposal dropped", FaultKind.HANDOVER, True, False),
    # Said to a renewal by a former leader, which never decides that a lease has ended.
    ("not a primary lessor", FaultKind.LEADER_CHANGED, True, False),
    ("etcdserver: too many requests", FaultKind.OVERLOADED, True, False),
    ("etcdserver: server stopped", FaultKind.NOT_SERVING, True, True),
    ("raft: stopped", FaultKind.NOT_SERVING, True, True),
    ("etcdserver: not capable", FaultKind.NOT_SERVING, True, True),
    ("etcdserver: unhealthy cluster", FaultKind.NOT_SERVING, True, True),
    ("for learner", FaultKind.NOT_SERVING, True, False),
    ("database space exceeded", FaultKind.NO_SPACE, True, False),
    ("has been compacted", FaultKind.COMPACTED, False, False),
    ("is a future revision", FaultKind.FUTURE_REVISION, True, False),
    ("requested lease not found", FaultKind.LEASE_NOT_FOUND, False, False),
    ("lease already exists", FaultKind.LEASE_EXISTS, False, False),
    ("invalid auth token", FaultKind.AUTH_TOKEN, False, False),
    ("user name is empty", FaultKind.AUTH_TOKEN, False, False),
    ("revision of auth store is old", FaultKind.AUTH_TOKEN, False, False),
    # The same in etcd 3.5.1's words, with the code UNKNOWN.
    ("auth: revision in header is old", FaultKind.AUTH_TOKEN, False, False),
    ("etcdserver: authentication failed", FaultKind.AUTHENTICATION, False, False),
    ("auth: authentication failed", FaultKind.AUTHENTICATION, False, False),
    ("authentication is not enabled", FaultKind.AUTHENTICATION, False, False),
    ("etcdserver: permission denied", FaultKind.PERMISSION, False, False),
    ("auth: permission denied", FaultKind.PERMISSION, False, False),
    ("request is too large", FaultKind.INVALID, False, False),
    ("grpc: received message larger than max", FaultKind.INVALID, False, False),
    # tideover's own: of a watch whose reader is slow, and of what is not done through a proxy.
    ("watch overflow", FaultKind.OVERFLOW, True, False),
    ("is an etcd grpc-proxy", FaultKind.PROXY, False, False),
    ("corrupt cluster", FaultKind.CORRUPT, True, False),
    # An older etcd; one that does not even know the service is none.
    ("unimplemented: unknown method", FaultKind.INVALID, False, False),
)

# A no, if the message is in etcd's own words; else another server or grpc itself has said so.
_REFUSALS = {
    "INVALID_ARGUMENT": FaultKind.INVALID,
    "FAILED_PRECONDITION": FaultKind.INVALID,
    "OUT_OF_RANGE": FaultKind.INVALID,
    "PERMISSION_DENIED": FaultKind.PERMISSION,
    "UNAUTHENTICATED": FaultKind.AUTHENTICATION,
}
_ETCDS_WORDS = "etcdserver: "
_LOST = ("CANCELLED", "INTERNAL")


def classify(code: str, message: str) -> Fault:
    """Return what an error means. An unrecognised one is an outage whose writes may have been applied."""
    if len(message) > 2 * _KEPT:
        # The meaning is at the beginning, or at the end as the last error of several.
        message = f"{message[:_KEPT]} ... {message[-_KEPT:]}"
    text = f"{code}: {message}".lower()
    for part, kind, retry_read, applied in _BY_MESSAGE:
        if part in text:
            return Fault(kind, code, message, retry_read, applied)
    if code in _REFUSALS and _ETCDS_WORDS in text:
        return Fault(_REFUSALS[code], code, message, retry_read=False, applied=False)
    kind = FaultKind.CONNECTION_LOST if code in _LOST else FaultKind.UNKNOWN
    return Fault(kind, code, message, retry_read=True, applied=True)


# What a call is answered with that has no answer when its time is over.
UNANSWERED: Final = classify("DEADLINE_EXCEEDED", "Deadline Exceeded")


def unless_expected(endpoint: str, header: Header, expected: tuple[int, int] | None) -> None:
    """Refuse the answer of another member than the expected cluster's and member's id; None accepts any member."""
    if expected not in (None, (header.cluster_id, header.member_id)):
        text = (
            f"another member answers at {endpoint}: member {header.member_id:x} of cluster {header.cluster_id:x}"
        )
        raise StoreFault(Fault(FaultKind.FOREIGN, "UNAVAILABLE", text, retry_read=True, applied=False))


def is_learner(fault: Fault) -> bool:
    """Whether a member refused because it is a learner."""
    return fault.kind is FaultKind.NOT_SERVING and "for learner" in fault.message.lower()


def is_masked(fault: Fault) -> bool:
    """Whether grpc.aio replaced the reason of a refused stream with its own words, as it sometimes does."""
    return fault.code == "INTERNAL" and "internal error from core" in fault.message.lower()


_ERRORS: dict[FaultKind, type[errors.TideoverError]] = {
    FaultKind.NO_LEADER: errors.NoQuorum,
    FaultKind.LEADER_CHANGED: errors.NoQuorum,
    FaultKind.HANDOVER: errors.NoQuorum,
    FaultKind.TIMED_OUT: errors.NoQuorum,
    FaultKind.DEADLINE: errors.DeadlineExceeded,
    FaultKind.NO_SPACE: errors.SpaceExhausted,
    FaultKind.CORRUPT: errors.DataCorrupt,
    FaultKind.AUTH_TOKEN: errors.AuthenticationFailed,
    FaultKind.AUTHENTICATION: errors.AuthenticationFailed,
    FaultKind.PERMISSION: errors.PermissionDenied,
    FaultKind.PROXY: errors.BehindProxy,
    FaultKind.INVALID: errors.InvalidRequest,
    FaultKind.COMPACTED: errors.InvalidRequest,
    FaultKind.LEASE_NOT_FOUND: errors.InvalidRequest,
    FaultKind.LEASE_EXISTS: errors.InvalidRequest,
}


def public_error(fault: Fault, *, doing: str, writes: bool) -> errors.TideoverError:
    """Return the error a caller sees when a call ends with this fault, after `doing` such as `"put app/config/x"`.

    That is `OutcomeUnknown` for a write that may have been applied; else an `Unavailable` for an outage, or the
    error of a definite no.
    """
    text = f"{doing}: {fault}"
    if writes and fault.applied:
        return errors.OutcomeUnknown(f"{text}; it may have been applied, now or later: read back to know")
    return _ERRORS.get(fault.kind, errors.Unreachable)(text)
