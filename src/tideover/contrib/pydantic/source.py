"""Configuration as a source of pydantic-settings, beside the environment and files."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AliasPath
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, ForceDecode, NoDecode, PydanticBaseSettingsSource

from tideover.codecs import record_of
from tideover.codecs.forms import options_of
from tideover.config.keys import settings_prefix
from tideover.contrib.pydantic.fields import ByKey, Path, infos_of, is_model, paths_of, set_at, text_of
from tideover.contrib.pydantic.origins import FromDisk, FromMemory, Origin, present_building
from tideover.coordinator.coordinator import Coordinator, life_of
from tideover.errors import NotConnected
from tideover.functions import current_for_reads

_ABSENT: Final = object()


class TideoverSettingsSource(PydanticBaseSettingsSource):
    """Configuration in etcd as a source of a `BaseSettings`: what is known, and never the network.

        class Settings(BaseSettings):
            size: int = 3

            @classmethod
            def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **others):
                return init_settings, env_settings, TideoverSettingsSource(settings_cls, prefix="pool/")

    Each field is a key: the prefix, then its alias or its name, as pydantic has them, in exactly these letters. A
    field that is a model may be JSON under its key, or a key for each of its fields (`db/host`), which wins over
    what JSON says of it. The text of a key means what it would mean in an environment variable; besides, durations
    may be like `250ms`, and `null` is None where a field may be that.

    Args:
        settings_cls: The settings' class.
        prefix: The keys' common prefix, such as `"pool/"`; behind a letter or digit the slash is added.
        coordinator: Whose configuration; None means the one that `current` returns when settings are made, or the
            one that `live_settings` follows. One that has not been entered yet reads the snapshot on disk.

    When degraded:
        The last known values, of this process or of an earlier one. A field of which nothing is known is left to
        the other sources and to its default.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], *, prefix: str = "", coordinator: Coordinator | None = None
    ) -> None:
        super().__init__(settings_cls)
        self.prefix = settings_prefix(prefix)
        self.coordinator = coordinator

    def __repr__(self) -> str:
        return f"TideoverSettingsSource({self.settings_cls.__name__}, prefix={self.prefix!r})"

    def __call__(self) -> dict[str, Any]:
        """Return what is known of the fields.

        Raises:
            NotConnected: No coordinator is open, and none was given.
            AmbiguousCoordinator: Several are, and none is in the context.
            NotFollowed: The prefix is not followed.
            ConfigValueError: A value cannot be read, no earlier one could be, or is no JSON where it must be.
            TooStale: A value is older than its limit allows.
            PermissionDenied: A quorum refuses to let this client read the prefix.
            AuthenticationFailed: Nothing is known of the prefix, because a quorum refuses the credentials.

        When degraded:
            See the class.
        """
        building = present_building.get()
        if building is None:
            return self._fields(self._origin(), self.settings_cls, self.prefix)
        infos = {
            name: info
            for name, info in infos_of(self.settings_cls).items()
            if not building.leaves_out((name, *(path[0] for path in paths_of(self.settings_cls, name, info))))
        }
        return self._fields(building, self.settings_cls, self.prefix, infos)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return what is known of a field, the name it goes by, and that nothing is left to parse.

        Raises:
            NotConnected: As calling the source, and whatever else that raises.
        """
        found: dict[str, Any] = {}
        self._read_field(found, self._origin(), self.settings_cls, self.prefix, field_name, field)
        name, value = next(iter(found.items()), (field_name, None))
        return value, name, False

    def _origin(self) -> Origin:
        coordinator = self.coordinator
        if coordinator is None:
            try:
                coordinator = current_for_reads()
            except NotConnected as exc:
                exc.add_note(f"{self!r} reads what a coordinator knows; give it one with coordinator=")
                raise
        return FromDisk(coordinator) if life_of(coordinator).loop is None else FromMemory(coordinator.config)

    def _fields(
        self, origin: Origin, form: Any, prefix: str, infos: dict[str, FieldInfo] | None = None
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, info in (infos_of(form) if infos is None else infos).items():
            self._read_field(found, origin, form, prefix, name, info)
        return found

    def _read_field(
        self, found: dict[str, Any], origin: Origin, form: Any, prefix: str, name: str, info: FieldInfo
    ) -> None:
        """Set what is known of a field where pydantic looks for it first."""
        paths = paths_of(form, name, info)
        for path in paths:
            value = self._at(origin, prefix, path, info)
            if value is not _ABSENT:
                # The same name in all sources: else the alias would decide, and not the order of the sources.
                set_at(found, paths[0] if _is_plain(paths[0]) else path, value)
                return
        for path in (path for path in paths if len(path) > 1):
            whole = origin.read(prefix + str(path[0]), Annotated[Any, ByKey()])
            if whole.present and _leads(path, whole.value):
                found.setdefault(str(path[0]), whole.value)
                return

    def _at(self, origin: Origin, prefix: str, path: Path, info: FieldInfo) -> Any:
        """Return what stands at a field's own key, or below that."""
        if not _is_plain(path):
            return _ABSENT
        key = prefix + "/".join(map(str, path))
        reading = origin.read(key, text_of(info, parsed=self._is_parsed(info)))
        value = reading.value if reading.present else _ABSENT
        model = _model_in(info)
        # What else stands there pydantic refuses.
        may_be_several = value is _ABSENT or value is None or isinstance(value, dict)
        if model is None or not may_be_several or not origin.below(f"{key}/"):
            return value
        parts = self._fields(origin, model, f"{key}/")
        return _merged(value if isinstance(value, dict) else {}, parts) if parts else value

    def _is_parsed(self, info: FieldInfo) -> bool:
        if NoDecode in info.metadata:
            return False
        return self.config.get("enable_decoding") is not False or ForceDecode in info.metadata


def keys_of(form: Any, prefix: str) -> tuple[list[str], list[str]]:
    """Return the keys that a class of settings has below a prefix, and those of them that may be several."""
    keys, nested = [], []
    for name, info in infos_of(form).items():
        for path in paths_of(form, name, info):
            heads = dict.fromkeys((str(path[0]), "/".join(map(str, path))))
            found = [prefix + head for head in heads]
            keys += found
            nested += found if _model_in(info) is not None else []
    return list(dict.fromkeys(keys)), list(dict.fromkeys(nested))


def _is_plain(path: Path) -> bool:
    return all(isinstance(each, str) for each in path)


def _leads(path: Path, value: object) -> bool:
    """Whether an alias finds something in what its first name is."""
    head = str(path[0])
    return AliasPath(head, *path[1:]).search_dict_for_path({head: value}) is not PydanticUndefined


def _model_in(info: FieldInfo) -> type | None:
    """Return the model that a field is, perhaps an optional one."""
    options = [option for option in options_of(info.annotation) if option not in (None, type(None))]
    made = record_of(options[0]) if len(options) == 1 else None
    return made if is_model(made) else None


def _merged(value: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    merged = dict(value)
    for name, part in parts.items():
        known = merged.get(name)
        merged[name] = _merged(known, part) if isinstance(known, dict) and isinstance(part, dict) else part
    return merged
