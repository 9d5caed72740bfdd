"""Weighted round robin: smooth, and cheap with a thousand endpoints.

nginx's smooth weighted round robin (commit 52327e0, 2012) looks at every endpoint at each pick. This is stride
scheduling instead (Waldspurger and Weihl, "Stride Scheduling", MIT 1995; Envoy's EDF scheduler is of the kind):
each endpoint is due at regular intervals, the shorter the heavier it is, and a heap yields the next one. The
shares are as exact, and turns are as evenly spread, because each endpoint begins at a random point of its
interval; so a fleet that starts together does not begin with the same endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from heapq import heapify, heapreplace
from typing import Generic, TypeVar

T = TypeVar("T")

# The lightest is picked at most so many times more rarely than the heaviest: floats must still add up.
_RAREST = 1e12


class Rotation(Generic[T]):
    """The order in which items are picked; items that were in `before` keep their place.

    Not safe for several threads at once.
    """

    def __init__(
        self,
        weighted: Iterable[tuple[T, float]],
        *,
        chance: Callable[[], float],
        before: Rotation[T] | None = None,
    ) -> None:
        having = [(item, weight) for item, weight in weighted if weight > 0]
        heaviest = max((weight for _, weight in having), default=1.0)
        places = before._places() if before is not None else {}
        self._now = 0.0
        self._heap: list[tuple[float, int, float, T]] = []
        for n, (item, weight) in enumerate(having):
            stride = min(heaviest / weight, _RAREST)
            place = places.get(item)
            self._heap.append(((chance() if place is None else place) * stride, n, stride, item))
        heapify(self._heap)

    def __len__(self) -> int:
        """Return how many items are picked at all."""
        return len(self._heap)

    def next(self, avoid: Collection[T] = ()) -> T | None:
        """Return the next item, one outside of `avoid` if there is any; None if there is no item."""
        heap = self._heap
        if not heap:
            return None
        if avoid:
            return self._next_but(avoid)
        due, n, stride, item = heap[0]
        heapreplace(heap, (due + stride, n, stride, item))
        self._now = due
        return item

    def _next_but(self, avoid: Collection[T]) -> T | None:
        """Give the turn to the next wanted item; the avoided ones keep theirs."""
        others = [place for place, (_, _, _, item) in enumerate(self._heap) if item not in avoid]
        if not others:
            return self.next()
        first = min(others, key=lambda place: self._heap[place][:2])
        due, n, stride, item = self._heap[first]
        self._heap[first] = due + stride, n, stride, item
        heapify(self._heap)
        return item

    def _places(self) -> dict[T, float]:
        """Return the remaining share of each item's interval."""
        return {item: max(0.0, due - self._now) / stride for due, _, stride, item in self._heap}
