"""tideover keeps an async service running while etcd, its coordination service, is away, and says so honestly."""

from tideover.ambient import connect, current
from tideover.configs.binding import Live
from tideover.configs.changes import Changes
from tideover.configs.config import Config
from tideover.coordinator import Coordinator
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
    NoQuorum,
    NotConnected,
    NotFollowed,
    NotSynced,
    OutcomeUnknown,
    PermissionDenied,
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
from tideover.records import Change, Diagnosis, HealthState, Reading, Source, Written
from tideover.status import StatusReport

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
    "Live",
    "NoQuorum",
    "NotConnected",
    "NotFollowed",
    "NotSynced",
    "OutcomeUnknown",
    "PermissionDenied",
    "Profile",
    "Reading",
    "RetryPolicy",
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
