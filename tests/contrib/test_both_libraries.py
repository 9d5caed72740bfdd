"""httpx and httpx2 side by side, mixed up, and each alone."""

from __future__ import annotations

import subprocess
import sys

import httpx
import httpx2
import pytest

from tideover.contrib import httpx as for_httpx
from tideover.contrib import httpx2 as for_httpx2

# A request to a service by a client of the one library, with what `contrib` has for the other.
_CALL = """
import sys
import anyio, importlib
from tideover import connect
from tideover.discovery.endpoint import Endpoint
from tideover.store.operations import Put
from tideover.testing import MemoryStore

client, ours = importlib.import_module("{client}"), importlib.import_module("tideover.contrib.{ours}")

async def main():
    store, here = MemoryStore(), Endpoint("http://10.0.0.1:81/v1", 1.0, {{}}, "0", "one", "billing")
    await store.call(Put(f"/{{here.key}}".encode(), here.encode()), member=store.members[0], timeout=1)
    answer = client.MockTransport(lambda request: client.Response(200, text=str(request.url)))
    async with connect(store=store, cache_dir=False) as tide:
        async with client.AsyncClient(transport=ours.DiscoveryTransport(tide, transport=answer)) as asynchronous:
            print((await asynchronous.get("http://billing.service/a")).text)
        with client.Client(transport=ours.SyncDiscoveryTransport(tide, transport=answer)) as synchronous:
            print(synchronous.get("http://billing.service/b").text)

anyio.run(main)
"""


def run(code: str) -> str:
    """Return what a process prints that does nothing else."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("library", "other"), [("httpx", "httpx2"), ("httpx2", "httpx")])
def test_each_library_works_alone(library: str, other: str) -> None:
    """Where the other one cannot be imported, requests reach their endpoint."""
    blocked = f"import sys; sys.modules[{other!r}] = None\n"
    assert run(blocked + _CALL.format(client=library, ours=library)).split() == [
        "http://10.0.0.1:81/v1/a",
        "http://10.0.0.1:81/v1/b",
    ]


@pytest.mark.skipif(not hasattr(httpx2, "alias_httpx"), reason="this httpx2 stands in for nobody")
@pytest.mark.parametrize("ours", ["httpx", "httpx2"])
def test_httpx2_may_stand_in_for_httpx(ours: str) -> None:
    """After `httpx2.alias_httpx()` both modules serve clients of what `import httpx` then gives."""
    aliased = "import httpx2; httpx2.alias_httpx()\n"
    assert len(run(aliased + _CALL.format(client="httpx", ours=ours)).split()) == 2


async def mixed_up(client: type[httpx.AsyncClient] | type[httpx2.AsyncClient], transport: object) -> str:
    """Return what a client says of a transport."""
    async with client(transport=transport) as calling:  # type: ignore[arg-type]
        with pytest.raises(TypeError) as raised:
            await calling.get("http://billing.service/")
    return str(raised.value)


@pytest.mark.anyio
async def test_a_client_of_the_other_library_is_told() -> None:
    """A transport raises at the first request of the other library's client, and names both and the right one."""
    assert await mixed_up(httpx2.AsyncClient, for_httpx.DiscoveryTransport()) == (
        "DiscoveryTransport is for httpx, and was given Request of httpx2, which shares no class with it: "
        "tideover.contrib.httpx2 has the same for httpx2"
    )
    assert await mixed_up(httpx.AsyncClient, for_httpx2.DiscoveryTransport()) == (
        "DiscoveryTransport is for httpx2, and was given Request of httpx, which shares no class with it: "
        "tideover.contrib.httpx has the same for httpx"
    )


def test_a_client_without_async_is_told_as_well() -> None:
    """The same for clients without async."""
    for client, transport in (
        (httpx2.Client, for_httpx.SyncDiscoveryTransport()),
        (httpx.Client, for_httpx2.SyncDiscoveryTransport()),
    ):
        with client(transport=transport) as calling:  # type: ignore[arg-type]
            with pytest.raises(TypeError, match=r"SyncDiscoveryTransport is for httpx.*shares no class"):
                calling.get("http://example.org/")


def test_a_transport_of_the_other_library_is_refused() -> None:
    """What sends the requests is of the same library, or of none; else making the transport raises."""
    with pytest.raises(TypeError, match="was given AsyncHTTPTransport of httpx2"):
        for_httpx.DiscoveryTransport(transport=httpx2.AsyncHTTPTransport())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="MockTransport of httpx, which"):
        for_httpx2.SyncDiscoveryTransport(transport=httpx.MockTransport(lambda _: httpx.Response(200)))  # type: ignore[arg-type]
    assert repr(for_httpx.DiscoveryTransport()).startswith("<DiscoveryTransport by ")
