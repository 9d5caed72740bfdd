"""Who gets which answer of the status page, and under which headers."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import importlib.util
import json
import logging
import re
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Scope

from tests.asgi.support import client_of, serving, store_with
from tideover import connect
from tideover.asgi import TideoverMiddleware, status_app
from tideover.request_record import current_record
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio

PATH = "/_tideover/status"


def mounted(store: MemoryStore, **options: Any) -> TideoverMiddleware:
    """Put the page in front of an application that answers everything with its own name."""

    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"the application: {request.url.path}")

    routes = [Route("/{rest:path}", answer)]
    return TideoverMiddleware(Starlette(routes=routes), store=store, cache_dir=False, status=PATH, **options)


async def test_the_page_is_mounted_where_it_was_asked_for() -> None:
    """The path and what is below it are the page's, everything else the application's, with its record."""
    async with serving(mounted(await store_with(rate="1"))) as client:
        for path in (PATH, f"{PATH}/"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert "etcd answers" in answer.text
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
        for path in ("/", "/_tideover", f"{PATH}x", "/status"):
            assert (await client.get(path)).text == f"the application: {path}"


async def test_links_are_relative_to_the_page() -> None:
    """With and without the slash at its end links lead to the page, also behind a proxy that rewrites paths."""
    async with serving(mounted(await store_with(rate="1"))) as client:
        for path, base in ((PATH, "./status/"), (f"{PATH}/", "")):
            text = (await client.get(path)).text
            assert f'href="{base}status.json"' in text
            assert f'data-base="{base}"' in text
            assert (
                await client.get(str(httpx.URL(f"http://test{path}").join(f"{base}status.json")))
            ).status_code == 200


async def test_without_being_asked_for_there_is_no_page() -> None:
    """The middleware mounts nothing by itself."""
    app = TideoverMiddleware(Starlette(), store=await store_with(rate="1"), cache_dir=False)
    async with serving(app) as client:
        assert (await client.get(PATH)).status_code == 404


@pytest.mark.parametrize("option", ["status", "health"])
@pytest.mark.parametrize("path", ["", "/", "//", "status"])
async def test_a_path_that_is_none_is_refused(path: str, option: str) -> None:
    """A mount at the root would hide the application, whatever is mounted."""
    with pytest.raises(ValueError, match=f"^{option}: "):
        TideoverMiddleware(Starlette(), store=MemoryStore(), **{option: path})  # type: ignore[arg-type]


async def test_a_slash_at_the_end_of_its_path_means_nothing() -> None:
    """As with `health` and `exclude_paths`."""
    app = TideoverMiddleware(Starlette(), store=await store_with(rate="1"), cache_dir=False, status="/status/")
    async with serving(app) as client:
        for path in ("/status", "/status/", "/status/status.json"):
            assert (await client.get(path)).status_code == 200


async def test_what_is_refused_is_a_problem() -> None:
    """As everywhere in tideover: JSON with a page of the documentation, or plain text; HEAD without a body."""
    async with serving(mounted(await store_with(rate="1"))) as client:
        answer = await client.get(f"{PATH}/nothing")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers.get_list("cache-control") == ["no-store"]
        told = answer.json()
        assert (told["status"], told["detail"], told["instance"]) == (404, "not found", f"{PATH}/nothing")
        assert told["type"].endswith("how-to/status-page/")
        plain = await client.get(f"{PATH}/nothing", headers={"accept": "text/plain"})
        assert plain.text == "404 Not Found: not found\n"
        assert (await client.head(f"{PATH}/nothing")).content == b""


async def test_requests_to_the_page_have_no_record() -> None:
    """They are no requests of the application: nothing is marked, and nothing counted."""
    seen: list[object] = []

    def authorize(scope: Scope) -> bool:
        seen.append(current_record.get())
        return True

    async with connect(store=await store_with(rate="1"), cache_dir=False) as tide:
        async with client_of(status_app(tide, authorize=authorize)) as client:
            assert (await client.get("/")).status_code == 200
    assert seen == [None]


async def test_it_can_be_mounted_by_hand() -> None:
    """Within the application it shows the middleware's coordinator, wherever the framework mounts it."""
    routes = [Mount("/status/{tenant}", app=status_app(authorize=lambda scope: True, title="the shop"))]
    app = TideoverMiddleware(Starlette(routes=routes), store=await store_with(rate="1"), cache_dir=False)
    async with serving(app) as client:
        answer = await client.get("/status/%22%3E%0d%3Ch1%3E/")
        assert answer.status_code == 200
        assert "the shop: available - tideover" in answer.text
        assert 'href="status.json"' in answer.text
        assert (await client.get("/status/b/status.json")).json()["state"] == "available"


