"""The records of `tide.status()`, a module for each noun: frozen, ready to print or to send as JSON.

Only data lives here, and how a duration is written for people. `coordinator.status_report` gathers the data.
"""

from tideover.status.bounded import LONGEST, MOST
from tideover.status.cluster import IdentityStatus, MemberStatus, QuorumStatus
from tideover.status.config import KeyPage, KeyStatus, LimitStatus, PrefixStatus, RejectedValue, StandIn
from tideover.status.held import (
    ElectionStatus,
    JobStatus,
    LockConflictStatus,
    LockStatus,
    LockWaitStatus,
    SessionStatus,
    StallStatus,
)
from tideover.status.history import HistoryStatus, LeaderChangeStatus, OutageStatus, TransitionStatus
from tideover.status.primitives import NoteStatus, PrimitiveStatus
from tideover.status.process import ProcessStatus, SnapshotStatus
from tideover.status.report import StatusReport
from tideover.status.services import EndpointStatus, RegistrationStatus, ServiceStatus
from tideover.status.statements import Statement, duration

__all__ = [
    "LONGEST",
    "MOST",
    "ElectionStatus",
    "EndpointStatus",
    "HistoryStatus",
    "IdentityStatus",
    "JobStatus",
    "KeyPage",
    "KeyStatus",
    "LeaderChangeStatus",
    "LimitStatus",
    "LockConflictStatus",
    "LockStatus",
    "LockWaitStatus",
    "MemberStatus",
    "NoteStatus",
    "OutageStatus",
    "PrefixStatus",
    "PrimitiveStatus",
    "ProcessStatus",
    "QuorumStatus",
    "RegistrationStatus",
    "RejectedValue",
    "ServiceStatus",
    "SessionStatus",
    "SnapshotStatus",
    "StallStatus",
    "StandIn",
    "Statement",
    "StatusReport",
    "TransitionStatus",
    "duration",
]
