"""Where the public names of the package are: each is imported when it is first asked for (PEP 562).

`import tideover` so takes a millisecond, and what a service never mentions is loaded only if a part of it that the
service uses needs it.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.util import find_spec

_MODULES = {
    "cluster.health": "ClusterHealth HealthChanges",
    "config.changes": "Changes",
    "config.config": "Config",
    "config.live": "Live",
    "coordinator.coordinator": "Coordinator",
    "decorators.injection": "with_config",
    "decorators.leading": "while_leader",
    "decorators.locking": "locked",
    "discovery.endpoint": "Endpoint",
    "discovery.service_view": "EndpointChanges ServiceView",
    "elections.election": "Election",
    "elections.jobs": "Job",
    "elections.leader_view": "LeaderView",
    "elections.leadership": "Leadership",
    "elections.leading": "Leading",
    "elections.term": "Term",
    "encryption": "Encryption",
    "errors": (
        "AmbiguousCoordinator AuthenticationFailed BehindProxy CircuitOpen Closed ConfigKeyError "
        "ConfigValueError DataCorrupt DeadlineExceeded ElectionMismatch EndpointsUnknown InvalidRequest "
        "InvalidValue KeyTaken LeadershipLost LockConflict LockLost LockTimeout LockUnavailable NoEndpoints "
        "NoQuorum NotConnected NotDistributed NotFollowed NotSynced OutcomeUnknown PermissionDenied "
        "RecordCorrupt SessionLost SnapshotCorrupt SnapshotSealed SpaceExhausted TideoverError TooStale "
        "Unavailable Unreachable WrongLoop"
    ),
    "fencing.guard": "Guard",
    "functions": "connect current discover leader lock register",
    "locks.lock": "Held Lock",
    "policies": "CachePolicy Failsafe Profile RetryPolicy StalenessLimit Tls",
    "registration.registered": "Registered RegistrationBlock",
    "registration.registration": "Registration",
    "sessions.block": "SessionBlock",
    "sessions.key": "LeasedKey",
    "sessions.session": "Session",
    "status": (
        "JobStatus LockConflictStatus LockStatus RegistrationStatus ServiceStatus SessionStatus StatusReport"
    ),
    "types": (
        "Change Diagnosis HealthChange HealthState JobState Leader LockMode Phase Reading RegistrationState "
        "SessionState Source Standing Written"
    ),
}
_WHERE = {name: f"tideover.{module}" for module, names in _MODULES.items() for name in names.split()}

# Names that were changed: the old ones work for one release, with a warning.
_FORMER = {"OwnKey": "LeasedKey"}


def __getattr__(name: str) -> object:
    """Import what a name of the package stands for, or its module of that name.

    Raises:
        AttributeError: There is neither.
    """
    package = sys.modules["tideover"]
    if (module := _WHERE.get(name)) is not None:
        found: object = getattr(import_module(module), name)
        # From now on the name is found without a call.
        setattr(package, name, found)
        return found
    if (now := _FORMER.get(name)) is not None:
        warnings.warn(f"tideover.{name} is now tideover.{now}", DeprecationWarning, stacklevel=2)
        return getattr(package, now)
    if name.isidentifier() and not name.startswith("_") and find_spec(f"tideover.{name}") is not None:
        return import_module(f"tideover.{name}")
    raise AttributeError(f"module 'tideover' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name what is there and what can be imported."""
    return sorted({*vars(sys.modules["tideover"]), *_WHERE})
