"""`@with_config`: configuration as keyword arguments."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from typing import Any, Never, TypeVar, cast

from tideover.callables import behind, is_async, refuse_endpoint
from tideover.codecs import ImportNeeded
from tideover.config.decoded import decoder_for
from tideover.config.readings import MISSING
from tideover.decorators.signatures import resolve, show
from tideover.functions import current_for_reads

F = TypeVar("F", bound=Callable[..., Any])


class Injection:
    """What one decorated function gets from the configuration."""

    def __init__(self, function: Callable[..., Any], keys: dict[str, str]) -> None:
        self._function = function
        self._keys = keys
        self.signature = inspect.signature(function)
        parameters = self.signature.parameters
        for name, key in keys.items():
            check_key(f"with_config: the key of {name!r}", key)
            if name not in parameters or parameters[name].kind not in _BY_KEYWORD:
                raise TypeError(f"with_config: {_name(function)} has no keyword parameter {name!r}")
        # What is passed by position beyond these is what the caller has given; `*args` must not look like it.
        self._positions = {
            name: position if parameter.kind is not inspect.Parameter.KEYWORD_ONLY else sys.maxsize
            for position, (name, parameter) in enumerate(parameters.items())
            if name in keys
        }
        self._first = min(self._positions.values(), default=0)
        self._plan: list[tuple[str, str, object, object]] | None = None
        # What the annotations name may not have been defined yet, nor what decodes it imported: then at the
        # first call.
        with suppress(NameError, AttributeError, ImportNeeded):
            self._make_plan()

    def __repr__(self) -> str:
        return f"<Injection into {_name(self._function)} {self._keys}>"

    def fill(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Add what the caller has not passed to `kwargs`."""
        get: Any = None
        given = len(args)
        for name, key, form, default in self._plan or self._make_plan():
            if name not in kwargs and (given <= self._first or given <= self._positions[name]):
                if get is None:  # a caller who passes everything, such as a unit test, needs no coordinator
                    get = current_for_reads().config.get
                kwargs[name] = get(key, form, default=default)

    def _make_plan(self) -> list[tuple[str, str, object, object]]:
        """Resolve the annotations, and see whether they can be decoded."""
        plan = []
        for name, key in self._keys.items():
            parameter = self.signature.parameters[name]
            default = MISSING if parameter.default is parameter.empty else parameter.default
            form = str if parameter.annotation is parameter.empty else parameter.annotation
            try:
                form = resolve(self._function, form)
                decoder_for(key, form)
            except NameError as exc:
                exc.add_note(f"with_config: the type of {_name(self._function)}'s parameter {name!r} is needed")
                raise
            except TypeError as exc:
                made = ImportNeeded if isinstance(exc, ImportNeeded) else TypeError
                raise made(f"with_config: {_name(self._function)}'s parameter {name!r}: {exc}") from None
            plan.append((name, key, form, default))
        self._plan = plan
        return plan


def check_key(what: str, key: object) -> None:
    """Refuse what cannot be a key in any namespace.

    Raises:
        TypeError: It is no string, or empty.
        ValueError: It begins with a slash.
    """
    if not isinstance(key, str) or not key:
        raise TypeError(f"{what} must be a non-empty string, not {key!r}")
    if key.startswith("/"):
        # Which namespace it will be is not known yet.
        right = (key.partition("/config/")[2] if "/config/" in key else key).lstrip("/")
        advice = f"{right!r}, not {key!r}" if right else f"{key!r} names no key"
        raise ValueError(f"{what} begins behind '{{namespace}}/config/': {advice}")


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))


_BY_KEYWORD = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def with_config(*bare: Never, **keys: str) -> Callable[[F], F]:
    """Inject followed configuration keys as keyword arguments, read again at each call. Reads cost no I/O.

        @with_config(timeout="payments/timeout")
        async def charge(order: Order, *, timeout: float = 2.0) -> Receipt: ...

    Types come from the annotations (`str` without one), defaults from the signature. An argument that the caller
    passes wins. Works on functions, coroutine functions and generators of both kinds, methods too. Acts on the
    coordinator that `current` returns.

    Args:
        bare: Nothing: a function comes here from `@with_config` without parentheses, which is refused.
        keys: Parameter name to configuration key.

    Returns:
        The decorator. The decorated function's signature no longer shows the injected parameters.

    Raises:
        TypeError: When decorating: no key is named, the function has no such keyword parameter, its type
            cannot be decoded (when calling, if the type is not defined before), or the function is already a
            route's endpoint: the route's decorator goes above.
        ValueError: When decorating: a key begins with a slash.
        ConfigKeyError: When calling: the key is absent and the parameter has no default.
        NotSynced: When calling: nothing is known of the key and the parameter has no default.
        NotConnected: When calling: no coordinator is open, and the caller has not passed everything.

    When degraded:
        The last known values, and the request is marked as degraded.
    """

    if bare or not keys:
        raise TypeError("with_config: name what to inject: write @with_config(timeout='payments/timeout')")

    def decorate(function: F) -> F:
        refuse_endpoint(function, "with_config")
        injection = Injection(function, keys)
        wrapper = _wrap(function, injection.fill)
        show(wrapper, function, without=keys)
        return cast("F", wrapper)

    return decorate


def _wrap(function: Callable[..., Any], fill: Callable[..., None]) -> Callable[..., Any]:
    """Return a wrapper of the same kind as the function, so that frameworks treat it alike."""
    kind = behind(function)
    if inspect.isasyncgenfunction(kind):

        @functools.wraps(function)
        async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            fill(args, kwargs)
            inner = function(*args, **kwargs)
            # What `yield from` does for generators: what is sent or thrown in reaches the inner one.
            try:
                item = await anext(inner)
                while True:
                    try:
                        sent = yield item
                    except GeneratorExit:
                        raise
                    except BaseException as exc:  # noqa: BLE001  # handed to the inner generator
                        item = await inner.athrow(exc)
                    else:
                        item = await inner.asend(sent)
            except StopAsyncIteration:
                return
            finally:
                await inner.aclose()

        return async_generator
    if is_async(function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            fill(args, kwargs)
            return await function(*args, **kwargs)

        return coroutine
    if inspect.isgeneratorfunction(kind):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            fill(args, kwargs)
            return (yield from function(*args, **kwargs))

        return generator

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        fill(args, kwargs)
        return function(*args, **kwargs)

    return plain
