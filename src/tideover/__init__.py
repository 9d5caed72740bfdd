"""tideover keeps an async service running while etcd, its coordination service, is away, and says so honestly."""

from tideover.ambient import connect, current, discover, leader, lock, register, while_leader
from tideover.configs.binding import Live
from tideover.configs.changes import Changes
from tideover.configs.config import Config
from tideover.coordinator import Coordinator
from tideover.core.fence import Guard
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
    EndpointsUnknown,
    InvalidRequest,
    KeyTaken,
    LeadershipLost,
    LockConflict,
    LockLost,
    LockTimeout,
    LockUnavailable,
    NoEndpoints,
    NoQuorum,
    NotConnected,
    NotDistributed,
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
from tideover.locking import locked
from tideover.locks.held import Held
from tideover.locks.lock import Lock
from tideover.policies import CachePolicy, Failsafe, Profile, RetryPolicy, StalenessLimit, Tls
from tideover.records import (
    Change,
    Diagnosis,
    HealthState,
    Leader,
    LockMode,
    Reading,
    RegistrationState,
    SessionState,
    Source,
    Standing,
    Written,
)
from tideover.registry.endpoint import Endpoint
from tideover.registry.registered import Registered, RegistrationBlock
from tideover.registry.registration import Registration
from tideover.registry.view import EndpointChanges, ServiceView
from tideover.sessions import SessionBlock
from tideover.status import (
    LockConflictStatus,
    LockStatus,
    RegistrationStatus,
    ServiceStatus,
    SessionStatus,
    StatusReport,
)

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
    "Endpoint",
    "EndpointChanges",
    "EndpointsUnknown",
    "Failsafe",
    "Guard",
    "HealthState",
    "Held",
    "InvalidRequest",
    "KeyTaken",
    "Leader",
    "Leadership",
    "LeadershipLost",
    "Live",
    "Lock",
    "LockConflict",
    "LockConflictStatus",
    "LockLost",
    "LockMode",
    "LockStatus",
    "LockTimeout",
    "LockUnavailable",
    "NoEndpoints",
    "NoQuorum",
    "NotConnected",
    "NotDistributed",
    "NotFollowed",
    "NotSynced",
    "OutcomeUnknown",
    "OwnKey",
    "PermissionDenied",
    "Profile",
    "Reading",
    "RecordCorrupt",
    "Registered",
    "Registration",
    "RegistrationBlock",
    "RegistrationState",
    "RegistrationStatus",
    "RetryPolicy",
    "ServiceStatus",
    "ServiceView",
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
    "discover",
    "leader",
    "lock",
    "locked",
    "register",
    "while_leader",
    "with_config",
]
