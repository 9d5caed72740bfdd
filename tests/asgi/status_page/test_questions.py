"""What is asked for: a page of the keys, and the report if it has changed."""

from __future__ import annotations

import re

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.asgi.support import client_of, lose, store_with
from tests.support import connected, mock_trio
from tideover.asgi import status_app
from tideover.asgi.status_page import pulse
from tideover.asgi.status_page.query import Query

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on a mock clock."""
    return mock_trio()


def keys_on(html: str) -> list[str]:
    """Return the keys that a page shows."""
    return re.findall(r'scope="row"><code>(.*?)</code>', html.partition('id="f-keys"')[2].partition("pager")[0])


async def test_a_filter_and_a_page_choose_the_keys() -> None:
    """100 keys a page, in order, with links to the pages beside it that keep the filter."""
    store = await store_with(**{f"a__{number:03}": "1" for number in range(250)}, b="1")
    async with connected(store) as tide:
        async with client_of(status_app(tide, authorize=lambda scope: True)) as client:
            first = (await client.get("/")).text
            assert "1 to 100 of 251 <a" in first
            assert 'href="?page=2"' in first
            assert 'rel="prev"' not in first
            second = (await client.get("/?page=2&keys=a/")).text
            assert "101 to 200 of 250 that match, of 251" in second
            assert 'href="?keys=a%2F&amp;page=1"' in second
            assert 'href="?keys=a%2F&amp;page=3"' in second
            assert keys_on(second) == [f"a/{number:03}" for number in range(100, 200)]
            assert 'value="a/"' in second
            last = (await client.get("/?page=3")).text
            assert keys_on(last)[-1] == "b"
            assert 'rel="next"' not in last
            assert "0 of 251" in (await client.get("/?page=99")).text
            assert "0 of 251" in (await client.get("/?keys=nothing")).text


async def test_status_json_is_asked_for_again_with_its_tag() -> None:
    """304 as long as no fact has changed, though ages have grown; another tag in an outage."""
    store = await store_with(rate="1")
    async with connected(store) as tide, client_of(status_app(tide, authorize=lambda scope: True)) as client:
        await anyio.sleep(20)
        first = await client.get("/status.json")
        tag = first.headers["etag"]
        await anyio.sleep(5)
        again = await client.get("/status.json", headers={"if-none-match": f'"other", {tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert re.fullmatch(r"\d\d:\d\d:\d\d", again.headers["tideover-as-of"])
        lose(store)
        await anyio.sleep(15)
        other = await client.get("/status.json", headers={"if-none-match": tag})
        assert (first.json()["state"], other.status_code, other.json()["state"]) == (
            "available",
            200,
            "unavailable",
        )


async def test_a_tick_touches_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as no key, source or minute has changed, the list is gathered for nobody."""
    async with connected(await store_with(rate="1")) as tide:
        looked = 0
        config_keys = tide.config_keys

        def counted(*args: object, **options: object) -> object:
            nonlocal looked
            looked += 1
            return config_keys(*args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(tide, "config_keys", counted)
        shared = pulse.Pulse(title=None, window=3600.0)
        for _ in range(30):
            shared.frame(tide, Query())
            await anyio.sleep(1)
        assert looked == 1
        await tide.config.put("rate", "2")
        await anyio.sleep(2)
        shared.frame(tide, Query())
        assert looked == 2


async def test_ages_of_a_list_that_is_kept_go_on() -> None:
    """A list that is not gathered again says how old its prefix is now, on the page and among the ages sent."""
    store = await store_with(rate="1")
    async with connected(store) as tide:
        lose(store)
        await anyio.sleep(70)
        shared = pulse.Pulse(title=None, window=3600.0)
        before = shared.frame(tide, Query())
        await anyio.sleep(15)
        after = shared.frame(tide, Query())
        [first], [later] = before.fragments["keys"].ages.seconds, after.fragments["keys"].ages.seconds
        assert first is not None
        assert later == pytest.approx(first + 15, abs=0.2)
        assert f'data-age="{later}"' in after.fragments["keys"].html
        assert before.fragments["keys"].version == after.fragments["keys"].version


async def test_filters_of_many_viewers_are_not_kept_for_ever() -> None:
    """However many filters are asked for, few lists are remembered."""
    async with connected(await store_with(rate="1")) as tide:
        shared = pulse.Pulse(title=None, window=3600.0)
        for number in range(500):
            shared.frame(tide, Query(str(number)))
        assert len(shared._keys) == pulse._MOST_LISTS


@given(st.binary(max_size=300))
def test_any_query_asks_for_something(raw: bytes) -> None:
    """Whatever stands in it, there is a page of at least 1 and a filter of at most 200 characters."""
    query = Query.of({"query_string": raw})
    assert query.page >= 1
    assert len(query.text) <= 200
    query.link(2).encode("ascii")


@pytest.mark.parametrize("page", ["0", "-1", "1e9", "9" * 5000, "٣", "", "1.5"])
def test_a_page_that_is_none_is_the_first(page: str) -> None:
    """A mistyped address shows keys, not an error."""
    assert Query.of({"query_string": f"page={page}".encode()}).page == 1
