"""From an operation to etcd's request, and from etcd's reply to the answer: one attempt at one member."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar, cast

from tideover.etcd.channel import MemberChannel, answer, translated
from tideover.etcd.connection import GIVEN_UP, Connection
from tideover.etcd.messages import rpc
from tideover.store.faults import StoreFault
from tideover.store.leases import Attachments, AttachmentsResult, LeaseGrant, LeaseRevoke, LeaseTimeToLive
from tideover.store.operations import (
    AlarmList,
    AlarmListResult,
    Delete,
    LeaseResult,
    MemberList,
    MemberListResult,
    Op,
    Put,
    Range,
    RangeResult,
    ReadBatch,
    ReadBatchResult,
    Result,
    Sort,
    Status,
    StatusResult,
    WriteResult,
)
from tideover.store.transactions import Compare, Step, Txn, TxnResult
from tideover.types import ClusterMember, Entry, Header

R = TypeVar("R", bound=Result)
Metadata = tuple[tuple[str, str], ...]

# Refused within 20 ms instead of hanging for 7 s when the member has no leader. Not for serializable reads: it
# would refuse the very reads that still work.
HAS_LEADER: Metadata = (("hasleader", "true"),)


async def send(
    op: Op[R], channel: MemberChannel, timeout: float, metadata: Metadata, *, over: Connection | None = None
) -> R:
    """Make one attempt, over the urgent connection if none is given.

    Raises `StoreFault` if the attempt failed, `TypeError` if the operation is not known.
    """
    with translated():
        return cast("R", await _send(op, channel, timeout, metadata, over or channel.urgent))


async def _send(
    op: Op[Any], channel: MemberChannel, timeout: float, metadata: Metadata, over: Connection
) -> Result:
    if over.given_up:
        raise StoreFault(GIVEN_UP)
    match op:
        case Range() | ReadBatch() | Attachments():
            return await _read(op, channel, timeout, metadata, over)
        case Txn():
            return await _transact(op, channel, timeout, metadata, over)
        case Put():
            putting = over.kv.Put(_put_request(op), timeout=timeout, metadata=(*HAS_LEADER, *metadata))
            return WriteResult(header_of(await answer(putting)))
        case Delete():
            deleting = over.kv.DeleteRange(_delete_request(op), timeout=timeout, metadata=(*HAS_LEADER, *metadata))
            reply = await answer(deleting)
            return WriteResult(header_of(reply), reply.deleted)
        case LeaseGrant() | LeaseRevoke() | LeaseTimeToLive():
            return await _lease(op, over.lease, timeout, (*HAS_LEADER, *metadata))
        case Status() | AlarmList() | MemberList():
            return await _member(op, channel, timeout, metadata)
        case _:
            raise TypeError(f"EtcdStore does not know the operation {op!r}")


async def _read(
    op: Range | ReadBatch | Attachments,
    channel: MemberChannel,
    timeout: float,
    metadata: Metadata,
    over: Connection,
) -> Result:
    quorum = (*HAS_LEADER, *metadata)
    match op:
        case Range():
            sent = metadata if op.serializable else quorum
            reply = await answer(over.kv.Range(_range_request(op), timeout=timeout, metadata=sent))
            return _range_result(reply, header_of(reply))
        case ReadBatch(keys):
            reply = await _read_only(_batch_request(keys), channel, timeout, quorum, over)
            found = {kv.key: entry_of(kv) for one in reply.responses for kv in one.response_range.kvs}
            return ReadBatchResult(header_of(reply), found)
        # With the keys' values: etcd 3.7 answers a read of keys alone without their leases.
        case Attachments(keys, neighbours=True):
            between = rpc.RangeRequest(key=min(keys), range_end=max(keys) + b"\0")
            reply = await answer(over.kv.Range(between, timeout=timeout, metadata=quorum))
            asked = frozenset(keys)
            held = {kv.key: (kv.create_revision, kv.lease) for kv in reply.kvs if kv.key in asked}
            return AttachmentsResult(header_of(reply), held)
        case Attachments(keys):
            reply = await _read_only(_batch_request(keys), channel, timeout, quorum, over)
            kvs = (kv for one in reply.responses for kv in one.response_range.kvs)
            return AttachmentsResult(header_of(reply), {kv.key: (kv.create_revision, kv.lease) for kv in kvs})


async def _transact(
    op: Txn, channel: MemberChannel, timeout: float, metadata: Metadata, over: Connection
) -> TxnResult:
    quorum, request = (*HAS_LEADER, *metadata), _txn_request(op)
    if op.writes:
        return _txn_result(await answer(over.kv.Txn(request, timeout=timeout, metadata=quorum)))
    return _txn_result(await _read_only(request, channel, timeout, quorum, over))


async def _read_only(
    request: Any, channel: MemberChannel, timeout: float, metadata: Metadata, over: Connection
) -> Any:
    """Return the reply to a transaction that only reads.

    It gets no deadline and is not cancelled: etcd before 3.5.5 takes a failing read within for a bug of its own,
    and exits (etcd #14110).
    """

    def ask() -> Any:
        # It may have waited for its turn.
        if over.given_up:
            raise StoreFault(GIVEN_UP)
        return over.kv.Txn(request, metadata=metadata)

    return await channel.answer_or_leave(over, ask, timeout)


async def _lease(
    op: LeaseGrant | LeaseRevoke | LeaseTimeToLive, lease: Any, timeout: float, metadata: Metadata
) -> LeaseResult:
    match op:
        case LeaseGrant(ttl, lease_id):
            granting = rpc.LeaseGrantRequest(TTL=ttl, ID=lease_id)
            reply = await answer(lease.LeaseGrant(granting, timeout=timeout, metadata=metadata))
            return LeaseResult(header_of(reply), reply.ID, reply.TTL, reply.TTL)
        case LeaseRevoke(lease_id):
            revoking = rpc.LeaseRevokeRequest(ID=lease_id)
            reply = await answer(lease.LeaseRevoke(revoking, timeout=timeout, metadata=metadata))
            return LeaseResult(header_of(reply), lease_id, 0)
        case LeaseTimeToLive(lease_id, keys):
            asking = rpc.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
            reply = await answer(lease.LeaseTimeToLive(asking, timeout=timeout, metadata=metadata))
            return LeaseResult(header_of(reply), reply.ID, reply.TTL, reply.grantedTTL, tuple(reply.keys))


async def _member(
    op: Status | AlarmList | MemberList, channel: MemberChannel, timeout: float, metadata: Metadata
) -> Result:
    match op:
        case Status():
            reply = await answer(
                channel.maintenance.Status(rpc.StatusRequest(), timeout=timeout, metadata=metadata)
            )
            return StatusResult(header_of(reply), reply.version, alarms_of(reply.errors))
        case AlarmList():
            listing, quorum = rpc.AlarmRequest(action=rpc.AlarmRequest.GET), (*HAS_LEADER, *metadata)
            reply = await answer(channel.maintenance.Alarm(listing, timeout=timeout, metadata=quorum))
            return AlarmListResult(header_of(reply), frozenset(rpc.AlarmType.Name(a.alarm) for a in reply.alarms))
        case MemberList():
            ask = channel.cluster.MemberList
            reply = await answer(ask(rpc.MemberListRequest(), timeout=timeout, metadata=metadata))
            members = tuple(ClusterMember(m.ID, m.name, tuple(m.clientURLs), m.isLearner) for m in reply.members)
            return MemberListResult(header_of(reply), members)


def _batch_request(keys: Sequence[bytes]) -> Any:
    request = rpc.TxnRequest()
    # Filled in place: a quarter of what it takes to make each part by itself.
    add = request.success.add
    for key in keys:
        add().request_range.key = key
    return request


def _put_request(op: Put) -> Any:
    return rpc.PutRequest(key=op.key, value=op.value, lease=op.lease)


def _delete_request(op: Delete) -> Any:
    return rpc.DeleteRangeRequest(key=op.key, range_end=op.end or b"")


def _txn_request(op: Txn) -> Any:
    request = rpc.TxnRequest()
    for condition in op.compares:
        _add_compares(request.compare.add, condition)
    for step in op.then:
        _fill(request.success.add(), step)
    for step in op.otherwise:
        _fill(request.failure.add(), step)
    return request


def _add_compares(add: Callable[..., Any], condition: Compare) -> None:
    """Add etcd's conditions, each of which compares one thing."""
    key = condition.key
    if condition.create_revision is not None:
        add(key=key, target=rpc.Compare.CREATE, create_revision=condition.create_revision)
    if condition.mod_revision is not None:
        add(key=key, target=rpc.Compare.MOD, mod_revision=condition.mod_revision)
    if condition.lease is not None:
        add(key=key, target=rpc.Compare.LEASE, lease=condition.lease)
    if condition.value is not None:
        add(key=key, target=rpc.Compare.VALUE, value=condition.value)


def _fill(part: Any, step: Step) -> None:
    """Fill in one step of a transaction."""
    match step:
        case Put():
            part.request_put.CopyFrom(_put_request(step))
        case Delete():
            part.request_delete_range.CopyFrom(_delete_request(step))
        case Range():
            part.request_range.CopyFrom(_range_request(step))


def _txn_result(reply: Any) -> TxnResult:
    header = header_of(reply)
    return TxnResult(header, reply.succeeded, tuple(_step_result(part, header) for part in reply.responses))


def _step_result(part: Any, header: Header) -> RangeResult | WriteResult:
    kind = part.WhichOneof("response")
    if kind == "response_range":
        return _range_result(part.response_range, header)
    return WriteResult(header, part.response_delete_range.deleted if kind == "response_delete_range" else 0)


_SORTS: dict[Sort, dict[str, str]] = {
    Sort.KEY: {},
    Sort.OLDEST: {"sort_target": "CREATE", "sort_order": "ASCEND"},
    Sort.NEWEST: {"sort_target": "CREATE", "sort_order": "DESCEND"},
}


# Readers ask for the same again and again. A message that is sent is never changed.
@lru_cache(maxsize=512)
def _range_request(op: Range) -> Any:
    return rpc.RangeRequest(
        key=op.key,
        range_end=op.end or b"",
        serializable=op.serializable,
        limit=op.limit,
        revision=op.revision,
        keys_only=op.keys_only,
        min_mod_revision=op.changed_since,
        max_create_revision=op.created_until,
        **_SORTS[op.sort],
    )


def _range_result(reply: Any, header: Header) -> RangeResult:
    entries = {kv.key: entry_of(kv) for kv in reply.kvs}
    return RangeResult(header, entries, reply.more, reply.count)


# From etcd's messages to tideover's records. The messages carry no types, hence the `Any`.


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
