"""Dependencies that learn the type of their parameter.

FastAPI gives a dependency that has no function the type for one: in `Annotated[Session, Depends()]` that is
`Session`. It copies the dependency and gives the copy the type: by assignment in 0.121, by `dataclasses.replace`
in 0.123. The dependencies here turn the type into a function that is called instead.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi.params import Depends

C = TypeVar("C", bound=type)


def replaceable(cls: C) -> C:
    """Let `dataclasses.replace` copy a class's own fields, too; FastAPI's class is a frozen dataclass, or not."""
    parameters = getattr(Depends, "__dataclass_params__", None)
    decorate: Any = dataclass(init=False, repr=False, eq=False, frozen=getattr(parameters, "frozen", False))
    made: C = decorate(cls)
    return made


@replaceable
class ByType(Depends, ABC):
    """A dependency with a name and, once FastAPI has set it, a type.

    As a key of `app.dependency_overrides` it matches all of its name; with a type, those of that type.
    """

    name: str
    type: object

    def __init__(self, name: str, type: object = None, **fastapi: Any) -> None:
        # FastAPI's own class may be frozen.
        self.__dict__.update(name=name, type=type)
        super().__init__(**fastapi)

    def __repr__(self) -> str:
        """Show the name, as it was written."""
        return f"{self.__class__.__name__}({self.name!r})"

    def __eq__(self, other: object) -> bool:
        """Whether the other one was written the same: `Annotated` itself makes one of equal ones."""
        if not isinstance(other, ByType):
            return NotImplemented
        return self._key == other._key and self.type == other.type and self._is_like(other)

    def __hash__(self) -> int:
        return hash(self._key)

    def __call__(self) -> Any:
        """Refuse: only to type checkers is this what is called, as a key of `dependency_overrides`."""
        raise TypeError(f"{self!r} is given by FastAPI: write Annotated[..., {self!r}] at a parameter of a route")

    @property
    def _key(self) -> tuple[object, str]:
        return self.__class__, self.name

    # Where FastAPI's class has a field, a property takes what it is set to.
    @property
    def dependency(self) -> Callable[[], Awaitable[object]] | None:
        """What FastAPI calls; None before it has told the type."""
        return self.__dict__.get("_resolved")

    @dependency.setter
    def dependency(self, form: object) -> None:
        if form is not None:
            form = form if self.type is None else self.type
            self.__dict__["_resolved"] = Resolved(self, form, self._resolve(form))

    @abstractmethod
    def _resolve(self, form: Any) -> Callable[[], object]:
        """Return the function that returns a value of the type."""

    def _is_like(self, other: ByType) -> bool:
        """Whether another one of the same name and type gives the same."""
        return True


class Resolved:
    """The function that FastAPI calls: once per request for equal ones."""

    def __init__(self, declared: ByType, form: object, read: Callable[[], object]) -> None:
        self._declared = declared
        self._form = form
        self._read = read
        # FastAPI asks for it twice per request.
        self._hash = hash(declared)

    async def __call__(self) -> Any:
        """Return the value, without I/O; a coroutine function, because FastAPI gives others to a thread."""
        return self._read()

    def __eq__(self, other: object) -> bool:
        """Whether the other one returns the same, or is a key of `dependency_overrides` that matches this one."""
        declared = self._declared
        if isinstance(other, ByType):
            return declared._key == other._key and (other.type is None or other.type == self._form)
        return (
            isinstance(other, Resolved)
            and declared._key == other._declared._key
            and self._form == other._form
            and declared._is_like(other._declared)
        )

    def __hash__(self) -> int:
        return self._hash
