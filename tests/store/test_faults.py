"""What an etcd error means: the measured table, and that an unknown is never turned into a no."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tideover import errors
from tideover.shown import shown
from tideover.store.faults import (
    Fault,
    FaultKind,
    StoreFault,
    classify,
    public_error,
)
from tideover.store.hints import HTTP_HINT, NO_GRPC_HINT, TLS_HINT, TOO_LARGE_HINT
from tideover.store.protocol import Compacted

K = FaultKind


class Row(NamedTuple):
    """One line of the measured table."""

    code: str
    message: str
    kind: FaultKind
    retry_read: bool
    applied: bool
    error: type[errors.TideoverError]
    hint: str = ""


# What each measured error means: kind, may a read be retried, may a write have been applied, public error, hint.
MEASURED: dict[tuple[FaultKind, bool, bool, type[errors.TideoverError], str], list[tuple[str, str]]] = {
    (K.PROXY, False, False, errors.BehindProxy, ""): [
        (
            "FAILED_PRECONDITION",
            "127.0.0.1:1 is an etcd grpc-proxy, through which a lease cannot be trusted: give the endpoints "
            "of the members themselves",
        ),
    ],
    (K.UNREACHABLE, True, False, errors.Unreachable, ""): [
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect "
            "to remote host: Connection refused",
        ),
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed",
        ),
        (
            "UNAVAILABLE",
            "errors resolving no.invalid:2379: [field:hostname lookup error:address lookup failed for "
            "no.invalid: Domain name not found]",
        ),
        ("UNAVAILABLE", "DNS resolution failed for no.invalid"),
        # Silence until our own patience with the handshake ended: no matter of TLS.
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Handshake read "
            "failed (Endpoint closing)",
        ),
    ],
    (K.UNREACHABLE, True, False, errors.Unreachable, TLS_HINT): [
        (
            "UNAVAILABLE",
            "connections to all backends failing; last error: UNKNOWN: ipv4:127.0.0.1:1: Tls handshake failed",
        ),
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Handshake read "
            "failed (Socket closed)",
        ),
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Unwrap failed "
            "(TSI_DATA_CORRUPTED)",
        ),
        ("UNAUTHENTICATED", "call host does not match SSL server name"),
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Cannot check peer: "
            "missing selected ALPN property.",
        ),
    ],
    (K.CONNECTION_LOST, True, True, errors.Unreachable, ""): [
        ("UNAVAILABLE", "Stream removed (Socket closed)"),
        ("UNAVAILABLE", "Stream removed (recvmsg:Connection reset by peer (104))"),
        ("UNAVAILABLE", "Stream removed (recvmsg:Connection timed out (110))"),
        (
            "UNAVAILABLE",
            "Stream removed (Socket closed (GOAWAY received; Error code: 11; Debug Text: too_many_pings))",
        ),
        ("UNAVAILABLE", "Stream removed (ping timeout)"),
        ("UNAVAILABLE", "GOAWAY received: too_many_pings"),
        # The same words, of a stream that nginx has ended.
        ("INTERNAL", "Stream removed (RST_STREAM (Received RST_STREAM with error code 1))"),
        ("INTERNAL", "Internal error from Core"),
        ("CANCELLED", "Locally cancelled by application!"),
        ("CANCELLED", "Channel closed!"),
    ],
    (K.NO_LEADER, True, False, errors.NoQuorum, ""): [
        ("UNAVAILABLE", "etcdserver: no leader"),
    ],
    (K.LEADER_CHANGED, True, True, errors.NoQuorum, ""): [
        ("UNAVAILABLE", "etcdserver: leader changed"),
    ],
    (K.TIMED_OUT, True, True, errors.NoQuorum, ""): [
        ("UNAVAILABLE", "etcdserver: request timed out"),
        ("UNAVAILABLE", "etcdserver: request timed out, possibly due to previous leader failure"),
        ("UNKNOWN", "etcdserver: request timed out"),
        ("UNAVAILABLE", "etcdserver: request timed out, possibly due to connection lost"),
    ],
    (K.HANDOVER, True, False, errors.NoQuorum, ""): [
        ("UNKNOWN", "raft proposal dropped"),
    ],
    (K.NOT_SERVING, True, True, errors.Unreachable, ""): [
        ("UNKNOWN", "raft: stopped"),
        ("UNAVAILABLE", "etcdserver: server stopped"),
        ("UNAVAILABLE", "etcdserver: not capable"),
        ("UNAVAILABLE", "etcdserver: unhealthy cluster"),
    ],
    (K.UNREACHABLE, True, True, errors.Unreachable, ""): [
        (
            "UNAVAILABLE",
            'last connection error: connection error: desc = "transport: Error while dialing dial tcp '
            '127.0.0.1:1: connect: connection refused"',
        ),
    ],
    (K.UNKNOWN, True, True, errors.Unreachable, ""): [
        ("UNKNOWN", "context canceled"),
        # etcd's codes, not in etcd's words.
        ("UNIMPLEMENTED", "Method not found!"),
        ("UNIMPLEMENTED", "unknown service etcdserverpb.KV"),
        ("PERMISSION_DENIED", "RBAC: access denied"),
        ("UNAUTHENTICATED", "Jwt is missing"),
        ("INVALID_ARGUMENT", "no such route"),
        ("UNKNOWN", "something nobody has seen"),
        ("ABORTED", ""),
        ("UNAVAILABLE", ""),
        ("UNAVAILABLE", "upstream connect error"),
    ],
    (K.DEADLINE, True, True, errors.DeadlineExceeded, ""): [
        ("UNKNOWN", "context deadline exceeded"),
        ("DEADLINE_EXCEEDED", "context deadline exceeded"),
        ("DEADLINE_EXCEEDED", "Stream removed (RST_STREAM (Received RST_STREAM with error code 8))"),
        ("CANCELLED", "Stream removed (RST_STREAM (Received RST_STREAM with error code 8))"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded"),
        ("DEADLINE_EXCEEDED", "Stream removed (Deadline Exceeded)"),
    ],
    (K.NOT_SERVING, True, False, errors.Unreachable, ""): [
        ("UNAVAILABLE", "etcdserver: rpc not supported for learner"),
    ],
    (K.OVERLOADED, True, False, errors.Unreachable, ""): [
        ("RESOURCE_EXHAUSTED", "etcdserver: too many requests"),
        ("UNKNOWN", "etcdserver: too many requests"),
    ],
    (K.AUTH_TOKEN, False, False, errors.AuthenticationFailed, ""): [
        ("UNAUTHENTICATED", "etcdserver: invalid auth token"),
        ("INVALID_ARGUMENT", "etcdserver: user name is empty"),
        ("INVALID_ARGUMENT", "etcdserver: revision of auth store is old"),
        ("UNKNOWN", "auth: revision in header is old"),
    ],
    (K.AUTHENTICATION, False, False, errors.AuthenticationFailed, ""): [
        ("INVALID_ARGUMENT", "etcdserver: authentication failed, invalid user ID or password"),
        ("UNKNOWN", "auth: authentication failed, password was given for no password user"),
    ],
    (K.PERMISSION, False, False, errors.PermissionDenied, ""): [
        ("PERMISSION_DENIED", "etcdserver: permission denied"),
        ("UNKNOWN", "etcdserver: permission denied"),
        ("UNKNOWN", "auth: permission denied"),
    ],
    (K.INVALID, False, False, errors.InvalidRequest, ""): [
        ("INVALID_ARGUMENT", "etcdserver: key is not provided"),
        ("INVALID_ARGUMENT", "etcdserver: too many operations in txn request"),
        ("INVALID_ARGUMENT", "etcdserver: request is too large"),
        ("RESOURCE_EXHAUSTED", "grpc: received message larger than max (2200008 vs. 2097152)"),
        ("OUT_OF_RANGE", "etcdserver: too large lease TTL"),
        ("UNIMPLEMENTED", "unknown method AuthStatus for service etcdserverpb.Auth"),
    ],
    (K.INVALID, False, True, errors.InvalidRequest, ""): [
        (
            "RESOURCE_EXHAUSTED",
            "Stream removed (CLIENT: Received message larger than max (5000000 vs. 4194304))",
        ),
    ],
    (K.NO_SPACE, True, False, errors.SpaceExhausted, " (etcd's database quota is used up)"): [
        ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded"),
    ],
    (K.LEASE_NOT_FOUND, False, False, errors.InvalidRequest, ""): [
        ("NOT_FOUND", "etcdserver: requested lease not found"),
    ],
    (K.LEASE_EXISTS, False, False, errors.InvalidRequest, ""): [
        ("FAILED_PRECONDITION", "etcdserver: lease already exists"),
    ],
    (K.COMPACTED, False, False, errors.InvalidRequest, ""): [
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted"),
    ],
    (K.FUTURE_REVISION, True, False, errors.Unreachable, ""): [
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision"),
    ],
    (K.CORRUPT, True, False, errors.DataCorrupt, " (etcd has found that its members' data differ)"): [
        ("DATA_LOSS", "etcdserver: corrupt cluster"),
    ],
    (K.LEADER_CHANGED, True, False, errors.NoQuorum, ""): [
        ("UNKNOWN", "not a primary lessor"),
    ],
    (K.UNREACHABLE, True, False, errors.Unreachable, NO_GRPC_HINT): [
        (
            "UNAVAILABLE",
            "failed to connect to all addresses; last error: INTERNAL: ipv4:127.0.0.1:1: Failed parsing "
            "HTTP/2 (Expected SETTINGS frame as the first frame, got frame type 80)",
        ),
    ],
    (K.UNREACHABLE, True, True, errors.Unreachable, HTTP_HINT): [
        ("UNKNOWN", "Received http2 header with status: 301"),
        ("UNKNOWN", "Received http2 header with status: 500"),
        ("UNAVAILABLE", "Received http2 header with status: 502"),
        ("UNAVAILABLE", "Received http2 header with status: 504"),
    ],
    (K.UNREACHABLE, True, False, errors.Unreachable, HTTP_HINT): [
        ("INTERNAL", "Received http2 header with status: 400"),
        ("UNAUTHENTICATED", "Received http2 header with status: 401"),
        ("PERMISSION_DENIED", "Received http2 header with status: 403"),
        ("UNIMPLEMENTED", "Received http2 header with status: 404"),
        ("UNAVAILABLE", "Received http2 header with status: 429"),
    ],
    (K.INVALID, False, False, errors.InvalidRequest, TOO_LARGE_HINT): [
        ("UNKNOWN", "Received http2 header with status: 413"),
    ],
}
TABLE = [Row(code, message, *meaning) for meaning, said in MEASURED.items() for code, message in said]
IDS = [f"{row.code} {row.message[:40]}" for row in TABLE]

rows = pytest.mark.parametrize("row", TABLE, ids=IDS)
faults = st.builds(
    Fault,
    kind=st.sampled_from(FaultKind),
    code=st.text(max_size=10),
    message=st.text(max_size=10),
    retry_read=st.booleans(),
    applied=st.booleans(),
)
DEFINITE = (
    errors.PermissionDenied,
    errors.AuthenticationFailed,
    errors.InvalidRequest,
    errors.SpaceExhausted,
    errors.DataCorrupt,
)


@rows
def test_the_table(row: Row) -> None:
    """Each measured error has its meaning: kind, whether a read may be retried, whether a write may be applied."""
    fault = classify(row.code, row.message)
    assert (fault.kind, fault.retry_read, fault.applied) == (row.kind, row.retry_read, row.applied)
    assert (fault.code, fault.message) == (row.code, row.message)


@rows
def test_a_reader_sees_the_public_error(row: Row) -> None:
    """A read that ends with the fault raises exactly this error, naming the attempt and etcd's own words."""
    error = public_error(classify(row.code, row.message), doing="read app/x", writes=False)
    assert type(error) is row.error
    assert str(error) == f"read app/x: {row.code}: {row.message}{row.hint}"


