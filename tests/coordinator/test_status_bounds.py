"""Others can make lists long; the report stays small, says how much it leaves out, and is cheap to make."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support import connected, mock_trio
from tideover.asgi.status_page.pulse import Pulse
from tideover.asgi.status_page.query import Query
from tideover.status import StatusReport
from tideover.status.bounded import BoundedRecord
from tideover.store.operations import Put
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio

MANY = 600


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on a mock clock."""
    return mock_trio()


async def crowded() -> MemoryStore:
    """Return a cluster with many endpoints, as many that are none, and as many keys."""
    store = MemoryStore()
    url = json.dumps({"needs": 1, "url": "http://10.0.7.3:80"}).encode()
    for number in range(MANY):
        for key, value in (
            (f"/services/billing/i{number:04}/{number:032x}", url),
            (f"/services/search/i{number:04}/{number:032x}", b"no endpoint"),
            (f"/config/k{number:04}", b"no number"),
        ):
            await store.call(Put(key.encode(), value), member=store.members[0], timeout=5)
    return store


async def test_what_others_write_makes_neither_report_nor_page_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each list 100 entries at the most are made, the rest is counted, and the counts are true."""
    made = 0
    after = BoundedRecord.__post_init__

    def counted(record: BoundedRecord) -> None:
        nonlocal made
        made += 1
        after(record)

    async with connected(await crowded(), discover=["billing", "search"]) as tide:
        for number in range(MANY):
            tide.config.get(f"k{number:04}", int, default=0)
        monkeypatch.setattr(BoundedRecord, "__post_init__", counted)
        report: StatusReport = tide.status()
        assert made < 1000
        assert len(report.rejected) == 100
        assert report.more["rejected"] == 2 * MANY - 100
        sizes: list[Any] = [(s.name, s.endpoints, len(s.listed), len(s.refused)) for s in report.services]
        assert sizes == [("billing", MANY, 100, 0), ("search", 0, 0, 101)]
        said = list(map(str, report.consequences))
        assert f"{2 * MANY:,} values are refused: k0000, k0001, k0002 and {2 * MANY - 3:,} more." in said
        pulse = Pulse(title=None, window=3600.0)
        assert len(pulse.page(tide, Query(), base="", live=True).body) < 200_000
        assert len(pulse.beat(tide).as_json().body) < 200_000
        assert f"{2 * MANY:,} refused" in pulse.frame(tide, Query()).fragments["config"].html
