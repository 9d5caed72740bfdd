"""Header blocks of replies, read once for each block that is new.

`SETTINGS_HEADER_TABLE_SIZE` is 0, so that a block means the same wherever it stands: the one of a good reply is
the same for each, and is looked up by its bytes. The `hpack` library reads those that were not seen before.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from hpack import Decoder, HPACKError

from tideover.etcd.http2.frames import Broken, ErrorCode

# Bytes of a block, as it is sent and as it is meant.
MAX_BLOCK = 65_536
# How many are remembered, and how long one may be for that.
_REMEMBERED = 128
_SHORT = 1_024


@dataclass(frozen=True, slots=True)
class ReplyHeaders:
    """What matters of a reply's headers or trailers.

    `http_status` is empty in trailers; `grpc_status` is the text as received, None if there is none; `message` is
    gRPC's words about the status.
    """

    http_status: str
    grpc_status: str | None
    message: str


class HeaderReader:
    """Reads the header blocks of a connection."""

    def __init__(self) -> None:
        self._known: dict[bytes, ReplyHeaders] = {}

    def read(self, block: bytes) -> ReplyHeaders:
        """Return what a block says; raise `Broken` if it is no header block, or too large a one."""
        found = self._known.get(block)
        if found is None:
            found = parse_block(block)
            if len(block) <= _SHORT:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[block] = found
        return found


def parse_block(block: bytes) -> ReplyHeaders:
    """Read a block by itself; raise `Broken` if it is no header block, or too large a one."""
    decoder = Decoder(max_header_list_size=MAX_BLOCK)
    decoder.header_table_size = decoder.max_allowed_table_size = 0
    try:
        pairs = dict(decoder.decode(block, raw=True))
    except (HPACKError, UnicodeError) as exc:
        raise Broken(f"header block: {exc}", ErrorCode.COMPRESSION_ERROR) from None
    status = pairs.get(b"grpc-status")
    return ReplyHeaders(
        _text(pairs.get(b":status", b"")),
        None if status is None else _text(status),
        # A message that is not UTF-8 behind its escapes is shown all the same.
        unquote_to_bytes(pairs.get(b"grpc-message", b"")).decode("utf-8", "replace"),
    )


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace")
