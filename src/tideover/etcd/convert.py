"""From aetcd's protobuf messages to tideover's records. The messages carry no types, hence the `Any`."""

from __future__ import annotations

from typing import Any

from tideover.records import Entry, Header


def header_of(reply: Any) -> Header:
    """Return the header of any etcd reply."""
    header = reply.header
    return Header(header.cluster_id, header.member_id, header.raft_term, header.revision)


def entry_of(kv: Any) -> Entry:
    """Return an etcd key-value pair as an entry."""
    return Entry(kv.value, kv.create_revision, kv.mod_revision)
