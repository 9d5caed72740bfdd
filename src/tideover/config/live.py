"""A settings object that follows its keys: always the last valid one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tideover import telemetry
from tideover.config.reader import Reader
from tideover.errors import ConfigKeyError, ConfigValueError
from tideover.status import RejectedValue, StandIn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Made(Generic[T]):
    """A settings object, made now.

    Attributes:
        value: The object.
        revision: The newest revision among its keys; 0 if it is made of none.
        refusal: Why it is not what the newest values would make; None if it is.
    """

    value: T
    revision: int
    refusal: ConfigValueError | ConfigKeyError | None = None


class Live(Generic[T]):
    """A settings object kept up to date.

    `value` is always the last object that was valid as a whole: if a change makes one field unreadable, or the
    object's own checks or the validator refuse it, the former object stays and the refusal is reported.
    That etcd has none of its keys is reported once: more often than not the prefix is a wrong one.

    A kind of it says which keys there are, and makes the object; it calls `_begin` when it can.

    Args:
        name: The object's type, for people.
        prefix: The keys' common prefix.
        reader: Where they are read.
    """

    # What the object stands on as long as none of newest values has been valid.
    _instead: StandIn = ""

    def __init__(self, name: str, prefix: str, *, reader: Reader) -> None:
        self.prefix = prefix
        self._name = name
        self._reader = reader
        self._keys: Sequence[str] = ()
        self._told_unfound = self._found = False
        self._valid = False
        self._rejection: ConfigValueError | ConfigKeyError | None = None
        self._refused: RejectedValue | None = None

    def __repr__(self) -> str:
        """Show the type, the prefix and whether a newer object was refused."""
        refused = ", newer refused" if self._rejection else ""
        return f"<Live {self._name} of {self.prefix!r} at revision {self._revision}{refused}>"

    @property
    def value(self) -> T:
        """The last valid object.

        Raises:
            TooStale: The prefix is older than its limit allows, and the limit does not say `"serve"`.
            PermissionDenied: A quorum refuses to let this client read the prefix.
            Closed: The coordinator is not open.

        When degraded:
            The last valid object still, and the request is marked as degraded.
        """
        self._reader.note_use(self._keys[0])
        return self._value

    @property
    def revision(self) -> int:
        """The newest revision among the keys of `value`."""
        return self._revision

    @property
    def rejection(self) -> ConfigValueError | ConfigKeyError | None:
        """The error that refuses the newest state of the keys; None if `value` shows it."""
        return self._rejection

    @property
    def refused(self) -> RejectedValue | None:
        """The same, as the status shows it."""
        return self._refused

    @property
    def unfound(self) -> bool:
        """Whether etcd has never had any of the keys, as far as a quorum has told."""
        return self._told_unfound and not self._found

    def take_changes(self, keys: Mapping[str, int]) -> None:
        """Build anew if any of the keys concerns this object.

        Args:
            keys: Changed keys and the revisions of the changes.
        """
        mine = {key: revision for key, revision in keys.items() if self._concerns(key)}
        if not mine:
            return
        try:
            made = self._make()
        except (ConfigValueError, ConfigKeyError) as exc:
            self._reject(exc, max(mine.values()))
        else:
            self._take(made, max(mine.values()))

    def tell_unfound(self) -> None:
        """Report, once, that a quorum has none of the keys, and had none before."""
        if self._found or self._told_unfound or not self._valid or not all(map(self._reader.is_live, self._keys)):
            return
        self._told_unfound = True
        telemetry.config_unfound(self._reader.full_name(self.prefix), self._name)

    @abstractmethod
    def _concerns(self, key: str) -> bool:
        """Return whether the object may be another if a key changes."""

    @abstractmethod
    def _make(self) -> Made[T]:
        """Make the object.

        Raises:
            ConfigKeyError: Something that it needs has no key.
            ConfigValueError: It is refused.
        """

    def _begin(self) -> Made[T]:
        """Make the first object, and return it."""
        made = self._make()
        known = self._reader.view_of(self._keys[0]).freshness.reached
        self._take(made, getattr(made.refusal, "revision", 0) or known)
        return made

    def _take(self, made: Made[T], revision: int) -> None:
        self._value, self._revision = made.value, made.revision
        self._valid = made.refusal is None
        if made.refusal is None:
            self._rejection = self._refused = None
        else:
            self._reject(made.refusal, revision)

    def _reject(self, exc: ConfigValueError | ConfigKeyError, revision: int) -> None:
        why = str(exc).removeprefix(f"{self.prefix!r}: ")
        instead = "" if self._valid else self._instead
        self._rejection = exc
        self._refused = RejectedValue(self.prefix, revision, why, served=self._revision, instead=instead)
        telemetry.config_rejected(self.prefix, revision, why)
