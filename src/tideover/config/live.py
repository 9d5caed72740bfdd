"""A settings object that follows its keys: always the last valid state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from tideover import telemetry
from tideover.config.reader import Reader
from tideover.errors import ConfigKeyError, ConfigValueError
from tideover.status import RejectedValue, StandIn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Made(Generic[T]):
    """A settings object, as it was made; `revision` is the newest among its keys, 0 if it has none.

    `refusal` is why the object is not made of the newest values; None if it is.
    """

    value: T
    revision: int
    refusal: ConfigValueError | ConfigKeyError | None = None


@dataclass(frozen=True, slots=True)
class _State(Generic[T]):
    """What `Live` shows; `rejection` is the error that refuses the newest values, if there is one."""

    made: Made[T] | None = None
    rejection: ConfigValueError | ConfigKeyError | None = None
    refused: RejectedValue | None = None

    @property
    def valid(self) -> bool:
        """Whether the object was made of the newest values at its time."""
        return self.made is not None and self.made.refusal is None


class Live(Generic[T]):
    """A settings object kept up to date.

    `value` is always the last object that was valid as a whole: if a change makes one field unreadable, or the
    object's own checks or the validator refuse it, the former object stays and the refusal is reported. If etcd
    has none of the keys, that is reported once: the prefix is probably wrong.

    A subclass names the keys, makes the object, and calls `_begin` when it can.
    """

    # What is served until the newest values are valid for the first time.
    _instead: StandIn = ""

    def __init__(self, name: str, prefix: str, *, reader: Reader) -> None:
        self.prefix = prefix
        self._name = name
        self._reader = reader
        self._keys: Sequence[str] = ()
        self._reported_unfound = self._found = False
        self._state: _State[T] = _State()
        # The state before a test overrode its keys, restored when the override is lifted.
        self._beneath: _State[T] | None = None

    def __repr__(self) -> str:
        """Show the type, the prefix and whether a newer object was refused."""
        refused = ", newer refused" if self.rejection else ""
        return f"<Live {self._name} of {self.prefix!r} at revision {self.revision}{refused}>"

    @property
    def value(self) -> T:
        """The last valid object.

        Raises:
            TooStale: The prefix is older than its limit allows, and the limit does not say `"serve"`.
            PermissionDenied: A quorum refuses to let this client read the prefix.
            Closed: The coordinator is not open.
            ConfigKeyError: There is none: the object was bound to a test's values, and etcd's are refused.
            ConfigValueError: The same.

        When degraded:
            The last valid object still, and the request is marked as degraded.
        """
        self._reader.note_use(self._keys[0])
        state = self._state
        if state.made is None:
            assert state.rejection is not None
            raise state.rejection.with_traceback(None)
        return state.made.value

    @property
    def revision(self) -> int:
        """The newest revision among the keys of `value`."""
        made = self._state.made
        return 0 if made is None else made.revision

    @property
    def rejection(self) -> ConfigValueError | ConfigKeyError | None:
        """The error that refuses the newest state of the keys; None if `value` shows it."""
        return self._state.rejection

    @property
    def refused(self) -> RejectedValue | None:
        """The refusal of the newest state, as the status shows it."""
        return self._state.refused

    @property
    def unfound(self) -> bool:
        """Whether etcd has never had any of the keys, according to a quorum."""
        return self._reported_unfound and not self._found

    def apply_changes(self, keys: Mapping[str, int]) -> None:
        """Make the object again if any of the changed keys concerns it."""
        mine = {key: revision for key, revision in keys.items() if self._concerns(key)}
        if not mine:
            return
        self._set_apart()
        try:
            made = self._make()
        except (ConfigValueError, ConfigKeyError) as exc:
            self._reject(exc, max(mine.values()))
        else:
            self._set(made, max(mine.values()))

    def report_unfound(self) -> None:
        """Report once that a quorum has none of the keys, and had none before."""
        if (
            self._found
            or self._reported_unfound
            or not self._state.valid
            or not all(map(self._reader.is_live, self._keys))
        ):
            return
        self._reported_unfound = True
        telemetry.config_unfound(self._reader.full_name(self.prefix), self._name)

    @abstractmethod
    def _concerns(self, key: str) -> bool:
        """Return whether a key's change may change the object."""

    @abstractmethod
    def _make(self) -> Made[T]:
        """Make the object; raise `ConfigKeyError` if a field lacks its key, `ConfigValueError` if refused."""

    def _begin(self) -> Made[T]:
        """Make and return the first object."""
        self._set_apart()
        made = self._make()
        known = self._reader.view_of(self._keys[0]).freshness.reached
        self._set(made, getattr(made.refusal, "revision", 0) or known)
        return made

    def _set_apart(self) -> None:
        """Save the state while a test overrides keys of the object, and restore it afterwards."""
        laid = any(self._concerns(key) for key in self._reader.overridden)
        if laid and self._beneath is None:
            self._beneath = self._state
        elif not laid and self._beneath is not None:
            self._state, self._beneath = self._beneath, None

    def _set(self, made: Made[T], revision: int) -> None:
        self._state = _State(made)
        if made.refusal is not None:
            self._reject(made.refusal, revision)

    def _reject(self, exc: ConfigValueError | ConfigKeyError, revision: int) -> None:
        why = str(exc).removeprefix(f"{self.prefix!r}: ")
        instead = "" if self._state.valid else self._instead
        refused = RejectedValue(self.prefix, revision, why, served=self.revision, instead=instead)
        self._state = replace(self._state, rejection=exc, refused=refused)
        telemetry.config_rejected(self.prefix, revision, why)
