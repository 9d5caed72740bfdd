"""tideover keeps an async service running while etcd, its coordination service, is away, and says so honestly."""

from tideover.ambient import connect, current, leader, while_leader
from tideover.configs.binding import Live
from tideover.configs.changes import Changes
from tideover.configs.config import Config
from tideover.coordinator import Coordinator
from tideover.core.ownkey import OwnKey
from tideover.core.session import Session
from tideover.elections.leadership import Leadership
from tideover.elections.owner import Election
from tideover.elections.term import Term
from tideover.errors import (
    AmbiguousCoordinator,
    AuthenticationFailed,
    BehindProxy,
    CircuitOpen,
    Closed,
    ConfigKeyError,
    ConfigValueError,
    DeadlineExceeded,
    ElectionMismatch,
    InvalidRequest,
    KeyTaken,
    LeadershipLost,
    NoQuorum,
    NotConnected,
    NotFollowed,
    NotSynced,
    OutcomeUnknown,
    PermissionDenied,
    RecordCorrupt,
    SessionLost,
    SnapshotCorrupt,
    SpaceExhausted,
    TideoverError,
    TooStale,
    Unavailable,
    Unreachable,
)
from tideover.health import ClusterHealth
from tideover.injection import with_config
from tideover.policies import CachePolicy, Profile, RetryPolicy, StalenessLimit, Tls
from tideover.records import (
    Change,
    Diagnosis,
    HealthState,
    Leader,
    Reading,
    SessionState,
    Source,
    Standing,
    Written,
)
from tideover.sessions import SessionBlock
from tideover.status import SessionStatus, StatusReport

__all__ = [
    "AmbiguousCoordinator",
    "AuthenticationFailed",
    "BehindProxy",
    "CachePolicy",
    "Change",
    "Changes",
    "CircuitOpen",
    "Closed",
    "ClusterHealth",
    "Config",
    "ConfigKeyError",
    "ConfigValueError",
    "Coordinator",
    "DeadlineExceeded",
    "Diagnosis",
    "Election",
    "ElectionMismatch",
    "HealthState",
    "InvalidRequest",
    "KeyTaken",
    "Leader",
    "Leadership",
    "LeadershipLost",
    "Live",
    "NoQuorum",
    "NotConnected",
    "NotFollowed",
    "NotSynced",
    "OutcomeUnknown",
    "OwnKey",
    "PermissionDenied",
    "Profile",
    "Reading",
    "RecordCorrupt",
    "RetryPolicy",
    "Session",
    "SessionBlock",
    "SessionLost",
    "SessionState",
    "SessionStatus",
    "SnapshotCorrupt",
    "Source",
    "SpaceExhausted",
    "StalenessLimit",
    "Standing",
    "StatusReport",
    "Term",
    "TideoverError",
    "Tls",
    "TooStale",
    "Unavailable",
    "Unreachable",
    "Written",
    "connect",
    "current",
    "leader",
    "while_leader",
    "with_config",
]
