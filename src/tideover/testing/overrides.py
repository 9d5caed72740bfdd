"""`overriding`: other values for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tideover.codecs import encode
from tideover.coordinator.coordinator import Coordinator


@contextmanager
def overriding(tide: Coordinator, values: Mapping[str, object]) -> Iterator[None]:
    """Read other values than etcd's for one block: `with overriding(tide, {"payments/timeout": 0.1}):`.

    Every read of this coordinator sees them: `get`, `read` and `fetch`, `@with_config`, FastAPI's `Setting`,
    settings objects of `bind`, and `changes()`, which tells their beginning and their end. Nothing changes in
    etcd; what others put there meanwhile shows when the block is over. A value is decoded as one from etcd, and so
    may be refused.

    Blocks may be nested: the innermost that has a key decides. They may be in any thread, such as that of a test
    which drives the application by a test client.

    Args:
        tide: The coordinator.
        values: Key, as `get` names it, to value: of any type that `put` takes.

    Raises:
        TypeError: A value is of a type that cannot be stored.
        ValueError: A value cannot be stored, such as NaN.
        InvalidRequest: A key cannot be a key.
        Closed: The coordinator is not open.
        TimeoutError: The coordinator's event loop is in another thread, and blocked.

    When degraded:
        The same: what is overridden has `Source.OVERRIDE` and is not degraded, whatever etcd does.
    """
    config = tide.config
    layer = config.override({key: encode(value) for key, value in values.items()})
    try:
        yield
    finally:
        config.lift(layer)