@rows
def test_a_writer_learns_whether_it_may_be_applied(row: Row) -> None:
    """A write that may have been applied ends as OutcomeUnknown, every other one as the reader's error."""
    error = public_error(classify(row.code, row.message), doing="put app/x", writes=True)
    assert type(error) is (errors.OutcomeUnknown if row.applied else row.error)
    if row.applied:
        assert "read back" in str(error)


@rows
def test_letters_of_either_case_mean_the_same(row: Row) -> None:
    """Messages are matched without regard to case: grpc and etcd do not agree on it."""
    fault = classify(row.code, row.message.upper())
    assert (fault.kind, fault.applied) == (row.kind, row.applied)


@settings(deadline=None)
@given(st.text(max_size=30), st.text(max_size=60))
def test_whatever_comes_is_classified(code: str, message: str) -> None:
    """No code and no message makes the classification fail; the words are kept, and escaped where shown."""
    fault = classify(code, message)
    assert fault.message == message
    assert str(fault).startswith(f"{code}: {shown(message)}")
    assert isinstance(public_error(fault, doing="x", writes=True), errors.TideoverError)


@settings(deadline=None)
@given(
    st.sampled_from(["UNAVAILABLE", "UNKNOWN", "ABORTED", "INTERNAL", "CANCELLED", "DATA_LOSS", "NEW_CODE"]),
    st.text("abcxyz :", max_size=30),
)
def test_an_unknown_error_is_an_outage_that_may_have_been_applied(code: str, message: str) -> None:
    """What nobody has seen before counts as an outage; a write of it has an unknown outcome, never a no."""
    fault = classify(code, message)
    assert fault.outage
    assert fault.applied
    assert fault.retry_read
    assert isinstance(public_error(fault, doing="x", writes=False), errors.Unavailable)
    assert isinstance(public_error(fault, doing="x", writes=True), errors.OutcomeUnknown)


