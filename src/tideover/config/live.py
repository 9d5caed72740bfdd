"""A settings object that follows its keys: always the last valid one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Generic, Literal, TypeVar, get_args

from tideover import telemetry
from tideover.config.assembly import Assembly, Made
from tideover.config.origins import Acceptance, LastAccepted, Newest
from tideover.config.reader import Reader
from tideover.errors import ConfigKeyError, ConfigValueError
from tideover.prefixes.accepted_values import AcceptedValues
from tideover.status import RejectedValue, StandIn

T = TypeVar("T")

OnInvalid = Literal["raise", "default", "last_good"]
# What stands in for the newest values.
_INSTEAD: dict[OnInvalid, StandIn] = {"default": "default", "last_good": "accepted"}


class Live(Generic[T]):
    """A settings object kept up to date.

    `value` is always the last object that was valid as a whole: if a change makes one field unreadable, or the
    object's own checks or the validator refuse it, the former object stays and the refusal is reported. The first
    object has no former one: what is served instead of it is for `on_invalid` to say.
    That etcd has none of its keys is reported once: more often than not the prefix is a wrong one.

    Args:
        assembly: What makes the object of its keys.
        reader: Where they are read.
        accepted: What settings objects have accepted before.
        on_invalid: What to do if the first object is refused.

    Raises:
        ConfigKeyError: A field without a default has no key.
        NotSynced: Nothing is known of the prefix.
        ConfigValueError: The first object would not be valid.
        ValueError: `on_invalid` is none of the three.
    """

    def __init__(
        self, assembly: Assembly[T], *, reader: Reader, accepted: AcceptedValues, on_invalid: OnInvalid
    ) -> None:
        if on_invalid not in get_args(OnInvalid):
            raise ValueError(f"on_invalid must be 'raise', 'default' or 'last_good', not {on_invalid!r}")
        self.prefix = assembly.prefix
        self._assembly = assembly
        self._reader = reader
        self._on_invalid = on_invalid
        self._newest = Newest(reader, self._assembly)
        self._acceptance = Acceptance(accepted, reader, self._assembly)
        self._told_unfound = False
        self._rejection: ConfigValueError | ConfigKeyError | None = None
        self._refused: RejectedValue | None = None
        # Whether an object of newest values has been valid.
        self._valid = False
        made = self._make()
        self._take(made, getattr(made.refusal, "revision", 0) or self._newest.revision)
        if made.refusal is not None:
            what = f"{self._assembly.name} at {reader.full_name(self.prefix)!r}"
            telemetry.config_stood_in(what, _INSTEAD[on_invalid], self._revision)

    def __repr__(self) -> str:
        """Show the type, the prefix and whether a newer object was refused."""
        refused = ", newer refused" if self._rejection else ""
        return f"<Live {self._assembly.name} of {self.prefix!r} at revision {self._revision}{refused}>"

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
        self._reader.note_use(self._assembly.keys[0])
        return self._value

    @property
    def revision(self) -> int:
        """The newest revision among the keys of `value`."""
        return self._revision

    @property
    def unfound(self) -> bool:
        """Whether etcd has never had any of the keys, as far as a quorum has told."""
        return self._told_unfound and not self._newest.found

    @property
    def rejection(self) -> ConfigValueError | ConfigKeyError | None:
        """The error that refuses the newest state of the keys; None if `value` shows it."""
        return self._rejection

    @property
    def refused(self) -> RejectedValue | None:
        """The same, as the status shows it."""
        return self._refused

    def take_changes(self, keys: Mapping[str, int]) -> None:
        """Build anew if any of the keys concerns this object.

        Args:
            keys: Changed keys and the revisions of the changes.
        """
        mine = {key: revision for key, revision in keys.items() if self._assembly.concerns(key)}
        if not mine:
            return
        self._newest.note(mine)
        try:
            made = self._make()
        except (ConfigValueError, ConfigKeyError) as exc:
            self._reject(exc, max(mine.values()))
        else:
            self._take(made, max(mine.values()))

    def tell_unfound(self) -> None:
        """Report, once, that a quorum has none of the keys, and had none before."""
        told = self._told_unfound or self._newest.found or not self._valid
        if told or not all(map(self._reader.is_live, self._assembly.keys)):
            return
        self._told_unfound = True
        telemetry.config_unfound(self._reader.full_name(self.prefix), self._assembly.name)

    def _make(self) -> Made[T]:
        """Make an object of the newest values, or one that stands in for it while none of them has been valid.

        Raises:
            ConfigKeyError: A field without a default has no key.
            ConfigValueError: The object is refused.
        """
        try:
            made = self._assembly.make(self._newest)
        except (ConfigValueError, ConfigKeyError) as exc:
            if self._valid or self._on_invalid == "raise":
                raise
            return self._stand_in(exc)
        if self._on_invalid == "last_good":
            self._acceptance.accept(self._newest)
        return made

    def _stand_in(self, refusal: ConfigValueError | ConfigKeyError) -> Made[T]:
        if self._on_invalid == "default":
            return self._assembly.make(self._newest, defaults=True)
        accepted = self._acceptance.last()
        if accepted is None:
            refusal.add_note(f"on_invalid='last_good': {self._acceptance.why_none}")
            raise refusal
        try:
            made = self._assembly.make(LastAccepted(accepted, self._newest, self._reader))
        except (ConfigValueError, ConfigKeyError) as exc:
            refusal.add_note(f"on_invalid='last_good': what was last accepted is refused now: {exc}")
            raise refusal from None
        return replace(made, refusal=refusal)

    def _take(self, made: Made[T], revision: int) -> None:
        self._value, self._revision = made.value, made.revision
        self._valid = made.refusal is None
        if made.refusal is None:
            self._rejection = self._refused = None
        else:
            self._reject(made.refusal, revision)

    def _reject(self, exc: ConfigValueError | ConfigKeyError, revision: int) -> None:
        why = str(exc).removeprefix(f"{self.prefix!r}: ")
        instead = "" if self._valid else _INSTEAD[self._on_invalid]
        self._rejection = exc
        self._refused = RejectedValue(self.prefix, revision, why, served=self._revision, instead=instead)
        telemetry.config_rejected(self.prefix, revision, why)
