"""What `bind` returns: a settings object whose fields are keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeVar, get_args

from tideover import telemetry
from tideover.config.assembly import Assembly
from tideover.config.live import Live, Made
from tideover.config.origins import Acceptance, Newest
from tideover.config.reader import Reader
from tideover.errors import ConfigKeyError, ConfigValueError
from tideover.prefixes.accepted_values import AcceptedValues
from tideover.status import StandIn

T = TypeVar("T")

OnInvalid = Literal["raise", "default", "last_good"]
_INSTEAD: dict[OnInvalid, StandIn] = {"raise": "", "default": "default", "last_good": "accepted"}


class Bound(Live[T]):
    """A settings object kept up to date; see `Live`, and `Config.bind` for the arguments.

    A first object that is refused has no valid predecessor: `on_invalid` says what is served instead.

    Raises:
        ConfigKeyError: A field without a default has no key, and nothing stands in.
        ConfigValueError: The first object is refused, and nothing stands in.
        ValueError: `on_invalid` is none of the three.
    """

    def __init__(
        self,
        assembly: Assembly[T],
        *,
        reader: Reader,
        accepted: AcceptedValues,
        on_invalid: OnInvalid,
    ) -> None:
        if on_invalid not in get_args(OnInvalid):
            raise ValueError(f"on_invalid must be 'raise', 'default' or 'last_good', not {on_invalid!r}")
        self._assembly = assembly
        super().__init__(assembly.name, assembly.prefix, reader=reader)
        self._keys = assembly.keys
        self._on_invalid = on_invalid
        self._instead = _INSTEAD[on_invalid]
        self._newest = Newest(reader, assembly)
        self._acceptance = Acceptance(accepted, reader, assembly)
        if self._begin().refusal is not None:
            what = f"{self._name} at {reader.full_name(self.prefix)!r}"
            telemetry.config_stood_in(what, self._instead, self.revision)

    def _concerns(self, key: str) -> bool:
        if not self._assembly.concerns(key):
            return False
        self._newest.apply_change(key)
        return True

    def _make(self) -> Made[T]:
        try:
            made = self._assembly.make(self._newest)
        except (ConfigValueError, ConfigKeyError) as exc:
            if self._state.valid or self._on_invalid == "raise":
                raise
            return self._stand_in(exc)
        finally:
            self._found = self._newest.found
        if self._on_invalid == "last_good":
            self._acceptance.accept(self._newest)
        return made

    def _stand_in(self, refusal: ConfigValueError | ConfigKeyError) -> Made[T]:
        if self._on_invalid == "default":
            return self._assembly.make(self._newest, defaults=True)
        accepted = self._acceptance.last(self._newest)
        if accepted is None:
            refusal.add_note(f"on_invalid='last_good': {self._acceptance.why_none}")
            raise refusal
        try:
            made = self._assembly.make(accepted)
        except (ConfigValueError, ConfigKeyError) as exc:
            refusal.add_note(f"on_invalid='last_good': what was last accepted is refused now: {exc}")
            raise refusal from None
        return replace(made, refusal=refusal)
