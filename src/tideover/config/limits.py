"""How old values may be, by prefix."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tideover.errors import TooStale
from tideover.policies import StalenessLimit
from tideover.prefixes.rules import Verdict, judge
from tideover.status.statements import duration


class Limits:
    """The limits that were given to `connect`: `since` says why a value is not fresh.

    `tightest` is the least `max_stale` in seconds; None without a limit.
    """

    def __init__(self, limits: Mapping[str, StalenessLimit], since: Callable[[], str]) -> None:
        # The longest prefix decides.
        self._limits = sorted(limits.items(), key=lambda item: -len(item[0]))
        self._since = since
        self.tightest = min((limit.max_stale for limit in limits.values()), default=None)

    def exceeded(self, key: str, age: float, *, has_default: bool) -> Verdict | None:
        """Say what to do with a value that is older than its key's limit allows; None if it is not.

        Raises `TooStale` if it must not be served.
        """
        limit = next((limit for prefix, limit in self._limits if key.startswith(prefix)), None)
        if limit is None or age <= limit.max_stale:
            return None
        verdict = judge(limit, age, has_default=has_default)
        if verdict is Verdict.RAISE:
            raise TooStale(
                f"{key!r} is {duration(age)} old, more than max_stale={limit.max_stale} s: {self._since()}",
                age=age,
                max_stale=limit.max_stale,
            )
        return verdict
