"""The provider: a flag is a key of the configuration, evaluated from memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent
from openfeature.exception import (
    FlagNotFoundError,
    GeneralError,
    OpenFeatureError,
    ParseError,
    ProviderNotReadyError,
)
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata

from tideover import telemetry
from tideover.config.keys import settings_prefix
from tideover.contrib.openfeature import flags
from tideover.contrib.openfeature.announcer import Announcer, Condition, Emit
from tideover.coordinator.coordinator import Coordinator, life_of
from tideover.errors import Closed, ConfigKeyError, InvalidRequest, NotFollowed, NotSynced, TideoverError, TooStale
from tideover.foreign_bytes import is_text
from tideover.prefixes.view import View
from tideover.shown import shown, shown_line
from tideover.status import duration
from tideover.types import Diagnosis, HealthState, Phase, Source

if TYPE_CHECKING:
    from openfeature.flag_evaluation import FlagValueType

T = TypeVar("T")

# Looking a member of an enumeration up takes a while, and flags are evaluated often.
_LIVE, _STATIC = Source.LIVE, Reason.STATIC


@dataclass(frozen=True, slots=True)
class _Known:
    """A flag as it was read: parsed once per revision, and without a view for a test's override."""

    raw: bytes
    flag: flags.Flag
    version: str
    view: View | None


