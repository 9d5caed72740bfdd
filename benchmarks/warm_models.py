"""A warm `config.get` of a model of pydantic's, beside a dict and a validation at each read."""

from __future__ import annotations

from pydantic import BaseModel, SecretStr, TypeAdapter

import tideover.contrib.pydantic  # noqa: F401  # from here on models are types of the configuration
from benchmarks.coordinators import healthy
from benchmarks.harness import Comparison, Goal, Row, interleave, statement

KEY = "databases/main"
VALUE = '{"host": "db1", "port": 6432, "password": "s3cret"}'
_MODEL = "config.get(key, Model)"
_LIST = "for scale: config.get(key, list[Model])"


class Database(BaseModel):
    """What a service may keep under one key."""

    host: str
    port: int = 5432
    password: SecretStr = SecretStr("")


async def measure() -> list[Comparison]:
    """Read one key over and over."""
    many = list[Database]
    async with healthy({KEY: VALUE, "databases/all": f"[{VALUE}]"}) as tide:
        config, adapter = tide.config, TypeAdapter(Database)
        config.get(KEY, Database)
        config.get("databases/all", many)
        times = await interleave(
            {
                "dict": statement("values.get(key)", {"values": {KEY: 2.5}, "key": KEY}),
                "model": statement("config.get(key, Model)", {"config": config, "key": KEY, "Model": Database}),
                "list": statement(
                    "config.get(key, Models)", {"config": config, "key": "databases/all", "Models": many}
                ),
                "validate": statement("validate(value)", {"validate": adapter.validate_json, "value": VALUE}),
            }
        )
    return [
        times.compare(_MODEL, "model", "dict.get", "dict"),
        times.compare(_LIST, "list", "dict.get", "dict"),
        times.compare("for scale: TypeAdapter.validate_json", "validate", "dict.get", "dict"),
    ]


ROW = Row(
    name="warm-models",
    what="a warm config.get of a model of pydantic's",
    peer="dict.get",
    goals={_MODEL: Goal(6)},
    measure=measure,
)
