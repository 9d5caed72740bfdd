"""How a call ends: gRPC's status codes, and the words for what HTTP/2 says instead of one.

The words are those of grpc's C core, so that an error reads the same on either transport, and `store.faults` knows
it. gRPC's table of HTTP's statuses is `doc/http-grpc-status-mapping.md` of the gRPC project.
"""

from __future__ import annotations

from enum import Enum

from tideover.etcd.http2.frames import ErrorCode
from tideover.etcd.http2.reply_headers import ReplyHeaders


class StatusCode(Enum):
    """gRPC's status codes."""

    OK = "0"
    CANCELLED = "1"
    UNKNOWN = "2"
    INVALID_ARGUMENT = "3"
    DEADLINE_EXCEEDED = "4"
    NOT_FOUND = "5"
    ALREADY_EXISTS = "6"
    PERMISSION_DENIED = "7"
    RESOURCE_EXHAUSTED = "8"
    FAILED_PRECONDITION = "9"
    ABORTED = "10"
    OUT_OF_RANGE = "11"
    UNIMPLEMENTED = "12"
    INTERNAL = "13"
    UNAVAILABLE = "14"
    DATA_LOSS = "15"
    UNAUTHENTICATED = "16"


class Failure(Exception):
    """Raised when a call cannot end well."""

    def __init__(self, code: StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


_CODES = {code.value: code for code in StatusCode}

_BY_HTTP_STATUS = {
    "400": StatusCode.INTERNAL,
    "401": StatusCode.UNAUTHENTICATED,
    "403": StatusCode.PERMISSION_DENIED,
    "404": StatusCode.UNIMPLEMENTED,
    "429": StatusCode.UNAVAILABLE,
    "502": StatusCode.UNAVAILABLE,
    "503": StatusCode.UNAVAILABLE,
    "504": StatusCode.UNAVAILABLE,
}

_BY_RESET: dict[int, StatusCode] = {
    ErrorCode.REFUSED_STREAM: StatusCode.UNAVAILABLE,
    ErrorCode.CANCEL: StatusCode.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: StatusCode.PERMISSION_DENIED,
}


def is_good(headers: ReplyHeaders) -> bool:
    """Whether what begins so may become a reply."""
    return headers.http_status == "200"


def is_interim(headers: ReplyHeaders) -> bool:
    """Whether the true headers are still to come."""
    return len(headers.http_status) == 3 and headers.http_status.startswith("1")


def said_by(headers: ReplyHeaders) -> tuple[StatusCode, str]:
    """Return the status that headers or trailers end a call with."""
    if headers.grpc_status is not None:
        return _CODES.get(headers.grpc_status, StatusCode.UNKNOWN), headers.message
    if headers.http_status not in ("", "200"):
        code = _BY_HTTP_STATUS.get(headers.http_status, StatusCode.UNKNOWN)
        return code, f"Received http2 header with status: {headers.http_status}"
    return StatusCode.UNKNOWN, "No status received"


def reset_by(code: int) -> tuple[StatusCode, str]:
    """Return the status of a call whose stream the peer has reset."""
    text = f"Stream removed (RST_STREAM (Received RST_STREAM with error code {code}))"
    return _BY_RESET.get(code, StatusCode.INTERNAL), text


def going_away(code: int, debug: bytes) -> str:
    """Return the words for a GOAWAY."""
    return f"GOAWAY received; Error code: {code}; Debug Text: {debug[:200].decode('utf-8', 'replace')}"


def never_sent(endpoint: str, why: str, code: StatusCode = StatusCode.UNKNOWN) -> tuple[StatusCode, str]:
    """Return the status of a call that provably did not reach the server.

    `endpoint` is where to, with its family, such as `ipv4:10.0.0.1:2379`.
    """
    text = f"failed to connect to all addresses; last error: {code.name}: {endpoint}: {why}"
    return StatusCode.UNAVAILABLE, text
