"""Settings of pydantic-settings that follow their keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    SecretsSettingsSource,
)

from tideover.codecs import Refusal, asking
from tideover.config.assembly import Assembly, Origin
from tideover.config.bound import OnInvalid
from tideover.config.live import Live, Made
from tideover.contrib.pydantic.adapters import adapter_of
from tideover.contrib.pydantic.origins import Building, present_building
from tideover.contrib.pydantic.source import TideoverSettingsSource, keys_of
from tideover.coordinator.coordinator import Coordinator, life_of
from tideover.errors import Closed, ConfigKeyError, ConfigValueError, InvalidValue, NotSynced, TideoverError
from tideover.functions import current

S = TypeVar("S", bound=BaseSettings)


def live_settings(
    settings: type[S],
    *,
    coordinator: Coordinator | None = None,
    validate: Callable[[S], object] | None = None,
    on_invalid: OnInvalid = "raise",
) -> Live[S]:
    """Return settings that are made again, of all their sources in their order, when one of their keys changes.

    Args:
        settings: The class; `settings_customise_sources` returns a `TideoverSettingsSource` among others.
        coordinator: Whose configuration; None means the one that its source was given, else the one that
            `current` returns.
        validate: Called with each new object; raising refuses it, as for `bind`.
        on_invalid: What to do if the settings would not be valid now, as for `bind`; with `"default"` the other
            sources and the defaults stand in for what etcd has of the refused fields.

    Returns:
        The live object, whose `value` is always the last valid one; it follows as long as it is referenced.

    Raises:
        ConfigValueError: The settings would not be valid now, and nothing stands in; the message has place and
            kind of each error, no value.
        NotSynced: A field without a value, in any source, and nothing is known of the prefix.
        NotFollowed: The prefix is not followed.
        TypeError: `settings` has no such source.
        ValueError: `on_invalid` is none of the three, or a source was given another coordinator.
        NotConnected: No coordinator is open.
        AmbiguousCoordinator: Several are, and none is in the context.
        Closed: The coordinator is not open.

    When degraded:
        Made of the last known values; stays as it is until etcd is back, and requests that use it are marked.
    """
    assembly = SettingsAssembly(settings, validate)
    given = {each for each in (coordinator, *assembly.coordinators) if each is not None}
    if len(given) > 1:
        raise ValueError(f"{settings.__name__} has sources of several coordinators; live settings follow one")
    tide = given.pop() if given else current()
    if life_of(tide).loop is None:
        raise Closed(f"{tide!r} is not open: live settings follow their keys inside `async with`")
    return tide.config.follow(assembly, on_invalid)


class SettingsAssembly(Assembly[S]):
    """Makes settings objects of one class, which asks its sources itself; see `Assembly`.

    Attributes:
        coordinators: Those that its sources were given; None stands for the one that they are asked for.
    """

    def __init__(self, settings: type[S], validate: Callable[[S], object] | None) -> None:
        sources = _sources_of(settings)
        prefixes = [source.prefix for source in sources]
        if not prefixes:
            raise TypeError(f"{settings.__name__} has no TideoverSettingsSource among its sources")
        super().__init__(settings, prefixes[0], validate)
        # So that refusals have the names of fields.
        adapter_of(settings)
        self._settings = settings
        self.coordinators = [source.coordinator for source in sources]
        found = [keys_of(settings, prefix) for prefix in prefixes]
        self.keys = tuple(key for keys, _ in found for key in keys)
        self.nested = tuple(key for _, nested in found for key in nested)
        self._within = tuple(f"{key}/" for key in self.nested)

    def concerns(self, key: str) -> bool:
        """Return whether an object may be another if a key changes."""
        return key in self.keys or key.startswith(self._within)

    def make(self, origin: Origin, *, defaults: bool = False) -> Made[S]:
        """Make the object of all its sources; see `Assembly.make`."""
        building = Building(origin, defaults)
        while True:
            try:
                value = self._build(building)
            except Refusal as exc:
                error = self._refused(building, exc, origin)
            else:
                return Made(value, 0 if building.without is None else building.revision, building.refusal)
            if not defaults or building.without is None:
                raise error from error.__cause__
            building.refusal = building.refusal or error
            # First without the fields that errors name, then without all of etcd's.
            building.without = None if building.without else _places(error.exception) or None

    def _build(self, building: Building) -> S:
        made = asking(self.name, self._made, building)
        if isinstance(made, TideoverError):
            raise made
        return self._checked(made)

    def _made(self, building: Building) -> S | TideoverError:
        """Return the settings, or what a source has raised, which is not about them as a whole."""
        token = present_building.set(building)
        try:
            return self._settings()
        except InvalidValue:
            raise
        except TideoverError as exc:
            return exc
        finally:
            present_building.reset(token)

    def _refused(self, building: Building, refusal: Refusal, origin: Origin) -> ConfigValueError | ConfigKeyError:
        exc, unknown = refusal.exception, next((key for key in self.keys if not origin.synced(key)), None)
        if unknown is not None and _is_missing(exc):
            return NotSynced(unknown, f"nothing is known of {unknown!r}, and {refusal}")
        text = f"{self.prefix!r}: {refusal}"
        return ConfigValueError(text, key=self.prefix, revision=building.revision, exception=exc)


def _sources_of(settings: type[BaseSettings]) -> list[TideoverSettingsSource]:
    sources = settings.settings_customise_sources(
        settings,
        init_settings=InitSettingsSource(settings, {}),
        env_settings=EnvSettingsSource(settings),
        dotenv_settings=DotEnvSettingsSource(settings),
        file_secret_settings=SecretsSettingsSource(settings),
    )
    return [source for source in sources if isinstance(source, TideoverSettingsSource)]


def _is_missing(exc: Exception | None) -> bool:
    """Whether fields without a value are all that pydantic has refused."""
    errors = exc.errors(include_input=False) if isinstance(exc, ValidationError) else []
    return bool(errors) and all(error["type"] == "missing" for error in errors)


def _places(exc: Exception | None) -> frozenset[str]:
    if not isinstance(exc, ValidationError):
        return frozenset()
    return frozenset(str(error["loc"][0]) for error in exc.errors(include_input=False) if error["loc"])
