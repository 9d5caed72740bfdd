"""The instrumentation scope, and the span around a wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import metrics, trace
from opentelemetry.trace import Span, Status, StatusCode

from tideover.shown import cut
from tideover.version import VERSION

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"

tracer = trace.get_tracer("tideover", VERSION, schema_url=SCHEMA)
meter = metrics.get_meter("tideover", VERSION, schema_url=SCHEMA)

Attributes = Mapping[str, str | bool | int | float]

# Characters of a text in an attribute: names may be others', and collectors refuse or drop what is too long.
_LONGEST_ATTRIBUTE = 500


def bounded(attributes: Attributes) -> dict[str, str | bool | int | float]:
    """Return attributes with their texts cut."""
    return {
        name: cut(value, _LONGEST_ATTRIBUTE) if isinstance(value, str) else value
        for name, value in attributes.items()
    }


# For the no-op span: making it the current span would be most of the cost of the call.
UNRECORDED: AbstractContextManager[object] = nullcontext()


def waiting(
    name: str,
    attributes: Mapping[str, str],
    *,
    record_exception: bool = False,
    no_error: tuple[type[Exception], ...] = (),
) -> AbstractContextManager[object]:
    """Record a wait, which is an error only if it raises.

    Args:
        record_exception: False where keys may not be recorded: messages of errors name keys.
        no_error: Exceptions that leave the span without an error: the caller decides.
    """
    return begin_wait(name, bounded(attributes), record_exception=record_exception, no_error=no_error)


def begin_wait(
    name: str,
    attributes: Attributes,
    *,
    record_exception: bool = False,
    no_error: tuple[type[Exception], ...] = (),
) -> AbstractContextManager[object]:
    """Record a wait whose attributes are bounded already; see `waiting`."""
    span = tracer.start_span(name, attributes=attributes)
    if span is trace.INVALID_SPAN:
        return UNRECORDED
    return within_wait(span, record_exception=record_exception, no_error=no_error)


@contextmanager
def within_wait(span: Span, *, record_exception: bool, no_error: tuple[type[Exception], ...]) -> Iterator[None]:
    """Be within the span of a wait; see `waiting`."""
    with trace.use_span(span, end_on_exit=True, record_exception=record_exception, set_status_on_exception=False):
        try:
            yield
        except no_error:
            raise
        except Exception as exc:
            span.set_attribute("error.type", type(exc).__name__)
            span.set_status(Status(StatusCode.ERROR))
            raise
