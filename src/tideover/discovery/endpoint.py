"""An endpoint of a service, its key in etcd and its value there, which older and newer versions can share.

The key is `{namespace}/services/{name}/{instance}/{incarnation}`. Names and instances are percent-encoded, so a
slash in one divides nothing: "pay" never sees the endpoints of "pay/eu". The *instance* stays the same when a
process is restarted, the *incarnation* is new with each registration: of several keys of one instance the one
created last counts, and a delete names the incarnation, so that no process deletes its successor's key.

An instance that ends marks its value before the key goes: `leaving`, and weight 0 for versions that do not know
that member. Endpoints that vanish without the mark may only be slow, and stay in the list for a while.

The value is a JSON object. Unknown members are ignored. A version that changes the meaning of known members raises
`needs`; older versions then leave the endpoint out instead of misreading it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from tideover.foreign_bytes import Malformed, is_text, load_object
from tideover.shown import quoted, shown

# The newest meaning that this version understands.
FORMAT = 1
# Characters of a malformed value that are shown.
_QUOTED = 80
MAX_WEIGHT = 1_000_000

_FOLDER = "services"
# Not encoded, beside letters, digits and "_.-~": so that `etcdctl get --prefix` shows 10.0.0.7:8000.
_PLAIN = ":@+"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one instance of a service can be reached.

    Attributes:
        url: The address, such as `"http://10.0.0.7:8000"`.
        weight: The share of the traffic, compared with the others' weights. 0 means none: the instance is drained.
        metadata: Further facts about the instance, text to text.
        instance: The name of the instance, the same after a restart of the process.
        incarnation: The name of this registration of the instance, new each time.
        service: The name of the service.
        leaving: Whether the instance is about to end. No list has such endpoints.
        process: The process, for people: `host:pid`; empty if an older version has registered the endpoint.

    Raises:
        TypeError: A field is of the wrong type.
        ValueError: A field is out of range.
    """

    url: str
    weight: float = 1.0
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    instance: str = ""
    incarnation: str = ""
    service: str = ""
    leaving: bool = False
    process: str = ""

    def __post_init__(self) -> None:
        problem = _problem(self.url, self.weight, self.metadata)
        if problem is not None:
            raise problem
        object.__setattr__(self, "weight", float(self.weight))
        object.__setattr__(self, "metadata", dict(self.metadata))

    def encode(self) -> bytes:
        """Return the value that etcd holds."""
        weight = 0.0 if self.leaving else self.weight
        value = {"needs": FORMAT, "url": self.url, "weight": weight, "metadata": dict(self.metadata)}
        if self.leaving:
            value["leaving"] = True
        if self.process:
            value["process"] = self.process
        return json.dumps(value, separators=(",", ":")).encode()

    @property
    def key(self) -> str:
        """The key in etcd, without the namespace."""
        return f"{service_prefix(self.service)}{_segment(self.instance)}/{_segment(self.incarnation)}"


def check_name(name: str, what: str = "a service's name") -> str:
    """Return a name that has a place in a key; raise `TypeError` or `ValueError` for any other."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be text, not {quoted(name)}")
    if not name:
        raise ValueError(f"{what} must not be empty")
    try:
        name.encode()
    except UnicodeEncodeError as exc:
        raise ValueError(f"{what} must be Unicode text, not {quoted(name)}") from exc
    return name


def service_prefix(name: str) -> str:
    """Return the prefix of the keys of a service's endpoints, without the namespace."""
    return f"{_FOLDER}/{_segment(name)}/" if name else f"{_FOLDER}/"


def decode(key: str, raw: bytes) -> Endpoint:
    """Return the endpoint in a key and its value; raise `ValueError` if malformed, or too new for this version."""
    folder, *segments = key.split("/")
    if folder != _FOLDER or len(segments) != 3 or not all(segments):
        raise ValueError(f"'{shown(key)}' is not services/NAME/INSTANCE/INCARNATION")
    try:
        service, instance, incarnation = (unquote(segment, errors="strict") for segment in segments)
    except UnicodeDecodeError:
        raise ValueError(f"'{shown(key)}' is not services/NAME/INSTANCE/INCARNATION") from None
    try:
        found = load_object(raw)
        problem = _document_problem(found)
    except Malformed as exc:
        problem = str(exc)
    if problem:
        raise ValueError(f"'{shown(key)}' cannot be used, because {shown(problem)}: '{shown(raw, _QUOTED)}'")
    process = found.get("process", "")
    return Endpoint(
        found["url"],
        found.get("weight", 1.0),
        found.get("metadata", {}),
        instance,
        incarnation,
        service,
        leaving=found.get("leaving") is True,
        process=process if isinstance(process, str) and is_text(process) else "",
    )


def _segment(name: str) -> str:
    return quote(name, safe=_PLAIN)


def _document_problem(found: Mapping[str, object]) -> str:
    needs = found.get("needs")
    if not isinstance(needs, int) or isinstance(needs, bool):
        return "it says no format ('needs')"
    if needs > FORMAT:
        return f"it needs format {shown(repr(needs))} and this version of tideover knows {FORMAT}"
    problem = _problem(found.get("url"), found.get("weight", 1.0), found.get("metadata", {}))
    return "" if problem is None else str(problem)


def _problem(url: object, weight: object, metadata: object) -> Exception | None:
    if not isinstance(url, str):
        return TypeError(f"url must be text, not {quoted(url)}")
    if not url:
        return ValueError("url must not be empty")
    if not is_text(url):
        return ValueError(f"url must be Unicode text, not {quoted(url)}")
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        return TypeError(f"weight must be a number, not {quoted(weight)}")
    if not 0 <= weight <= MAX_WEIGHT:
        return ValueError(f"weight must be from 0 to {MAX_WEIGHT:,}, not {weight}")
    if not isinstance(metadata, Mapping):
        return TypeError(f"metadata must map text to text, not be {quoted(metadata)}")
    for name, value in metadata.items():
        if not isinstance(name, str) or not isinstance(value, str):
            return TypeError(f"metadata must map text to text, not {quoted(name)} to {quoted(value)}")
        if not is_text(name + value):
            return ValueError(f"metadata must be Unicode text, not {quoted(name)} and {quoted(value)}")
    return None
