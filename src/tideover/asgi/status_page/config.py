"""The configuration: refused values and why, and the keys, never a value."""

from __future__ import annotations

import math
from itertools import groupby

from tideover.asgi.status_page.ages import Ages
from tideover.asgi.status_page.query import Query
from tideover.asgi.status_page.words import Facts, Phrase, notes, source_tone, source_word, span
from tideover.coordinator.rules.words import counted
from tideover.status import KeyPage, KeyStatus, LimitStatus, PrefixStatus, StatusReport
from tideover.types import Source

# Keys on one page of the list.
SIZE = 100


def config(report: StatusReport, ages: Ages) -> Facts:
    """Return the facts about all keys."""
    counts = [counted(report.keys, "key"), counted(len(report.config), "prefix", "prefixes")]
    if report.rejected:
        counts.append(f"{len(report.rejected) + report.more.get('rejected', 0):,} refused")
    return {
        "note": f"{', '.join(counts)}. Values are never shown.",
        "alerts": notes(report, ages, "config"),
    }


def token(report: StatusReport) -> object:
    """Return a token of the list of keys, which is equal as long as the list is unchanged."""
    prefixes = tuple(
        (each.prefix, each.source, each.revision, each.keys, each.denied, _minutes(each.source, each.age))
        for each in report.config
    )
    over = tuple((limit.prefix, limit.over) for limit in report.limits)
    return prefixes, over, report.rejected


def keys(page: KeyPage, query: Query, report: StatusReport, ages: Ages) -> Facts:
    """Return one page of the keys, under their prefixes."""
    found = {prefix: list(rows) for prefix, rows in groupby(page.keys, key=lambda each: each.prefix)}
    first, last = page.skipped + 1, page.skipped + len(page.keys)
    total = "" if page.matching == page.total else f" that match, of {page.total:,}"
    number = page.skipped // SIZE + 1
    # Without a filter each prefix is shown, also one that has no key.
    everything = not query.text and page.matching <= SIZE
    return {
        "prefixes": [
            _prefix(each, found.get(each.prefix, []), ages)
            for each in report.config
            if everything or each.prefix in found
        ],
        "note": f"{first:,} to {last:,} of {page.matching:,}{total}" if page.keys else f"0 of {page.total:,}",
        "size": SIZE,
        "before": query.link(number - 1) if number > 1 else "",
        "after": query.link(number + 1) if last < page.matching else "",
    }


def _prefix(prefix: PrefixStatus, rows: list[KeyStatus], ages: Ages) -> Facts:
    limit = prefix.limit
    live = prefix.source is Source.LIVE
    return {
        "name": prefix.prefix or "all keys",
        "tone": source_tone(prefix.source, denied=prefix.denied, over=limit is not None and limit.over),
        "source": source_word(prefix.source, denied=prefix.denied),
        "age": Phrase("in sync") if live else Phrase("", ages(prefix.age, "old")),
        "limit": _limit(limit, live=live),
        "error": prefix.error or "",
        "rows": [_key(each) for each in rows],
    }


def _limit(limit: LimitStatus | None, *, live: bool) -> str:
    if limit is None:
        return "no limit"
    most = span(limit.max_stale)
    if limit.over:
        return f"over {most}, {limit.then}"
    return f"limit {most}, then {limit.then}" if live else f"of {most}, then {limit.then}"


def _key(key: KeyStatus) -> Facts:
    return {
        "name": key.key,
        "refused": f"newer revision {key.refused:,} refused" if key.refused is not None else "",
        "revision": f"{key.revision:,}" if key.revision else "none",
        "source": str(key.source),
        "age": _minutes(key.source, key.age),
        "over": key.over,
    }


def _minutes(source: Source | None, age: float) -> str:
    """Return a key's age, so coarse that a second rarely changes it."""
    if source is Source.LIVE:
        return "in sync"
    if not math.isfinite(age):
        return "unknown"
    return "under 1 min" if age < 60 else span(age - age % 60)