class TideoverProvider(AbstractProvider):
    """A provider for OpenFeature whose flags are keys of the configuration.

        tide = connect("127.0.0.1:2379", namespace="/shop")
        api.set_provider(TideoverProvider(tide))
        client = api.get_client()
        client.get_boolean_value("new-checkout", False)  # the key flags/new-checkout

    A key holds JSON: the value itself, or, if it is an object with the member `variants`, named values and which
    of them is served, `{"variants": {"on": true, "off": false}, "default": "on"}`; with `"disabled": true` it is
    the caller's default. The context of an evaluation is not looked at, and tracking events are dropped.

    Any thread may evaluate, and nothing waits: a client's synchronous and asynchronous methods do the same.
    Objects and lists are shared by all evaluations: do not change one that you are given.

    Args:
        coordinator: Whose configuration; it may be entered later, and closed before OpenFeature is shut down.
        prefix: What the flags' keys begin with; behind a letter or digit the slash is added.

    Raises:
        TypeError: `coordinator` is no coordinator, or the prefix no string.
        NotFollowed: The coordinator does not follow the prefix.
        InvalidRequest: The prefix begins with a slash.

    When degraded:
        The last known values, with the reason STALE; the provider's status is STALE. It is ERROR before the
        coordinator is entered, after it is closed, while nothing is known of the flags, and while etcd refuses
        this client. It is never FATAL: OpenFeature would ask no more, and memory still knows.
    """

    def __init__(self, coordinator: Coordinator, *, prefix: str = "flags/") -> None:
        super().__init__()
        if not isinstance(coordinator, Coordinator):
            raise TypeError(f"coordinator must be what connect() returns, not {coordinator!r}")
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a string, not {prefix!r}")
        self._tide = coordinator
        self._prefix = settings_prefix(prefix)
        coordinator.config.check_prefix(self._prefix)
        self._namespace = coordinator.namespace
        self._metadata = Metadata("tideover")
        self._known: dict[str, _Known] = {}
        self._announcer = Announcer(self, self._condition)
        life_of(coordinator).parts.listeners.append(self)

    def __repr__(self) -> str:
        return f"<TideoverProvider of {self._prefix!r} in {self._tide!r}>"

    def get_metadata(self) -> Metadata:
        """Return the provider's name; the SDK calls this."""
        return self._metadata

    def attach(self, on_emit: Emit) -> None:
        """Set where events go; the SDK calls this."""
        super().attach(on_emit)
        self._announcer.attach(on_emit)

    def detach(self) -> None:
        """Drop all later events; the SDK calls this."""
        self._announcer.attach(None)
        super().detach()

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Start to report changes of the flags; the SDK calls this, in a thread of its own.

        Raises:
            ProviderNotReadyError: The coordinator has not been entered or is closed, nothing is known of the
                flags, or etcd refuses this client. As soon as that has changed, the status does, by itself.
        """
        condition = self._announcer.initialize()
        if condition.event is ProviderEvent.PROVIDER_ERROR:
            raise ProviderNotReadyError(condition.message)

    def _condition(self) -> Condition:
        """Return the flags' state; in any thread."""
        tide, health = self._tide, self._tide.health
        if tide.phase in (Phase.NEW, Phase.STARTING):
            return _error("new", "the coordinator has not been entered")
        try:
            views = tide.config.views_under(self._prefix)
        except Closed as exc:
            return _error("closed", exc)
        denied = next((view.denied for view in views if view.denied is not None), None)
        if denied is not None:
            return _error("denied", denied)
        if health.diagnosis is Diagnosis.UNAUTHORIZED and health.state is not HealthState.AVAILABLE:
            return _error("unauthorized", health.sentence, answers=all(view.synced for view in views))
        if not all(view.synced for view in views):
            return _error("unknown", f"nothing is known of the flags: {health.sentence}")
        if all(view.source is _LIVE for view in views):
            return Condition(ProviderEvent.PROVIDER_READY)
        why = health.sentence
        if health.state is HealthState.AVAILABLE:
            why = f"the flags were last proven in sync {duration(max(view.age for view in views))} ago"
        return Condition(ProviderEvent.PROVIDER_STALE, message=shown_line(why))

    def changed(self, keys: Collection[str]) -> None:
        """Report the changed flags; the configuration calls this."""
        mine = (key.removeprefix(self._prefix) for key in keys if key.startswith(self._prefix))
        changed = [key for key in mine if key and is_text(key)]
        for key in changed:
            self._known.pop(key, None)
        if changed:
            self._announcer.changed(changed)

    def refreshed(self) -> None:
        """Report the flags' state, if it has changed; the configuration calls this."""
        self._announcer.report()

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """Evaluate a boolean flag; the SDK calls this."""
        return self._resolve(flag_key, default_value, flags.boolean)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """Evaluate a string flag; the SDK calls this."""
        return self._resolve(flag_key, default_value, flags.string)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """Evaluate an integer flag; the SDK calls this."""
        return self._resolve(flag_key, default_value, flags.integer)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """Evaluate a float flag; the SDK calls this."""
        return self._resolve(flag_key, default_value, flags.floating)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """Evaluate an object flag; the SDK calls this."""
        return self._resolve(flag_key, default_value, flags.structure)

    def _resolve(self, flag_key: str, default: T, convert: Callable[[object], T]) -> FlagResolutionDetails[T]:
        if not isinstance(flag_key, str) or not flag_key:
            raise FlagNotFoundError("a flag's key is a string, and not empty")
        try:
            raw = self._tide.config.get(self._prefix + flag_key, bytes)
            known = self._known.get(flag_key)
            if known is None or known.raw is not raw:
                known = self._parse(flag_key, raw)
        except TooStale as exc:
            return self._resolve_too_stale(flag_key, default, exc)
        except TideoverError as exc:
            raise _translated(flag_key, exc) from None
        flag, view = known.flag, known.view
        if flag.problem:
            raise ParseError(f"the value of '{shown(flag_key)}' is no flag: {flag.problem}")
        source, age = (Source.OVERRIDE, 0.0) if view is None else (view.source, view.age)
        metadata: dict[str, bool | int | float | str] = {
            "version": known.version,
            "tideover.source": "live" if source is _LIVE else str(source),
            "flagSetId": self._namespace,
        }
        if age < math.inf:
            metadata["tideover.age"] = age
        reason = flag.left_to
        if reason is not None:
            return FlagResolutionDetails(default, None, None, reason, None, metadata)
        reason = _STATIC if source is _LIVE or view is None else Reason.STALE
        return FlagResolutionDetails(convert(flag.value), None, None, reason, flag.variant, metadata)

    def _resolve_too_stale(self, flag_key: str, default: T, exc: TooStale) -> FlagResolutionDetails[T]:
        """Return the caller's default, if the limit says so."""
        try:
            self._tide.config.get(self._prefix + flag_key, bytes, default=b"")
        except TideoverError:
            raise GeneralError(shown_line(str(exc))) from None
        metadata: dict[str, bool | int | float | str] = {
            "tideover.source": str(Source.DEFAULT),
            "tideover.age": exc.age,
            "flagSetId": self._namespace,
        }
        return FlagResolutionDetails(default, reason=Reason.DEFAULT, flag_metadata=metadata)

    def _parse(self, flag_key: str, raw: bytes) -> _Known:
        """Parse a value, and remember the flag."""
        config, key = self._tide.config, self._prefix + flag_key
        reading = config.read(key, bytes, default=raw)
        view = None
        if reading.source is not Source.OVERRIDE:
            full = config.full_name(key).encode()
            view = next(view for view in config.views_under(self._prefix) if full.startswith(view.prefix))
        known = _Known(reading.value, flags.parse(reading.value), str(reading.revision), view)
        if known.flag.problem:
            telemetry.config_rejected(key, reading.revision, f"no flag: {known.flag.problem}")
        self._known[flag_key] = known
        return known


def _error(cause: str, why: object, *, answers: bool = False) -> Condition:
    return Condition(ProviderEvent.PROVIDER_ERROR, cause, shown_line(str(why)), answers)


def _translated(flag_key: str, exc: TideoverError) -> OpenFeatureError:
    why = shown_line(str(exc))
    if isinstance(exc, InvalidRequest):
        return FlagNotFoundError(f"'{shown(flag_key)}' cannot be a flag's key")
    if isinstance(exc, NotFollowed):
        return GeneralError(why)
    if isinstance(exc, ConfigKeyError) and not isinstance(exc, NotSynced):
        return FlagNotFoundError(f"there is no flag '{shown(flag_key)}'")
    return ProviderNotReadyError(why)
