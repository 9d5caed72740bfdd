"""All readers of what others write, each with the one error that it declares.

The tests with hypothesis take them from `READERS`, and so does `nox -s fuzz`.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import h11

from tests.fuzz.command_lines import COMMAND_LINES
from tests.fuzz.http2 import HTTP2
from tests.fuzz.options import NAMES, OPTIONS
from tests.fuzz.reader import Read, Reader, plain
from tests.fuzz.transports import TRANSPORTS
from tests.fuzz.typed import TYPED
from tideover.clock import Stamp
from tideover.discovery import endpoint
from tideover.elections import record_document
from tideover.elections.peers import http, network
from tideover.elections.peers.messages import Keyring, Kind, Message, Rejected
from tideover.encryption import Encryption
from tideover.epoch.rules import EpochMarker, decode_marker
from tideover.errors import RecordCorrupt, SnapshotCorrupt
from tideover.fencing.token import Fence
from tideover.foreign_bytes import Malformed, load_json
from tideover.holders import Holder
from tideover.locks import hold_document, ledger_file
from tideover.locks.rules.overlaps import Hold, overlaps
from tideover.prefixes.bootstrap import read_bootstrap
from tideover.prefixes.rules import progress_is_ordered
from tideover.prefixes.snapshots import sealing, snapshot_format
from tideover.prefixes.snapshots.snapshot import Accepted, Snapshot
from tideover.prefixes.snapshots.snapshot_reading import understand
from tideover.shown import shown
from tideover.store.endpoints import advertised, is_loopback, parse_endpoint
from tideover.types import Entry, LockMode

BEGAN, SEEN = Stamp(1e9, 5.0, "boot"), Stamp(1e9 + 9.0, 14.0, "boot")
HOLD = Hold("a-1", "orders", "a", "host/1", LockMode.LOCAL, 0, BEGAN, None, SEEN)
RECORD = record_document.RecordDocument(
    "a", 3, "peers", 15.0, "w", candidates=("a@h:1",), peer="h:1", limit=60.0, held_by=Holder.now("h:1", 1e9)
)
ENDPOINT = endpoint.Endpoint("http://10.0.0.7:8000", 0.5, {"zone": "a"}, "i", "c", "api", True, "host:1")
MARKER = EpochMarker(7, "h", 1, 1).encode()
MESSAGE = Message(Kind.JOIN, "/elections/a", 1, "l", 2, 3, "n", "p", 4.0, "h:1")
SNAPSHOT = Snapshot(
    b"/config/", 7, 1, 2, 9, BEGAN, SEEN, {b"/config/a": Entry(b"1", 7, 9), b"/config/\xff": Entry(b"\xff", 8, 8)},
    history="h", endpoints=("a:1",), user="u",
)  # fmt: skip
ACCEPTED = replace(SNAPSHOT, accepted=Accepted("shop.Pool", "9f", frozenset(SNAPSHOT.entries)))
SNAPSHOTS = tuple(map(snapshot_format.encode, (SNAPSHOT, ACCEPTED)))
KEY = b"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
KEYS = Encryption(KEY)
SEALED = sealing.seal(SNAPSHOTS[0], sealing.Origin("", "7", 9), KEYS)
RINGS = (Keyring([b"a secret of theirs"]), Keyring([b"a secret of ours..", b"a secret of theirs"]))


def _read_hold(raw: bytes) -> object:
    """Read a hold, and compare it with others."""
    hold = hold_document.decode(raw)
    assert hold_document.decode(hold_document.encode(hold)) == hold
    other = Hold("b-1", hold.name, "b", "host/2", LockMode.LOCAL, 0, BEGAN, SEEN, SEEN)
    return list(overlaps([hold, HOLD, other]))


def _read_record(raw: bytes) -> object:
    """Read a record, write it again, and look at what is shown of it."""
    found = record_document.decode(raw, b"/elections/a")
    assert record_document.decode(found.encode(), b"/elections/a").extra == found.extra
    for address in (found.peer, *found.listed.values()):
        with suppress(network.Silent):
            network.split_address(address)
    return shown(found.holder_shown), found.listed


def _read_endpoint(raw: bytes) -> object:
    found = endpoint.decode("services/api/i/c", raw)
    return found, found.encode(), hash(found)


def _read_endpoint_key(raw: bytes) -> object:
    found = endpoint.decode(raw.decode(errors="backslashreplace"), ENDPOINT.encode())
    assert endpoint.decode(found.key, ENDPOINT.encode()) == found
    return found


def _read_snapshot(raw: bytes) -> object:
    """Read a snapshot whose sum is right, whatever else is wrong with it."""
    with suppress(ValueError, TypeError, LookupError, AttributeError):
        document: Any = load_json(raw)
        document["header"].pop("sha256", None)
        text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        document["header"]["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        raw = json.dumps(document).encode()
    found = snapshot_format.decode(raw, path="here")
    assert snapshot_format.decode(snapshot_format.encode(found), path="there") == found
    return found


@contextmanager
def _bootstrap_file() -> Iterator[Read]:
    """Read a file of an operator's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")

        def read(raw: bytes) -> object:
            path.write_bytes(raw)
            return read_bootstrap(path, base="/config/", encryption=KEYS)

        yield read