async def test_without_a_coordinator_it_says_so() -> None:
    """503, never an error of the server."""
    async with client_of(status_app(authorize=lambda scope: True)) as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    async with client_of(status_app(connect(store=MemoryStore()), authorize=lambda scope: True)) as client:
        assert (await client.get("/")).status_code == 503


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"])
async def test_it_is_only_looked_at(method: str) -> None:
    """GET and HEAD alone; for all else 405, also where nothing is."""
    async with serving(mounted(await store_with(rate="1"))) as client:
        for path in ("", "/", "/events", "/status.json", "/nothing"):
            answer = await client.request(method, PATH + path)
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_head_is_get_without_a_body() -> None:
    """Same status, same length, and a stream that ends at once."""
    async with serving(mounted(await store_with(rate="1"))) as client:
        for path in ("/", "/degraded.svg", "/nothing"):
            head, get = await client.head(PATH + path), await client.get(PATH + path)
            assert (head.status_code, head.content) == (get.status_code, b"")
            assert head.headers["content-type"] == get.headers["content-type"]
        assert (await client.head(f"{PATH}/status.json")).headers["content-type"] == "application/json"


async def test_every_answer_forbids_what_it_does_not_need() -> None:
    """Page, JSON, icon and refusals alike; the page's own style and script are admitted by their hashes alone."""
    async with serving(mounted(await store_with(rate="1"))) as client:
        for path in ("", "/status.json", "/available.svg", "/nothing"):
            headers = (await client.get(PATH + path)).headers
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-frame-options"] == "DENY"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
        answer = await client.get(PATH)
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        [inline] = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in answer.headers["content-security-policy"]
    assert not re.search(
        r"\son\w+=|\sstyle=|javascript:|https?://(?!www\.w3\.org)", answer.text.split("<style>")[0]
    )


async def test_who_is_not_admitted_sees_no_page() -> None:
    """404 for everything, by a function and by a coroutine function; a page that is guarded is not warned of."""

    async def later(scope: Scope) -> bool:
        await asyncio.sleep(0)
        return dict(scope["headers"]).get(b"authorization") == b"yes"

    def at_once(scope: Scope) -> bool:
        return dict(scope["headers"]).get(b"authorization") == b"yes"

    checks: list[Callable[[Scope], bool | Awaitable[bool]]] = [later, at_once]
    async with connect(store=await store_with(rate="1"), cache_dir=False) as tide:
        for authorize in checks:
            async with client_of(status_app(tide, authorize=authorize)) as client:
                for path in ("/", "/events", "/status.json", "/available.svg"):
                    for method in ("GET", "POST"):
                        answer = await client.request(method, path)
                        assert (answer.status_code, answer.json()["detail"]) == (404, "not found")
                assert (await client.get("/", headers={"authorization": "yes"})).status_code == 200


async def test_an_open_page_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """One line for the mount, not one for each request; none where `authorize` is given."""
    with caplog.at_level(logging.WARNING, "tideover"):
        status_app(authorize=lambda scope: True)
        assert not caplog.records
        async with serving(mounted(await store_with(rate="1"))) as client:
            await client.get(PATH)
            await client.get(PATH)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["tideover.status.open"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"coordinator": "127.0.0.1:2379"}, TypeError),
        ({"authorize": True}, TypeError),
        ({"window": 59}, ValueError),
        ({"window": 3601}, ValueError),
    ],
)
async def test_wrong_options_are_found_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    """When the application is built, not when somebody looks."""
    with pytest.raises(error):
        status_app(**options)


async def test_without_jinja2_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra; `tideover.asgi` itself can be imported without it."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jinja2" else find(name))
    with pytest.raises(ImportError, match=r"tideover\[status\]"):
        status_app()


async def test_no_value_is_anywhere() -> None:
    """Neither one that is served nor one that is refused is on the page, in a fragment or in the JSON."""
    async with connect(store=await store_with(secret="CANARY-1", limit="CANARY-2"), cache_dir=False) as tide:
        assert tide.config.get("secret") == "CANARY-1"
        assert tide.config.get("limit", int, default=0) == 0
        async with client_of(status_app(tide, authorize=lambda scope: True)) as client:
            for path in ("/", "/status.json"):
                text = (await client.get(path)).text
                assert "limit" in text
                assert "CANARY" not in text