@settings(deadline=None)
@given(faults, st.booleans())
def test_an_outage_is_never_reported_as_a_no(fault: Fault, writes: bool) -> None:
    """An outage is an Unavailable or an unknown outcome; a definite no is never an Unavailable."""
    error = public_error(fault, doing="x", writes=writes)
    if fault.outage:
        assert isinstance(error, errors.Unavailable | errors.OutcomeUnknown)
    assert not (isinstance(error, DEFINITE) and isinstance(error, errors.Unavailable))
    assert isinstance(error, errors.OutcomeUnknown) is (writes and fault.applied)


@pytest.mark.parametrize(
    "kind",
    [
        K.PERMISSION,
        K.AUTHENTICATION,
        K.AUTH_TOKEN,
        K.INVALID,
        K.COMPACTED,
        K.LEASE_NOT_FOUND,
        K.NO_SPACE,
        K.CORRUPT,
    ],
)
def test_a_definite_no_is_no_outage(kind: FaultKind) -> None:
    """What concerns this request or this client says nothing about etcd being away."""
    fault = Fault(kind, "CODE", "words", retry_read=False, applied=False)
    assert not fault.outage
    assert isinstance(public_error(fault, doing="x", writes=True), DEFINITE)


@settings(deadline=None)
@given(
    st.sampled_from(
        ["PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"]
    ),
    st.text("abcxyz :", max_size=30),
)
def test_a_no_is_etcds_in_etcds_words_only(code: str, message: str) -> None:
    """The same code is a definite no where etcd says it, and an outage where grpc or a proxy does."""
    assert classify(code, message).outage
    no = classify(code, f"etcdserver: {message}")
    assert not no.outage
    assert not no.applied
    assert isinstance(public_error(no, doing="x", writes=True), DEFINITE)


