"""`Setting`: configuration as a parameter of a route."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from tideover.config.decoded import decoder_for
from tideover.config.readings import MISSING
from tideover.contrib.fastapi.by_type import ByType, replaceable
from tideover.decorators.injection import check_key
from tideover.extras import installed
from tideover.functions import current_for_reads

# Its models are what people write with FastAPI. Without the settings that belong to that module a model is refused
# where the route is made, with the command.
if installed("pydantic_settings"):
    import tideover.contrib.pydantic  # noqa: F401


@replaceable
class Setting(ByType):
    """A configuration key as a parameter: `rate: Annotated[float, Setting("fee_rate", default=0.02)]`.

    For routes, their dependencies and WebSockets; the value is read when the request's dependencies are resolved.
    The type is the parameter's: whatever `config.get` decodes, and models of pydantic's. No caller can set it, and
    it is in no OpenAPI document. Tests override it, whatever its default and type:
    `app.dependency_overrides[Setting("fee_rate")] = lambda: 0.5`, or with `tideover.testing.overriding`.

    Args:
        name: The key, without the namespace.
        type: What to decode it as, where that is not the parameter's type, such as one with constraints: FastAPI
            tells of `Annotated[float, Gt(0), Setting(...)]` the `float` alone. None means the parameter's.
        default: The value if the key is absent, or nothing is known of it, or it has never been of that type.
            FastAPI ignores a default of the parameter itself.

    Raises:
        TypeError: The key is no string or empty; or, where the route is made, its type cannot be decoded.
        ValueError: The key begins with a slash.
        NotConnected: In a request: there is no coordinator.
        TideoverError: In a request: as `Config.get`.

    When degraded:
        The last known value, and the request is marked as degraded.
    """

    default: Any

    def __init__(self, name: str, type: object = None, *, default: object = MISSING, **fastapi: Any) -> None:
        check_key("Setting: the key", name)
        self.__dict__["default"] = default
        super().__init__(name, type, **fastapi)

    def _resolve(self, form: Any) -> Callable[[], object]:
        # What a type is made of may not have been defined yet: then it is known at the first request.
        with suppress(NameError, AttributeError):
            decoder_for(self.name, form)
        return partial(_read, self.name, form, self.default)

    def _is_like(self, other: ByType) -> bool:
        default = getattr(other, "default", None)
        return self.default is default or (type(self.default) is type(default) and self.default == default)


def _read(key: str, form: Any, default: object) -> object:
    return current_for_reads().config.get(key, form, default=default)