async def test_what_load_balancers_are_told_is_said() -> None:
    """As the health endpoints of the same process answer, so that nobody has to ask them by hand."""
    app = mounted(await store_with(rate="1"), health="/health")
    async with serving(app) as client:
        tide = app._plan.of({"type": "http"})
        async with tide.leader("reaper"):
            text = (await client.get(PATH)).text
            for path in ("readyz", "livez", "leader/reaper"):
                status = (await client.get(f"/health/{path}")).status_code
                assert f"<code>{path}</code>&nbsp;{status}" in text


async def test_a_coordinator_that_is_closed_is_not_kept() -> None:
    """A page outlives coordinators, as with each new start of an application object, and holds none of them."""
    app = status_app(authorize=lambda scope: True)
    async with connect(store=await store_with(rate="1"), cache_dir=False) as tide:
        async with client_of(app) as client:
            assert (await client.get("/")).status_code == 200
    gone = weakref.ref(tide)
    del tide
    await asyncio.sleep(0)
    gc.collect()
    assert gone() is None


async def test_the_report_is_bounded_and_its_cuts_are_counted() -> None:
    """More than 1,000 items of one list are cut, and `cut` says how many there were."""
    from tideover.asgi.status_page.report_json import to_json

    class Report:
        def to_dict(self) -> dict[str, object]:
            return {"locks": [{"name": "x" * 5000}] * 1500, "fine": [1], "inner": {"list": list(range(1001))}}

    document = json.loads(to_json(Report()))  # type: ignore[arg-type] # all that it asks of a report
    assert (len(document["locks"]), len(document["fine"])) == (1000, 1)
    assert document["cut"] == {"locks": 1500, "inner.list": 1001}
    assert len(document["locks"][0]["name"]) == 2003


async def ask(
    app: ASGIApp, method: str, path: str, query: bytes, header: tuple[bytes, bytes], root: str
) -> list[Message]:
    """Ask by hand, so that any bytes may be sent; the client is gone at once."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": root,
        "query_string": query,
        "headers": [header],
    }
    await app(scope, receive, send)
    return sent


async def test_a_mount_of_any_name_has_links() -> None:
    """What a framework took from the path to mount the page is no markup, and no other place, in its links."""
    async with connect(store=await store_with(rate="1"), cache_dir=False) as tide:
        app = status_app(tide, authorize=lambda scope: True)
        root = '/a/?b"#c:d\r\n'
        _, body = await ask(app, "GET", root, b"", (b"host", b"test"), root)
    assert b'href="./%3Fb%22%23c%3Ad%0D%0A/status.json"' in body["body"]


_names = st.sampled_from(["/", "/events", "/status.json", "/available.svg", "/../", "//evil", "/\r\nx: y"])
_evil = st.sampled_from(
    [b"<script>alert(1)</script>", b"\r\nSet-Cookie: a=b", b'"><img src=x>', b"\x00\x1b[31m", b"%0d%0a"]
)
_bytes = st.binary(max_size=60) | _evil


_requests = st.tuples(
    st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "\r\n"]),
    _names | st.text(max_size=40).map(lambda text: f"/{text}"),
    st.builds(lambda key, value: key + b"=" + value, st.sampled_from([b"keys", b"page", b"x"]), _bytes) | _bytes,
    st.tuples(st.sampled_from([b"if-none-match", b"host", b"accept", b"x-forwarded-prefix"]), _bytes),
    st.booleans(),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests=st.lists(_requests, min_size=1, max_size=10))
def test_nothing_that_arrives_is_an_error_or_comes_back(
    requests: list[tuple[str, str, bytes, tuple[bytes, bytes], bool]],
) -> None:
    """Any path, query and header: no error, no status of 500, no header of others, no markup of others."""

    async def check() -> None:
        async with connect(store=await store_with(rate="1"), cache_dir=False) as tide:
            app = status_app(tide, authorize=lambda scope: True)
            for method, path, query, header, mounted in requests:
                start, *bodies = await ask(app, method, path, query, header, path if mounted else "")
                assert start["status"] in (200, 304, 404, 405)
                for name, value in start["headers"]:
                    assert not re.search(rb"[\r\n\x00]", name + value)
                    assert b"set-cookie" not in name
                body = b"".join(each.get("body", b"") for each in bodies)
                assert len(body) < 200_000
                assert not re.search(rb"<script>alert|<img src=x|\x1b|\x00", body)

    asyncio.run(check())
