"""Settings of pydantic-settings that follow their keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic_settings import BaseSettings

from tideover.codecs import Refusal, asking
from tideover.config.live import Live, Made
from tideover.config.reader import Reader
from tideover.contrib.pydantic.origins import Building, Quietly, present_building
from tideover.contrib.pydantic.source import keys_of
from tideover.coordinator.coordinator import Coordinator
from tideover.errors import Closed, ConfigValueError, InvalidValue, TideoverError
from tideover.functions import current

S = TypeVar("S", bound=BaseSettings)


def live_settings(
    settings: type[S],
    *,
    coordinator: Coordinator | None = None,
    validate: Callable[[S], object] | None = None,
) -> Live[S]:
    """Return settings that are made again, of all their sources in their order, when one of their keys changes.

    Args:
        settings: The class; `settings_customise_sources` returns a `TideoverSettingsSource` among others.
        coordinator: Whose configuration; None means the one that `current` returns.
        validate: Called with each new object; raising refuses it, as for `bind`.

    Returns:
        The live object, whose `value` is always the last valid one; it follows as long as somebody holds it.

    Raises:
        ConfigValueError: The settings would not be valid now; place and kind of each error are told, no value.
        NotFollowed: The prefix is not followed.
        TypeError: `settings` has no such source.
        NotConnected: No coordinator is open.
        AmbiguousCoordinator: Several are, and none is in the context.
        Closed: The coordinator is not open.

    When degraded:
        Made of the last known values; stays as it is until etcd is back, and requests that use it are marked.
    """
    tide = coordinator or current()
    if tide.loop is None:
        raise Closed(f"{tide!r} is not open: live settings follow their keys inside `async with`")
    live = LiveSettings(settings, reader=tide.config, validate=validate)
    tide.config.keep(live)
    return live


class LiveSettings(Live[S]):
    """Settings kept up to date; see `Live`, and `live_settings` for the arguments."""

    def __init__(self, settings: type[S], *, reader: Reader, validate: Callable[[S], object] | None) -> None:
        super().__init__(settings.__name__, "", reader=reader)
        self._settings = settings
        self._validate = validate
        self._within: tuple[str, ...] = ()
        self._begin()

    def _concerns(self, key: str) -> bool:
        return key in self._keys or key.startswith(self._within)

    def _make(self) -> Made[S]:
        building = Building(Quietly(self._reader))
        try:
            made = asking(self._name, self._made, building)
            if isinstance(made, TideoverError):
                raise made
            if not building.prefixes:
                raise TypeError(f"{self._name} has no TideoverSettingsSource among its sources: see live_settings")
            if self._validate is not None:
                asking(getattr(self._validate, "__name__", type(self._validate).__name__), self._validate, made)
        except Refusal as exc:
            text = f"{self.prefix!r}: {exc}"
            raise ConfigValueError(
                text, key=self.prefix, revision=building.revision, exception=exc.exception
            ) from exc
        return Made(made, building.revision)

    def _made(self, building: Building) -> S | TideoverError:
        """Return the settings, or what a source has raised, which is not about values."""
        token = present_building.set(building)
        try:
            return self._settings()
        except InvalidValue:
            raise
        except TideoverError as exc:
            return exc
        finally:
            present_building.reset(token)
            self._learn(building)

    def _learn(self, building: Building) -> None:
        """Learn from the sources that were asked which keys to follow, and whether any of them exists."""
        if building.prefixes and not self._keys:
            self.prefix = building.prefixes[0]
            found = [keys_of(self._settings, prefix) for prefix in building.prefixes]
            self._keys = [key for keys, _ in found for key in keys]
            self._within = tuple(key for _, within in found for key in within)
        if building.revision:
            self._found = True
