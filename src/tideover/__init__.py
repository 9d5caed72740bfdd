"""tideover keeps an async service running while etcd, its coordination service, is away, and says so honestly."""

from tideover.ambient import connect, current, leader, while_leader
from tideover.configs.binding import Live
from tideover.configs.changes import Changes
from tideover.configs.config import Config
from tideover.coordinator import Coordinator
from tideover.elections.leadership import Leadership
from tideover.elections.owner import Election
from tideover.elections.term import Term
from tideover.errors import (
    AmbiguousCoordinator,
    AuthenticationFailed,
    CircuitOpen,
    Closed,
    ConfigKeyError,
    ConfigValueError,
    DeadlineExceeded,
    ElectionMismatch,
    InvalidRequest,
    LeadershipLost,
    NoQuorum,
    NotConnected,
    NotFollowed,
    NotSynced,
    OutcomeUnknown,
    PermissionDenied,
    RecordCorrupt,
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
from tideover.records import Change, Diagnosis, HealthState, Leader, Reading, Source, Standing, Written
from tideover.status import StatusReport

__all__ = [
    "AmbiguousCoordinator",
    "AuthenticationFailed",
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
    "Leader",
    "Leadership",
    "LeadershipLost",
    "Live",
    "NoQuorum",
    "NotConnected",
    "NotFollowed",
    "NotSynced",
    "OutcomeUnknown",
    "PermissionDenied",
    "Profile",
    "Reading",
    "RecordCorrupt",
    "RetryPolicy",
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
