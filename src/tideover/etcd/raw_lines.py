"""gRPC's own lines on stderr, of its C core, which go past `logging`: kept off where stderr is a person's."""

from __future__ import annotations

import os
from collections.abc import Mapping

_VARIABLE = "GRPC_VERBOSITY"
_NONE = "NONE"
_silenced = False


def silence() -> None:
    """Keep gRPC off stderr, unless the environment asks for its lines; takes effect only before gRPC is used."""
    global _silenced
    if _VARIABLE not in os.environ:
        os.environ[_VARIABLE] = _NONE
        _silenced = True


def without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment as it was before, for programs that are not ours."""
    return {name: value for name, value in environment.items() if name != _VARIABLE or not _silenced}