@contextmanager
def _ledger_file() -> Iterator[Read]:
    """Read the files of processes that have ended."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "left-over.jsonl")

        def read(raw: bytes) -> object:
            path.write_bytes(raw)
            os.utime(path, (0, 0))
            orphans = ledger_file.Orphans(Path(folder), Path(folder, "own"))
            orphans.read()
            orphans.close()
            assert orphans.odd is None
            assert orphans.holds == ledger_file.read(path)
            return orphans.holds

        yield read


def _read_message(raw: bytes) -> object:
    """Read a message of one who has the secret, and of one who has it not."""
    ours, theirs = RINGS
    with suppress(ValueError, Rejected, TypeError, LookupError):
        found: Any = load_json(raw)
        signed = json.loads(ours.request(Message(**{**found, "kind": Kind(found["kind"])})))
        raw = json.dumps({**found, "mac": signed["mac"]}).encode()
    with suppress(Rejected):
        theirs.read(raw)
    with suppress(Rejected):
        ours.read_reply(raw, MESSAGE)
    return ours.reply(ours.read(raw), "here")


class _Received(anyio.abc.ByteStream):
    """What has come over a connection that is closed then."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        part, self._raw = self._raw[:max_bytes], self._raw[max_bytes:]
        if not part:
            raise anyio.EndOfStream
        return part

    async def send(self, item: bytes) -> None:
        raise AssertionError("nothing is sent")

    async def send_eof(self) -> None:
        raise AssertionError("nothing is sent")

    async def aclose(self) -> None:
        return


def _over_a_wire(converse: Callable[[anyio.abc.ByteStream], Coroutine[Any, Any, object]]) -> Read:
    """Return what reads from a connection; nothing has to be waited for, so that no event loop is needed."""

    def read(raw: bytes) -> object:
        try:
            converse(_Received(raw)).send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("it waits")

    return read


def _handle(body: bytes) -> tuple[int, bytes]:
    assert len(body) <= http.MAX_BODY
    return 200, body


async def _read_response(wire: anyio.abc.ByteStream) -> object:
    peer = http._Peer(h11.CLIENT)
    peer.message(h11.Request(method="POST", target="/", headers=[("Host", "a")]), b"")
    return await http._response(peer, wire)


REQUEST = b"POST /tideover/peers HTTP/1.1\r\nHost: a:1\r\nContent-Length: 2\r\n\r\n{}"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
FENCE = Fence("orders/7 \N{SNOWMAN}", 3, 2**70).to_field().encode()
_text = bytes.decode


def _read_fence(raw: bytes) -> object:
    fence = Fence.from_field(raw.decode("latin-1"))
    assert Fence.from_field(fence.to_field()) == fence
    return fence


def _read_address(raw: bytes) -> object:
    host, port = network.split_address(raw.decode("latin-1"))
    return network.join_address(host, port).encode("ascii")


def _read_endpoint_text(raw: bytes) -> object:
    # The user's own, which an error repeats.
    text = raw[:500].decode(errors="surrogateescape")
    with suppress(ValueError):
        advertised(text, secure=False, here=False)
    return parse_endpoint(text), is_loopback(parse_endpoint(text))


_WIRE = (h11.RemoteProtocolError, anyio.EndOfStream)
READERS = (
    plain("epoch", decode_marker, Malformed, MARKER),
    plain("ledger", _read_hold, Malformed, hold_document.encode(HOLD)),
    plain("record", _read_record, RecordCorrupt, RECORD.encode()),
    plain("registration", _read_endpoint, ValueError, ENDPOINT.encode()),
    plain("registration's key", _read_endpoint_key, ValueError, ENDPOINT.key.encode()),
    plain("snapshot", _read_snapshot, SnapshotCorrupt, *SNAPSHOTS),
    plain("sealed snapshot", lambda raw: understand(raw, KEYS, path="here"), SnapshotCorrupt, SEALED),
    plain("keys", lambda raw: Encryption(raw).ring().names, ValueError, KEY, KEY + b" # a comment\n"),
    Reader(
        "bootstrap", _bootstrap_file, (ValueError,), (SEALED, SNAPSHOTS[0], b'{"payments/timeout": 0.1, "a": [1]}')
    ),
    Reader("ledger file", _ledger_file, (), (hold_document.encode(HOLD) + b"\n" + hold_document.encode(HOLD),)),
    plain("peers' request", _over_a_wire(lambda wire: http._answer(wire, _handle)), anyio.EndOfStream, REQUEST),
    plain("peers' response", _over_a_wire(_read_response), _WIRE, RESPONSE),
    plain("peers' message", _read_message, Rejected, RINGS[0].request(MESSAGE)),
    plain("peers' address", _read_address, network.Silent, b"10.0.0.7:7000", b"[fe80::1%eth0]:7000"),
    plain("fencing header", _read_fence, ValueError, FENCE),
    plain("endpoint", _read_endpoint_text, ValueError, b"http://10.0.0.7:2379", b"[::1]:2379"),
    plain("version", lambda raw: progress_is_ordered(raw.decode("latin-1")), (), b"3.5.21-rc.0"),
    plain("holder", lambda raw: str(Holder.read(raw)).encode(), (), Holder.now("host:7", 1e9).encode()),
    *TYPED,
    *NAMES,
    *OPTIONS,
    *COMMAND_LINES,
    *HTTP2,
    *TRANSPORTS,
)
