#!/usr/bin/env bash
# Python 3.11; pydantic-settings 2.16.3 (pydantic 2.14.4).
# Guess: a settings source of one's own may name a field by its name: that is what `get_field_value` is given, and what
#   `init_settings` takes in a class whose fields have no alias.
# Behaviour: for a field with an alias only the alias is read. The field's own name is refused as an extra input, which
#   fails the start; and with `extra="ignore"`, as services set it for the sake of a shared .env file, the value is
#   dropped without a word: the service runs on the default. With `populate_by_name` both are read.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydantic-settings==2.16.3 pydantic==2.14.4
cat >"$folder/probe.py" <<'PY'
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict


def outcome(found, **config):
    class Store(PydanticBaseSettingsSource):
        def get_field_value(self, field, field_name):
            return None, field_name, False

        def __call__(self):
            return dict(found)

    class Settings(BaseSettings):
        model_config = SettingsConfigDict(**config)
        fee: float = Field(0.1, validation_alias="FEE_RATE")

        @classmethod
        def settings_customise_sources(cls, settings_cls, **sources):
            return sources["init_settings"], sources["env_settings"], Store(settings_cls)

    try:
        return Settings().fee
    except ValidationError as exc:
        return ", ".join(error["type"] for error in exc.errors())


for config in ({}, {"extra": "ignore"}, {"populate_by_name": True}):
    said = " ".join(f"{name}={value!r}" for name, value in config.items()) or "as it comes"
    print(f"{said}: by alias {outcome({'FEE_RATE': 0.2}, **config)}, by name {outcome({'fee': 0.2}, **config)}")
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
as it comes: by alias 0.2, by name extra_forbidden
extra='ignore': by alias 0.2, by name 0.1
populate_by_name=True: by alias 0.2, by name 0.2
SEEN
