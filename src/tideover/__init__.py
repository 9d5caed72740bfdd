"""tideover keeps an async service running while etcd, its coordination service, is away, and says so honestly."""

from tideover.ambient import connect, current
from tideover.configs.binding import Live
from tideover.configs.changes import Changes
from tideover.configs.config import Config
from tideover.coordinator import Coordinator
from tideover.core.ownkey import OwnKey
from tideover.core.session import Session
from tideover.errors import (
    AmbiguousCoordinator,
    AuthenticationFailed,
    BehindProxy,
    CircuitOpen,
    Closed,
    ConfigKeyError,
    ConfigValueError,
    DeadlineExceeded,
    InvalidRequest,
    KeyTaken,
    NoQuorum,
    NotConnected,
    NotFollowed,
    NotSynced,
    OutcomeUnknown,
    PermissionDenied,
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
from tideover.records import Change, Diagnosis, HealthState, Reading, SessionState, Source, Written
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
    "HealthState",
    "InvalidRequest",
    "KeyTaken",
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
    "StatusReport",
    "TideoverError",
    "Tls",
    "TooStale",
    "Unavailable",
    "Unreachable",
    "Written",
    "connect",
    "current",
    "with_config",
]
