"""The fixtures run under whatever runs the tests: each way in a pytest of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"

# One module for all of them: `{mark}` says who runs its coroutines.
_MODULE = """
import pytest

from tideover import LockUnavailable, Source
from tideover.testing import MemoryStore, declare_outage, overriding

mark = {mark}


@pytest.fixture
def tide_store():
    return MemoryStore(values={{"a": 1.5}})


@mark
async def test_tide(tide):
    assert tide.config.read("a", float).source is Source.LIVE
    await tide.config.put("b", 1)
    async with tide.lock("x"):
        with overriding(tide, {{"a": 2}}):
            assert tide.config.get("a", float) == 2.0
    async with declare_outage(tide):
        assert tide.config.read("a", float).source is Source.MEMORY
    assert tide.config.read("a", float).source is Source.LIVE


@mark
async def test_outage(tide, tide_outage):
    with pytest.raises(LockUnavailable):
        async with tide.lock("x"):
            pass
    await tide_outage.recovered()
    async with tide.lock("x"):
        pass


@mark
async def test_left_away(tide_outage, tide):
    assert tide.config.read("a", float).source is Source.MEMORY


def test_plain(tide):
    with overriding(tide, {{"a": 2}}), declare_outage(tide):
        assert tide.config.get("a", float) == 2.0
    assert tide.config.read("a", float).source is Source.LIVE


def test_plain_outage(tide, tide_outage):
    assert tide.config.read("a", float).source is Source.MEMORY
    tide_outage.end()
    assert tide.config.read("a", float).source is Source.LIVE
"""
_ASYNCIO = ("-p", "asyncio", "-o", "asyncio_default_fixture_loop_scope=function")
_ANYIO = ("-p", "anyio")


def run(folder: Path, *options: str, **modules: str) -> str:
    """Run modules in a pytest that has only the plugins it is told of, warnings as errors; return what it says."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    plugins = ["-p", "tideover_pytest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", *options, *plugins, str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("options", "mark", "passed"),
    [
        (_ANYIO, "pytest.mark.anyio", 8),  # on asyncio and on trio
        (_ASYNCIO, "pytest.mark.asyncio", 5),
        ((*_ANYIO, *_ASYNCIO), 'pytest.mark.asyncio(loop_scope="module")', 5),
        ((*_ASYNCIO, "--asyncio-mode=auto"), "lambda test: test", 5),
        (
            (*_ASYNCIO, "--asyncio-mode=auto", "-o", "asyncio_default_test_loop_scope=session"),
            "lambda test: test",
            5,
        ),
    ],
    ids=["anyio", "asyncio", "asyncio-module", "auto", "auto-session"],
)
def test_who_runs_the_tests_has_the_coordinator(
    tmp_path: Path, options: tuple[str, ...], mark: str, passed: int
) -> None:
    """`tide` and `tide_outage` live in the loop that runs the test; a plain function has them in a thread."""
    assert f"{passed} passed" in run(tmp_path, *options, test_it=_MODULE.format(mark=mark))


def test_applications_under_both_clients(tmp_path: Path) -> None:
    """A `tide` of one's own is the application's under a test client; `ASGITransport` shares the fixture's."""
    text = """
        import httpx
        import pytest
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Route
        from starlette.testclient import TestClient

        import tideover
        from tideover.asgi import TideoverMiddleware
        from tideover.testing import MemoryStore, declare_outage, overriding

        def make_app(**options):
            async def endpoint(request):
                async with tideover.lock("x"):
                    return PlainTextResponse(tideover.current().config.get("a"))

            routes = [Route("/", endpoint)]
            return TideoverMiddleware(Starlette(routes=routes), status_header=True, **options)

        class TestClientInAThread:
            @pytest.fixture
            def client(self):
                store = MemoryStore(values={"a": "etcd"})
                with TestClient(make_app(store=store), raise_server_exceptions=False) as client:
                    yield client

            @pytest.fixture
            def tide(self, client):
                return tideover.current()

            def test_values(self, client, tide):
                with overriding(tide, {"a": "mine"}):
                    assert client.get("/").text == "mine"
                assert client.get("/").text == "etcd"

            def test_outage(self, client, tide_outage):
                assert client.get("/").status_code == 500
                tide_outage.end()
                assert client.get("/").text == "etcd"

        @pytest.mark.anyio
        class TestTransport:
            @pytest.fixture
            async def client(self, tide):
                transport = httpx.ASGITransport(make_app(coordinator=tide), raise_app_exceptions=False)
                async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                    yield client

            async def test_values(self, client, tide):
                with overriding(tide, {"a": "mine"}):
                    assert (await client.get("/")).text == "mine"
                await tide.config.put("a", "etcd")
                assert (await client.get("/")).text == "etcd"

            async def test_outage(self, client, tide):
                with overriding(tide, {"a": "mine"}):
                    async with declare_outage(tide):
                        assert (await client.get("/")).status_code == 500
                    answer = await client.get("/")
                    assert (answer.text, "tideover-status" in answer.headers) == ("mine", False)
    """
    assert "6 passed" in run(tmp_path, *_ANYIO, test_it=text)


def test_the_plugin_costs_nothing_unused(tmp_path: Path) -> None:
    """A project that uses none of the fixtures does not import tideover."""
    text = """
        import json
        import sys

        def test_it():
            print(json.dumps(sorted(name for name in sys.modules if name.startswith("tideover"))))
    """
    said = run(tmp_path, "-s", test_it=text)
    assert json.loads(said.splitlines()[0].rstrip(".")) == ["tideover_pytest"]
