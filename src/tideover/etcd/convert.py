"""From aetcd's protobuf messages to tideover's records. The messages carry no types, hence the `Any`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tideover.types import Entry, Header


def header_of(reply: Any) -> Header:
    """Return the header of any etcd reply."""
    header = reply.header
    return Header(header.cluster_id, header.member_id, header.raft_term, header.revision)


def alarms_of(errors: Iterable[str]) -> frozenset[str]:
    """Return the alarms among the errors in a member's status, "memberID:8211 alarm:NOSPACE " and the like."""
    return frozenset(alarm for error in errors for alarm in re.findall(r"\balarm:(\w+)", error))


def entry_of(kv: Any) -> Entry:
    """Return an etcd key-value pair as an entry."""
    return Entry(kv.value, kv.create_revision, kv.mod_revision)
