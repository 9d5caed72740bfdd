"""The status page in a real browser, on a service whose cluster loses its quorum."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.browser.conftest import LOOKS, Shop
from tideover.asgi.status_page.ages import worded
from tideover.asgi.status_page.templates import SCRIPT

# Milliseconds: an outage is declared after 3 s; the machine may be slow.
_SOON = 20_000


@contextmanager
def opened(browser: Browser, shop: Shop, **options: Any) -> Iterator[Page]:
    """Open the page; nothing may go wrong in it, and nothing may be asked of anybody else."""
    context = browser.new_context(**{**LOOKS["light"], **options})
    page, wrong = context.new_page(), list[str]()
    page.on(
        "console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("request", lambda each: None if each.url.startswith(shop.service.url) else wrong.append(each.url))
    page.set_default_timeout(_SOON)
    answer = page.goto(shop.page, wait_until="domcontentloaded")
    assert answer is not None
    assert answer.ok, answer.text()
    if options.get("java_script_enabled", True):
        # It is the same document as long as this is there.
        page.evaluate("window.opened = true")
        page.wait_for_selector("#fresh:has-text('updates live')")
    yield page
    context.close()
    assert not [each for each in wrong if "net::ERR_" not in each and "Failed to load" not in each], wrong


def state_is(page: Page, state: str) -> None:
    """Wait for a state, of a page that is not loaded again."""
    page.wait_for_selector(f"body.is-{state}", timeout=_SOON)


@contextmanager
def without_quorum(shop: Shop) -> Iterator[None]:
    """Have no quorum for the length of a block."""
    shop.cluster.lose_quorum()
    try:
        yield
    finally:
        shop.cluster.restore_quorum()


def test_an_outage_is_seen_without_a_reload(browser: Browser, shop: Shop) -> None:
    """The sentence, the bar, the title, the lists and the ages change by themselves, and change back."""
    with opened(browser, shop) as page:
        assert page.text_content("h1") == "etcd answers."
        with without_quorum(shop):
            state_is(page, "degraded")
            page.wait_for_selector("h1:has-text('no quorum')", timeout=_SOON)
            assert page.title() == "shop: DEGRADED - tideover"
            assert "degraded" in (page.text_content("#f-bar") or "")
            assert page.text_content("#works") == "Still works"
            assert page.locator("#f-works .bad").count() > 0
            assert page.locator("link[rel=icon]").get_attribute("href") == "./status/degraded.svg"
            assert page.locator(".tide .level-warn").count() >= 1
            outage = page.text_content(".facts code")
            assert f'"{outage}"' in page.input_value("#query")
            before = page.text_content(".facts .age")
            page.wait_for_timeout(2500)
            assert page.text_content(".facts .age") != before
        state_is(page, "available")
        page.wait_for_selector("h1:text-is('etcd answers.')", timeout=_SOON)
        assert page.text_content(".facts code") == outage
        assert page.evaluate("window.opened")


def test_without_a_script_it_reloads(browser: Browser, shop: Shop) -> None:
    """With JavaScript off an outage and its end are seen within a few reloads."""
    with opened(browser, shop, java_script_enabled=False) as page:
        assert "reloads every 5 s" in (page.text_content("#fresh") or "")
        with without_quorum(shop):
            page.wait_for_selector("body.is-degraded h1:has-text('no quorum')", timeout=_SOON)
        page.wait_for_selector("body.is-available", timeout=_SOON)


def test_a_page_that_hears_nothing_says_so(browser: Browser, shop: Shop) -> None:
    """While the process stands still the page calls itself old, and its ages stop; then it is live again."""
    with opened(browser, shop) as page:
        shop.pause()
        try:
            page.wait_for_selector("body.is-stale", timeout=30_000)
            assert (page.text_content("#fresh") or "").startswith("not updated since ")
            before = page.text_content(".facts .age")
            page.wait_for_timeout(2500)
            assert page.text_content(".facts .age") == before
        finally:
            shop.go_on()
        page.wait_for_selector("body:not(.is-stale)", timeout=_SOON)
        assert page.evaluate("window.opened")


def test_what_the_reader_does_is_kept(browser: Browser, shop: Shop) -> None:
    """Focus, what is typed, and a selection survive the swap of a fragment; a selected fragment waits for it."""
    with opened(browser, shop) as page:
        page.fill("#keys-filter", "pri")
        page.evaluate("document.querySelector('#keys-filter').setSelectionRange(1, 2)")
        page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
        page.focus("#keys-filter")
        page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
        with without_quorum(shop):
            page.wait_for_selector("#f-bar:has-text('degraded')", timeout=_SOON)
            assert page.text_content("h1") == "etcd answers."
            page.evaluate("getSelection().removeAllRanges()")
            page.wait_for_selector("h1:has-text('no quorum')", timeout=_SOON)
            assert page.input_value("#keys-filter") == "pri"
            page.focus("#query")
            state_is(page, "degraded")
        page.wait_for_selector("h1:text-is('etcd answers.')", timeout=_SOON)
        assert page.evaluate("document.activeElement.id") == "query"


def test_keys_are_filtered_without_a_reload(browser: Browser, shop: Shop) -> None:
    """The list follows the filter, the address too, so that it can be passed on; and without a script as well."""
    with opened(browser, shop) as page:
        page.fill("#keys-filter", "espresso")
        page.press("#keys-filter", "Enter")
        page.wait_for_selector("#f-keys:has-text('1 to 1 of 1')")
        assert page.url.endswith("?keys=espresso")
        assert page.evaluate("window.opened")
        assert page.locator("#f-keys code:text-is('prices/decaf')").count() == 0
    with opened(browser, shop, java_script_enabled=False) as page:
        page.fill("#keys-filter", "decaf")
        page.press("#keys-filter", "Enter")
        page.wait_for_selector("#f-keys:has-text('1 to 1 of 1')")
        assert page.input_value("#keys-filter") == "decaf"


def test_text_of_others_is_text(browser: Browser, shop: Shop) -> None:
    """Markup and control characters in keys and endpoints are shown, and nothing of them runs."""
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m"
    shop.cluster.etcdctl("put", f"/shop/config/features/{evil}", "CANARY-value")
    shop.cluster.etcdctl("put", f"/shop/services/billing/{'%3Cscript%3Ealert(3)%3C%2Fscript%3E'}/1", evil)
    shop.cluster.etcdctl("put", "/shop/config/features/" + "\"'\x07" * 1300, "1")
    try:
        with opened(browser, shop) as page:
            page.wait_for_selector("#f-keys code:has-text('<script>alert(1)</script>')")
            page.wait_for_selector("#f-keys code:has-text('\\\\x1b[31m')")
            assert page.locator("script").count() == 1
            assert page.locator("img").count() == 0
            assert "CANARY" not in page.content()
            width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert width <= 0
    finally:
        shop.cluster.etcdctl("del", "--prefix", "/shop/config/features/<")
        shop.cluster.etcdctl("del", "--prefix", '/shop/config/features/"')
        shop.cluster.etcdctl("del", "--prefix", "/shop/services/billing/%3C")


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_serious(browser: Browser, shop: Shop, look: str) -> None:
    """In all colours and on a phone, in each of the three states; and nothing is wider than the screen."""
    with opened(browser, shop, **LOOKS[look]) as page:
        state_is(page, "available")
        check(page, look)
        with without_quorum(shop):
            state_is(page, "degraded")
            page.wait_for_selector("h1:has-text('no quorum')", timeout=_SOON)
            check(page, look)
        shop.cluster.kill_all()
        try:
            state_is(page, "unavailable")
            check(page, look)
        finally:
            shop.cluster.start_all()


def check(page: Page, look: str) -> None:
    """Run axe."""
    # The band changes its colour in a quarter of a second.
    page.wait_for_timeout(400)
    found = Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert not serious, [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in serious]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), look


def test_it_can_be_used_by_keyboard(browser: Browser, shop: Shop) -> None:
    """Tab reaches the skip link first, then all else, each with a visible outline; the query is selected whole."""
    with opened(browser, shop) as page:
        with without_quorum(shop):
            page.wait_for_selector("#query", timeout=_SOON)
        page.evaluate("document.body.focus()")
        seen: list[str] = []
        for _ in range(40):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                """() => { const e = document.activeElement; const s = getComputedStyle(e);
                return [e.id || e.textContent.trim(), parseFloat(s.outlineWidth), e.tagName,
                        e.getBoundingClientRect().height]; }"""
            )
            if focused[2] == "BODY":
                break
            seen.append(focused[0])
            assert focused[1] >= 3, focused
            if focused[0] == "query":
                assert page.evaluate("getSelection().toString()").startswith("{span.tideover.outage_id=")
        assert seen[0] == "Skip to the primitives"
        assert {"Primitives", "Config", "query", "keys-filter", "Filter", "status.json"} <= set(seen)
        page.focus(".skip")
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#primitives"


def test_nothing_moves_while_ages_tick(browser: Browser, shop: Shop) -> None:
    """Ten seconds of ticks and events shift no element."""
    with opened(browser, shop) as page:
        page.wait_for_timeout(1500)
        page.evaluate(
            """() => { window.shifted = 0; new PerformanceObserver(list => {
            for (const entry of list.getEntries()) window.shifted += entry.value; })
            .observe({ type: 'layout-shift' }); }"""
        )
        page.wait_for_timeout(10_000)
        assert page.evaluate("window.shifted") == 0


def test_browser_and_server_word_ages_alike(browser: Browser, shop: Shop) -> None:
    """The script says what the server renders, in each form, so that nothing jumps at the first tick."""
    cases = [
        (seconds, form)
        for form in ("for", "old", "ago", "so far", "in", "left", "due")
        for seconds in (-133.2, -0.4, 0, 0.9, 1, 59.9, 60, 133.5, 3599, 3600, 7384, 172799, 172800, 900000.7)
    ]
    functions = "".join(re.findall(r"  function (?:span|worded)\(.*?\n  \}\n", SCRIPT, re.DOTALL))
    with opened(browser, shop) as page:
        said = page.evaluate(f"cases => {{ {functions} return cases.map(c => worded(c[0], c[1])); }}", cases)
    assert said == [worded(seconds, form) for seconds, form in cases]  # type: ignore[arg-type] # from a literal


def test_the_page_asks_again_where_there_are_no_events(browser: Browser, shop: Shop) -> None:
    """Without the extra, or with too many viewers, an outage is seen all the same, without a reload."""
    context = browser.new_context()
    page = context.new_page()
    page.route("**/events*", lambda route: route.fulfill(status=503))
    page.goto(shop.page, wait_until="domcontentloaded")
    page.evaluate("window.opened = true")
    page.wait_for_selector("#fresh:has-text('looks every 5 s')")
    with without_quorum(shop):
        state_is(page, "degraded")
        assert page.evaluate("window.opened")
    state_is(page, "available")
    context.close()
