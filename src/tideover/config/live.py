"""A settings object that follows its keys: always the last valid one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast

from tideover import telemetry
from tideover.codecs import Refusal, asking, construct, fields_of, name_of, record_of
from tideover.config.decoded import decoder_for
from tideover.config.reader import Reader
from tideover.errors import ConfigKeyError, ConfigValueError, NotSynced
from tideover.status import RejectedValue
from tideover.types import Reading

T = TypeVar("T")


class Live(Generic[T]):
    """A settings object kept up to date.

    `value` is always the last object that was valid as a whole: if a change makes one field unreadable, or the
    object's own checks or the validator refuse it, the former object stays and the refusal is reported.
    That etcd has none of its keys is reported once: more often than not the prefix is a wrong one.

    Args:
        form: A dataclass or a `TypedDict`; each field is the key `prefix + name`.
        prefix: The keys' common prefix.
        reader: Where they are read.
        validate: Called with each new object; raising refuses it.

    Attributes:
        unfound: Whether etcd has never had any of the keys, as far as a quorum has told.

    Raises:
        ConfigKeyError: A field without a default has no key.
        NotSynced: Nothing is known of the prefix.
        ConfigValueError: The first object would not be valid.
        TypeError: `form` is neither a dataclass nor a `TypedDict`, or a field's type cannot be decoded.
    """

    def __init__(
        self, form: type[T], prefix: str, *, reader: Reader, validate: Callable[[T], object] | None
    ) -> None:
        self.prefix = prefix
        self._name = name_of(form)
        self._fields = fields_of(form) or ()
        # First what cannot be decoded at all: that says more.
        decoder_for(prefix, form)
        record = record_of(form)
        if record is None or not self._fields:
            raise TypeError(f"bind() needs a dataclass or a TypedDict with fields, or a model, not {form!r}")
        self._record = record
        self._reader = reader
        self._validate = validate
        self.unfound = False
        self._found = False
        self._value, self._revision = self._build()
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
        self._reader.note_use(self.prefix + self._fields[0].name)
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

    def take_changes(self, keys: Mapping[str, int]) -> None:
        """Build anew if any of the keys concerns this object.

        Args:
            keys: Changed keys and the revisions of the changes.
        """
        mine = [revision for key, revision in keys.items() if self._concerns(key)]
        if not mine:
            return
        try:
            self._value, self._revision = self._build()
        except (ConfigValueError, ConfigKeyError) as exc:
            why = str(exc).removeprefix(f"{self.prefix!r}: ")
            self._rejection = exc
            self._refused = RejectedValue(self.prefix, max(mine), why, served=self._revision)
            telemetry.config_rejected(self.prefix, max(mine), why)
        else:
            self._rejection = self._refused = None

    def tell_unfound(self) -> None:
        """Report, once, that a quorum has none of the keys, and had none before."""
        keys = [self.prefix + field.name for field in self._fields]
        if self._found or self.unfound or not all(map(self._reader.is_live, keys)):
            return
        self.unfound = True
        telemetry.config_unfound(self._reader.full_name(self.prefix), self._name)

    def _concerns(self, key: str) -> bool:
        return key.startswith(self.prefix) and any(key == self.prefix + f.name for f in self._fields)

    def _build(self) -> tuple[T, int]:
        readings: dict[str, Reading[Any]] = {}
        for field in self._fields:
            key = self.prefix + field.name
            reading = self._reader.read_quietly(key, field.form)
            if not reading.present:
                if field.required:
                    error = ConfigKeyError if self._reader.synced(key) else NotSynced
                    raise error(key, f"no configuration key {key!r}, which {self._name} needs")
                continue
            self._found, self.unfound = True, False
            readings[field.name] = reading
        revision = max((r.revision for r in readings.values()), default=0)
        try:
            value = self._make({name: reading.value for name, reading in readings.items()})
            if self._validate is not None:
                asking(getattr(self._validate, "__name__", type(self._validate).__name__), self._validate, value)
        except Refusal as exc:
            raise ConfigValueError(
                f"{self.prefix!r}: {exc}", key=self.prefix, revision=revision, exception=exc.exception
            ) from exc
        return value, revision

    def _make(self, fields: dict[str, object]) -> T:
        return cast("T", construct(self._record, fields))
