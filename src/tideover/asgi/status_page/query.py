"""A viewer's filter and page of the list of keys."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from starlette.types import Scope

from tideover.foreign_bytes import Malformed, decimal

# Characters of a filter, fields of a query, and pages that may be asked for.
_LONGEST = 200
_MOST_FIELDS = 20
_LAST_PAGE = 100_000


@dataclass(frozen=True, slots=True)
class Query:
    """A filter and a page of the keys."""

    text: str = ""
    page: int = 1

    @classmethod
    def of(cls, scope: Scope) -> Query:
        """Return a request's query; unreadable parts count as absent."""
        fields: dict[str, list[str]] = {}
        with suppress(ValueError):
            fields = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=_MOST_FIELDS)
        page = 1
        with suppress(Malformed):
            page = decimal(fields.get("page", ["1"])[-1], "page", least=1, most=_LAST_PAGE)
        return cls(fields.get("keys", [""])[-1][:_LONGEST], page)

    def link(self, page: int) -> str:
        """Return the query of another page of the same keys."""
        return "?" + urlencode({"keys": self.text, "page": page} if self.text else {"page": page})
