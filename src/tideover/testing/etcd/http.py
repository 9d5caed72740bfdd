"""Asks an etcd member for its state, over its plain HTTP side.

An endpoint is "HOST:PORT", or "unix://PATH" for a member that listens on a socket file as well.

The requests are HTTP/1.0 so that no answer comes in chunks: the same few bytes then serve blocking
and async callers, without a thread and without an HTTP library.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import anyio
from anyio.abc import ByteStream

POLL_INTERVAL = 0.03
PROBE_TIMEOUT = 0.5

_UNIX = "unix://"


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """What one member says about itself; `leader` is 0 when it knows none."""

    member_id: int
    leader: int
    term: int

    @property
    def leads(self) -> bool:
        """Whether the member takes itself for the leader."""
        return self.leader != 0 and self.leader == self.member_id


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and which answers to it mean yes."""

    request: bytes
    is_yes: Callable[[bytes], bool]


def answers(endpoint: str, *, timeout: float = PROBE_TIMEOUT) -> bool:
    """Say whether a member accepts connections and answers, with or without a quorum."""
    return _parse(_exchange(endpoint, _request("/version"), timeout)) is not None


def fetch_status(endpoint: str, *, timeout: float = PROBE_TIMEOUT) -> MemberStatus | None:
    """Read a member's status; None when it does not answer."""
    return _as_status(_exchange(endpoint, _STATUS, timeout))


async def fetch_statuses(
    endpoints: Sequence[str], *, timeout: float = PROBE_TIMEOUT
) -> Mapping[str, MemberStatus | None]:
    """Read the status of several members at the same time; None for one that does not answer."""
    raw = await _exchange_all(endpoints, _STATUS, timeout)
    return {endpoint: _as_status(answer) for endpoint, answer in raw.items()}


def wait_until(question: Question, endpoints: Callable[[], Sequence[str]], *, timeout: float) -> None:
    """Block until every member says yes.

    Raises:
        TimeoutError: Some member had not said yes.
    """
    deadline = time.monotonic() + timeout
    while not all(question.is_yes(_exchange(each, question.request, PROBE_TIMEOUT)) for each in endpoints()):
        if time.monotonic() >= deadline:
            raise TimeoutError
        time.sleep(POLL_INTERVAL)


async def until(question: Question, endpoints: Callable[[], Sequence[str]], *, timeout: float) -> None:
    """Wait until every member says yes, without blocking the event loop.

    Raises:
        TimeoutError: Some member had not said yes.
    """
    with anyio.fail_after(timeout):
        while True:
            answered = await _exchange_all(endpoints(), question.request, PROBE_TIMEOUT)
            if all(map(question.is_yes, answered.values())):
                return
            await anyio.sleep(POLL_INTERVAL)


def _request(path: str, body: str | None = None) -> bytes:
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n{body or ''}".encode()


_STATUS = _request("/v3/maintenance/status", "{}")


def _is_complete(answer: bytes) -> bool:
    """Say whether all of an answer with a length is here; the peer port does not close after it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return length is not None and len(body) >= int(length[1])


def _parse(answer: bytes) -> Mapping[str, object] | None:
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ")[1:2] != [b"200"]:
        return None
    try:
        parsed = json.loads(body)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _is_healthy(answer: bytes) -> bool:
    parsed = _parse(answer)
    return parsed is not None and parsed.get("health") == "true"


def _is_read(answer: bytes) -> bool:
    # etcd asks for a login only after the read has waited, and the wait is all that counts here.
    return _parse(answer) is not None or b"user name is empty" in answer


# Does the member report health? That takes a quorum.
HEALTHY = Question(_request("/health"), _is_healthy)
# Has the member applied all that any member has acknowledged? A linearizable read is answered only then.
APPLIED = Question(_request("/v3/kv/range", '{"key": "AA==", "count_only": true}'), _is_read)


def _as_status(answer: bytes) -> MemberStatus | None:
    parsed = _parse(answer)
    header = None if parsed is None else parsed.get("header")
    if parsed is None or not isinstance(header, dict):
        return None
    # protobuf's JSON writes 64-bit numbers as strings and leaves zeros out
    return MemberStatus(
        member_id=int(str(header.get("member_id", 0))),
        leader=int(str(parsed.get("leader", 0))),
        term=int(str(header.get("raft_term", 0))),
    )


def _address(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    return host, int(port)


def _connect(endpoint: str, timeout: float) -> socket.socket:
    if not endpoint.startswith(_UNIX):
        return socket.create_connection(_address(endpoint), timeout=timeout)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(endpoint.removeprefix(_UNIX))
    except BaseException:
        connection.close()
        raise
    return connection


async def _open_stream(endpoint: str) -> ByteStream:
    if endpoint.startswith(_UNIX):
        return await anyio.connect_unix(endpoint.removeprefix(_UNIX))
    host, port = _address(endpoint)
    return await anyio.connect_tcp(host, port)


def _exchange(endpoint: str, request: bytes, timeout: float) -> bytes:
    """Send a request and return the whole answer; empty when there is none in time."""
    answer = b""
    try:
        with _connect(endpoint, timeout) as connection:
            connection.sendall(request)
            while not _is_complete(answer) and (chunk := connection.recv(65536)):
                answer += chunk
    except OSError:
        return b""
    return answer


async def _exchange_all(endpoints: Sequence[str], request: bytes, timeout: float) -> dict[str, bytes]:
    collected = dict.fromkeys(endpoints, b"")

    async def ask(endpoint: str) -> None:
        answer = b""
        with anyio.move_on_after(timeout):
            try:
                async with await _open_stream(endpoint) as stream:
                    await stream.send(request)
                    while not _is_complete(answer):
                        answer += await stream.receive()
            except anyio.EndOfStream:
                pass  # the end of an answer without a length
            except (OSError, anyio.BrokenResourceError):
                return
            collected[endpoint] = answer

    async with anyio.create_task_group() as group:
        for endpoint in endpoints:
            group.start_soon(ask, endpoint)
    return collected
