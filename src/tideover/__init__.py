"""tideover keeps an async service running while etcd, its coordination service, is away, and says so honestly."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

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
    "DataCorrupt",
    "DeadlineExceeded",
    "Diagnosis",
    "Election",
    "ElectionMismatch",
    "Encryption",
    "Endpoint",
    "EndpointChanges",
    "EndpointsUnknown",
    "Failsafe",
    "Guard",
    "HealthChange",
    "HealthChanges",
    "HealthState",
    "Held",
    "InvalidRequest",
    "InvalidValue",
    "Job",
    "JobState",
    "JobStatus",
    "KeyTaken",
    "Leader",
    "LeaderView",
    "Leadership",
    "LeadershipLost",
    "Leading",
    "LeasedKey",
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
    "PermissionDenied",
    "Phase",
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
    "SnapshotSealed",
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
    "WrongLoop",
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

# Each name is imported when it is first asked for. Only at run time is there a `__getattr__`: so typos are found.
if _TYPE_CHECKING:
    from tideover.cluster.health import ClusterHealth, HealthChanges
    from tideover.config.changes import Changes
    from tideover.config.config import Config
    from tideover.config.live import Live
    from tideover.coordinator.coordinator import Coordinator
    from tideover.decorators.injection import with_config
    from tideover.decorators.leading import while_leader
    from tideover.decorators.locking import locked
    from tideover.discovery.endpoint import Endpoint
    from tideover.discovery.service_view import EndpointChanges, ServiceView
    from tideover.elections.election import Election
    from tideover.elections.jobs import Job
    from tideover.elections.leader_view import LeaderView
    from tideover.elections.leadership import Leadership
    from tideover.elections.leading import Leading
    from tideover.elections.term import Term
    from tideover.encryption import Encryption
    from tideover.errors import (
        AmbiguousCoordinator,
        AuthenticationFailed,
        BehindProxy,
        CircuitOpen,
        Closed,
        ConfigKeyError,
        ConfigValueError,
        DataCorrupt,
        DeadlineExceeded,
        ElectionMismatch,
        EndpointsUnknown,
        InvalidRequest,
        InvalidValue,
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
        SnapshotSealed,
        SpaceExhausted,
        TideoverError,
        TooStale,
        Unavailable,
        Unreachable,
        WrongLoop,
    )
    from tideover.fencing.guard import Guard
    from tideover.functions import connect, current, discover, leader, lock, register
    from tideover.locks.lock import Held, Lock
    from tideover.policies import CachePolicy, Failsafe, Profile, RetryPolicy, StalenessLimit, Tls
    from tideover.registration.registered import Registered, RegistrationBlock
    from tideover.registration.registration import Registration
    from tideover.sessions.block import SessionBlock
    from tideover.sessions.key import LeasedKey
    from tideover.sessions.session import Session
    from tideover.status import (
        JobStatus,
        LockConflictStatus,
        LockStatus,
        RegistrationStatus,
        ServiceStatus,
        SessionStatus,
        StatusReport,
    )
    from tideover.types import (
        Change,
        Diagnosis,
        HealthChange,
        HealthState,
        JobState,
        Leader,
        LockMode,
        Phase,
        Reading,
        RegistrationState,
        SessionState,
        Source,
        Standing,
        Written,
    )

    # An old name, kept for one release.
    OwnKey = LeasedKey
else:
    from tideover.public_names import __dir__ as __dir__
    from tideover.public_names import __getattr__ as __getattr__
