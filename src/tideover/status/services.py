"""The records of services: what is registered here, and what is followed."""

from __future__ import annotations

from tideover.records import UnknownAge, record
from tideover.status.bounded import BoundedRecord
from tideover.types import RegistrationState, Source


@record
class RegistrationStatus(BoundedRecord):
    """One registration of this process.

    Attributes:
        service: The service.
        instance: The instance.
        incarnation: This registration of it, as at the end of its key in etcd.
        url: Where others reach it.
        weight: Its share of the traffic.
        state: Whether etcd has it.
        seconds: How long etcd has had it, or not.
        comebacks: How often it was registered again after a loss.
        error: Why etcd does not have it, or not as registered; None while all is well.
    """

    service: str
    instance: str
    incarnation: str
    url: str
    weight: float
    state: RegistrationState
    seconds: float
    comebacks: int
    error: str | None


@record
class EndpointStatus(BoundedRecord):
    """One endpoint of a service that is followed here.

    Attributes:
        instance: The instance.
        url: Where it is reached.
        weight: Its share of the traffic.
        use: `"picked"`; `"drained"` if its weight is 0; `"ejected"` if it is not picked for a while, because calls
            to it have failed.
        held: Whether etcd no longer has it: its removal is held back for a while.
        back_in: Seconds until its ejection ends; None if it is not ejected.
    """

    instance: str
    url: str
    weight: float
    use: str
    held: bool
    back_in: float | None


@record
class ServiceStatus(BoundedRecord):
    """One service whose endpoints are followed here.

    Attributes:
        name: The service.
        source: The rung of its list; None if it was never read.
        revision: The revision its content corresponds to.
        age: Seconds since it was last proven in sync; infinite if unknown, and null in JSON.
        endpoints: How many endpoints are listed.
        drained: How many of them have weight 0.
        ejected: How many are not picked for a while, because calls to them have failed.
        held: How many etcd no longer has: their removal is held back for a while.
        refused: What is in etcd and cannot be used, in words.
        error: The last failure to follow it; None while all is well.
        snapshot_error: Why the last snapshot could not be written; None if it could.
        denied: Whether a quorum refuses to let this client read it: `pick` raises, whatever is held.
        listed: The endpoints, up to 100 of them; first those that are not picked.
    """

    name: str
    source: Source | None
    revision: int
    age: UnknownAge | float
    endpoints: int
    drained: int
    ejected: int
    held: int
    refused: tuple[str, ...]
    error: str | None
    snapshot_error: str | None
    denied: bool = False
    listed: tuple[EndpointStatus, ...] = ()
