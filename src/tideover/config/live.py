"""A settings object that follows its keys: always the last valid one."""

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
    """A settings object, made now.

    Attributes:
        revision: The newest revision among its keys; 0 if it is made of none.
        refusal: Why it is not what the newest values would make; None if it is.
    """

    value: T
    revision: int
    refusal: ConfigValueError | ConfigKeyError | None = None


@dataclass(frozen=True, slots=True)
class _State(Generic[T]):
    """What a settings object shows.

    Attributes:
        rejection: Why it is not what the newest values would make; None if it is.
    """

    made: Made[T] | None = None
    rejection: ConfigValueError | ConfigKeyError | None = None
    refused: RejectedValue | None = None

    @property
    def valid(self) -> bool:
        """Whether the object was what the newest values made when it was made."""
        return self.made is not None and self.made.refusal is None


class Live(Generic[T]):
    """A settings object kept up to date.

    `value` is always the last object that was valid as a whole: if a change makes one field unreadable, or the
    object's own checks or the validator refuse it, the former object stays and the refusal is reported.
    That etcd has none of its keys is reported once: more often than not the prefix is a wrong one.

    A kind of it says which keys there are, and makes the object; it calls `_begin` when it can.
    """

    # What the object stands on as long as none of newest values has been valid.
    _instead: StandIn = ""

    def __init__(self, name: str, prefix: str, *, reader: Reader) -> None:
        self.prefix = prefix
        self._name = name
        self._reader = reader
        self._keys: Sequence[str] = ()
        self._told_unfound = self._found = False
        self._state: _State[T] = _State()
        # What it was before a test laid values over its keys: when they are lifted, as if there had been none.
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
            ConfigKeyError: There is none: it was bound among the values of a test, and etcd's are refused.
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
        """The same, as the status shows it."""
        return self._state.refused

    @property
    def unfound(self) -> bool:
        """Whether etcd has never had any of the keys, as far as a quorum has told."""
        return self._told_unfound and not self._found

    def take_changes(self, keys: Mapping[str, int]) -> None:
        """Build anew if any of the keys concerns this object."""
        mine = {key: revision for key, revision in keys.items() if self._concerns(key)}
        if not mine:
            return
        self._set_apart()
        try:
            made = self._make()
        except (ConfigValueError, ConfigKeyError) as exc:
            self._reject(exc, max(mine.values()))
        else:
            self._take(made, max(mine.values()))

    def tell_unfound(self) -> None:
        """Report, once, that a quorum has none of the keys, and had none before."""
        if (
            self._found
            or self._told_unfound
            or not self._state.valid
            or not all(map(self._reader.is_live, self._keys))
        ):
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
        self._set_apart()
        made = self._make()
        known = self._reader.view_of(self._keys[0]).freshness.reached
        self._take(made, getattr(made.refusal, "revision", 0) or known)
        return made

    def _set_apart(self) -> None:
        """Keep what etcd's values have made as long as a test's lie over them, and go back to it afterwards."""
        laid = any(self._concerns(key) for key in self._reader.overridden)
        if laid and self._beneath is None:
            self._beneath = self._state
        elif not laid and self._beneath is not None:
            self._state, self._beneath = self._beneath, None

    def _take(self, made: Made[T], revision: int) -> None:
        self._state = _State(made)
        if made.refusal is not None:
            self._reject(made.refusal, revision)

    def _reject(self, exc: ConfigValueError | ConfigKeyError, revision: int) -> None:
        why = str(exc).removeprefix(f"{self.prefix!r}: ")
        instead = "" if self._state.valid else self._instead
        refused = RejectedValue(self.prefix, revision, why, served=self.revision, instead=instead)
        self._state = replace(self._state, rejection=exc, refused=refused)
        telemetry.config_rejected(self.prefix, revision, why)