def test_a_ping_without_an_answer_is_silence() -> None:
    """Whether a probe or gRPC's own ping found that nobody answers, the operator reads the same word."""
    assert classify("UNAVAILABLE", "Stream removed (ping timeout)").brief == "silent"


def test_what_openssl_found_is_in_the_brief() -> None:
    """The short form for the status leaves out whose routines they were, and keeps what was wrong."""
    said = (
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Tls handshake failed "
        "(TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:"
        "CERTIFICATE_VERIFY_FAILED: certificate has expired: OK"
    )
    brief = classify("UNAVAILABLE", said).brief
    assert brief == f"Tls handshake failed CERTIFICATE_VERIFY_FAILED: certificate has expired: OK{TLS_HINT}"


def test_the_routines_that_found_it_are_left_out_whatever_their_name() -> None:
    """A certificate signed by another CA of the same name fails in another part of OpenSSL."""
    said = (
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Tls handshake failed "
        "(TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1a000064:ECDSA routines:OPENSSL_internal:"
        "BAD_SIGNATURE: certificate signature failure: OK"
    )
    brief = classify("UNAVAILABLE", said).brief
    assert brief == f"Tls handshake failed BAD_SIGNATURE: certificate signature failure: OK{TLS_HINT}"


@pytest.mark.parametrize(
    ("said", "hung_up"),
    [
        ("failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed", True),
        ("failed to connect to all addresses; last error: UNKNOWN: ipv4:1.2.3.4:1: Connection refused", False),
        ("Stream removed (Socket closed)", False),
        ("Socket closed", False),
    ],
)
def test_a_connection_that_is_closed_before_a_word_is_told_from_one_that_breaks(said: str, hung_up: bool) -> None:
    """Only the first may mean that TLS is spoken there."""
    assert classify("UNAVAILABLE", said).hung_up is hung_up


def test_a_store_fault_carries_its_meaning() -> None:
    """The exception shows the code and the words, and hands on the fault; Compacted names the oldest revision."""
    fault = classify("UNAVAILABLE", "etcdserver: no leader")
    assert str(StoreFault(fault)) == "UNAVAILABLE: etcdserver: no leader"
    assert StoreFault(fault).fault is fault
    assert (Compacted(17).revision, Compacted(17).fault.kind) == (17, K.COMPACTED)
