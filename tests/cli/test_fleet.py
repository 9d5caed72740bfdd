"""`tideover fleet`: one row for each instance, whatever answers there, and what disagrees."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.asgi.support import client_of, lose
from tests.cli.test_resolve_from_disk import save
from tests.etcd.ways import Answer, listening, saying, silent
from tests.support import connected, mock_trio
from tideover import Coordinator, HealthState, Source
from tideover.asgi import HealthApp
from tideover.cli.app import run
from tideover.cli.fleet import _compare
from tideover.cli.fleet_asking import Asker
from tideover.cli.fleet_rules import Led, Row, disagreements, read, table
from tideover.discovery.endpoint import Endpoint
from tideover.foreign_bytes import Malformed
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio


def document(**fields: Any) -> dict[str, Any]:
    """Return what an instance that is well answers, with some fields changed."""
    part = {"status": "pass", "observedValue": "live", "source": "live", "age": 1.5, "componentId": ""}
    return {
        "status": "pass",
        "version": "1.2.3",
        "output": "etcd is available.",
        "process": "web-1:7",
        "state": "available",
        "diagnosis": "healthy",
        "since": "2026-11-30T03:12:52+00:00",
        "outage_id": None,
        "cluster_id": "1f",
        "epoch": 2,
        "revision": 90,
        "checks": {
            "config": [part, {**part, "observedValue": "memory", "source": "memory", "age": 42}],
            "election": [{"componentId": "reaper", "observedValue": "held", "token": 5}, {"componentId": "other"}],
            "lock": [{"observedValue": "obtainable"}, {"componentId": "orders/1", "token": 9}],
            "registration": [{"componentId": "shop/web-1", "observedValue": "registered"}],
        },
        **fields,
    }


def reply(body: bytes, status: str = "200 OK", *fields: str) -> bytes:
    """Return an answer of HTTP."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *fields]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


ROW = read(json.dumps(document()).encode(), "shop", "http://a:1")


# What an instance says ------------------------------------------------------------------------------------------


def test_a_row_has_what_the_instance_says() -> None:
    """The worst of its configuration counts, and of its registrations that of the service."""
    assert (ROW.instance, ROW.state, ROW.source, ROW.age) == ("web-1:7", HealthState.AVAILABLE, Source.MEMORY, 42)
    assert (ROW.leads, ROW.locks, ROW.registered) == ((Led("reaper", "held", 5),), 1, "registered")
    title, line = table([ROW])
    assert title.split()[:3] == ["INSTANCE", "STATE", "SINCE"]
    assert title.index("LEADS") == line.index("reaper (held)")
    assert line.split()[-3:] == ["1", "registered", "1.2.3"]
    assert "  42 s" in line
    assert json.loads(json.dumps(ROW.to_dict()))["leads"] == [
        {"election": "reaper", "standing": "held", "token": 5}
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"checks": []},
        {"checks": None},
        {"process": ""},
        {"process": 7},
        {"state": "well"},
        {"state": ["available"]},
        {"status": {}},
        {"status": None},
    ],
)
def test_what_is_no_health_is_malformed(fields: dict[str, Any]) -> None:
    """An answer without what every instance says is refused, of whatever type it is."""
    with pytest.raises(Malformed):
        read(json.dumps(document(**fields)).encode(), "shop", "http://a:1")


def test_odd_parts_say_nothing() -> None:
    """Parts of other types than they should be are passed over: the rest of the row stands."""
    odd: list[Any] = [None, 7, "x", [], {}, {"source": [], "age": "1", "token": True, "componentId": {}}]
    raw = json.dumps(document(checks=dict.fromkeys(ROW_CHECKS, odd), version=[], epoch="2", revision=-1)).encode()
    row = read(raw, "shop", "http://a:1")
    assert (row.age, row.source, row.leads, row.locks, row.registered) == (None, None, (), 0, None)
    assert (row.version, row.epoch, row.revision) == ("", 0, 0)
    assert len(table([row])) == 2


ROW_CHECKS = ("config", "election", "lock", "registration")


# What disagrees -------------------------------------------------------------------------------------------------


def rows(*changes: dict[str, Any]) -> list[Row]:
    """Return rows of instances that are well and lead nothing, but for what is changed."""
    plain = document(checks={"config": [{"source": "live", "age": 1}]})
    return [
        read(json.dumps({**plain, "process": f"web-{n}:7", **fields}).encode(), "shop", f"http://{n}:1")
        for n, fields in enumerate(changes, 1)
    ]


def test_nothing_disagrees() -> None:
    """Instances that are alike agree, also if all of them are in the same outage, and those that are live and
    have seen different revisions within seconds."""
    assert disagreements(rows({}, {}, {"revision": 80})) == []
    assert disagreements(rows(*[{"state": "unavailable", "diagnosis": "cut_off", "status": "warn"}] * 3)) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"epoch": 1}, "web-3:7: is in epoch 1, and not 2"),
        ({"cluster_id": "2e"}, "web-3:7: sees cluster 2e, and not 1f"),
        ({"state": "unavailable"}, "web-3:7 has etcd unavailable, while 2 others are well"),
        ({"status": "fail", "output": "it shuts down"}, "web-3:7 fails: it shuts down"),
        (
            {"revision": 80, "checks": {"config": [{"source": "memory", "age": 60}]}},
            "web-3:7 is at revision 80, others are at 90",
        ),
    ],
)
def test_one_that_differs_is_named(changed: dict[str, Any], said: str) -> None:
    """What one instance says otherwise than most is said of that one."""
    assert disagreements(rows({}, {}, changed)) == [said]


def test_a_process_is_one_leader_however_often_it_answers() -> None:
    """What is registered twice, or answers at two addresses, leads once; another process of its name does not."""
    twice = [ROW, replace(ROW, url="http://b:1")]
    assert disagreements(twice) == []
    other = replace(ROW, leads=(Led("reaper", "unconfirmed", 4),))
    assert disagreements([*twice, other]) == [
        "'reaper' has 2 leaders: web-1:7 (held, token 5), web-1:7 (unconfirmed, token 4)"
    ]


def test_workers_that_share_a_port() -> None:
    """Where another process answers than is registered, and that one nowhere, nothing is known of it."""
    raw = json.dumps(document()).encode()
    right, wrong = (read(raw, "shop", "http://a:1", registered=name) for name in ("web-1:7", "web-1:8"))
    assert disagreements([right]) == []
    assert disagreements([right, wrong]) == ["web-1:7 has answered for web-1:8, of which nothing is known"]
    assert disagreements([wrong, replace(right, instance="web-1:8", leads=())]) == []


def test_all_that_are_cut_off_are_not_well() -> None:
    """Instances that agree with each other disagree with what is seen from here."""
    outage = rows(*[{"state": "unavailable"}] * 2)
    assert disagreements(outage, here=HealthState.UNAVAILABLE) == []
    assert disagreements(outage, here=HealthState.AVAILABLE) == [
        "web-1:7, web-2:7 have etcd unavailable, while it is available from here"
    ]


# Five processes -------------------------------------------------------------------------------------------------


class Direct:
    """Asks coordinators of this process, as if each were a process of its own."""

    def __init__(self, tides: list[Coordinator]) -> None:
        self._tides = tides

    async def ask(self, endpoint: Endpoint) -> Row:
        """Return what the coordinator of that number says."""
        number = int(endpoint.instance)
        async with client_of(HealthApp(self._tides[number])) as client:
            told = (await client.get("/health")).json()
        return read(json.dumps({**told, "process": f"web-{number}:7"}).encode(), "shop", endpoint.url)


@asynccontextmanager
async def five() -> AsyncIterator[tuple[MemoryStore, list[FaultyStore], list[Coordinator]]]:
    """Five coordinators on one cluster, each over a way of its own, and registered."""
    store = MemoryStore()
    ways = [FaultyStore(store) for _ in range(5)]
    async with AsyncExitStack() as stack:
        tides = [await stack.enter_async_context(connected(way)) for way in ways]
        for n, tide in enumerate(tides):
            await stack.enter_async_context(tide.register("shop", f"http://10.0.0.{n}:80", instance=str(n)))
        yield store, ways, tides


@pytest.mark.parametrize("anyio_backend", [mock_trio()], ids=["mock clock"])
async def test_two_leaders_and_one_that_is_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    """A leader that stays beside a new one, and one that is cut off: the last line says so, and nothing else; when
    etcd is dead for all it still names the two leaders, and whose the list is."""
    async with five() as (store, ways, tides), connected(store) as ours, anyio.create_task_group() as tasks:

        async def stand(tide: Coordinator) -> None:
            async with tide.leader("reaper", ttl=5, on_outage="stay"):
                await anyio.sleep_forever()

        for tide in tides[:2]:
            tasks.start_soon(stand, tide)
            await anyio.sleep(1)
        asker: Any = Direct(tides)

        async def look() -> tuple[int, list[str], str]:
            code = await _compare("shop", asker, ours, cache_dir=None, watch=False, as_json=False)
            done = capsys.readouterr()
            return code, done.out.splitlines(), done.err

        code, lines, said = await look()
        assert (code, len(lines), lines[-1], said) == (0, 7, "nothing disagrees among 5", "")
        assert [line.split()[0] for line in lines[1:-1]] == [f"web-{n}:7" for n in range(5)]
        for cut in (0, 4):
            ways[cut].inject("UNAVAILABLE", "failed to connect", times=10**9)
        # Longer than the election's ttl and its margin, and less than the registrations' leases.
        await anyio.sleep(9)
        code, lines, said = await look()
        two = "'reaper' has 2 leaders: web-0:7 (unconfirmed, token {}), web-1:7 (held, token {})"
        tokens = [tide.status().elections[0].token for tide in tides[:2]]
        cut_off = "web-0:7, web-4:7 have etcd unavailable, while 3 others are well"
        assert (code, lines[-1], said) == (1, f"{two.format(*tokens)}; {cut_off}", "")
        lose(store)
        await anyio.sleep(9)
        code, lines, said = await look()
        assert code == 1
        assert "etcd" in said
        assert "the answer is from memory" in said
        assert lines[-1] == two.format(*tokens).replace("held", "unconfirmed")
        tasks.cancel_scope.cancel()


# Whatever answers there -----------------------------------------------------------------------------------------


def endlessly(client: Any) -> None:
    """Answer without an end."""
    client.recv(65_536)
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        client.sendall(b" " * 65_536)


def drop_by_drop(client: Any) -> None:
    """Answer a byte now and then."""
    client.recv(65_536)
    drip(client, reply(json.dumps(document()).encode()))


def body_drop_by_drop(client: Any) -> None:
    """Answer at once, but for a body that goes on and on."""
    client.recv(65_536)
    client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    drip(client, b" " * 65_536)


def drip(client: Any, answer: bytes) -> None:
    """Send a byte now and then, until nobody wants it."""
    for byte in answer:
        client.sendall(bytes([byte]))
        client.settimeout(0.5)
        try:
            if not client.recv(1):
                return
        except TimeoutError:
            pass


HOSTILE: dict[str, tuple[Answer, str]] = {
    "endless": (endlessly, "answers more than 64 KiB"),
    "slow": (drop_by_drop, "timed out"),
    "slow body": (body_drop_by_drop, "timed out"),
    "silent": (silent, "timed out"),
    "not HTTP": (saying(b"\x00\xff\x1b[31m garbage\r\n\r\n"), "no answer: "),
    "empty": (saying(reply(b"")), "answers something else: it is not JSON"),
    "not JSON": (saying(reply(b"<html>")), "answers something else: it is not JSON"),
    "deep": (saying(reply(b"[" * 5000)), "answers something else: it is not JSON"),
    "another JSON": (saying(reply(b"{}")), "answers something else: it has no checks, or no process"),
    "redirect": (saying(reply(b"", "302 Found", "Location: http://127.0.0.1:1/")), "answers 302"),
    "closed": (saying(reply(b"", "401 Unauthorized")), "answers 401"),
    "header bomb": (saying(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n"), "no answer: "),
    "ANSI": (saying(reply(json.dumps(document(process="\x1b[31mred\x07", version="\x1b]0;x\x07")).encode())), ""),
}


@contextmanager
def served(answers: dict[str, tuple[Answer, str]]) -> Iterator[list[Endpoint]]:
    """Serve each answer on a port of its own."""
    with ExitStack() as stack:
        where = {name: stack.enter_context(listening(answer)) for name, (answer, _) in answers.items()}
        yield [Endpoint(f"http://{address}", instance=name, service="shop") for name, address in where.items()]


async def ask_all(endpoints: list[Endpoint], **headers: str) -> dict[str, Row]:
    """Ask all at once; each row by the instance that was asked."""
    asker, found = Asker("/h", headers, ssl.create_default_context()), {}

    async def ask(endpoint: Endpoint) -> None:
        found[endpoint.instance] = await asker.ask(endpoint)

    async with anyio.create_task_group() as tasks:
        for endpoint in endpoints:
            tasks.start_soon(ask, endpoint)
    return found


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_hostile_endpoints_are_rows() -> None:
    """Whatever an endpoint does, it is a row that says so, in printable text, and the others are not held up."""
    odd = {
        "no port": "http://127.0.0.1:99999/",
        "brackets": "http://[::1",
        "another scheme": "amqp://127.0.0.1:1",
        "idna": "http://xn--a/",
        "space": "http://exa mple/",
        "control": "http://exa\x1bmple/",
        "refused": "http://127.0.0.1:1/",
    }
    with served(HOSTILE) as endpoints:
        endpoints += [Endpoint(url, instance=name, service="shop") for name, url in odd.items()]
        found = await ask_all(endpoints)
    for name, (_, expected) in HOSTILE.items():
        assert found[name].trouble.startswith(expected), (name, found[name].trouble)
        assert bool(found[name].trouble) is bool(expected)
    for name in odd:
        assert found[name].trouble, name
    everything = "\n".join([*table(list(found.values())), *disagreements(list(found.values()))])
    assert "\x1b" not in everything
    assert all(line.isprintable() for line in everything.splitlines())


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_nothing_is_left_behind() -> None:
    """Those that do not end their answer in time are left: no thread of `--watch` goes on with them."""
    slow = {name: HOSTILE[name] for name in ("slow", "slow body", "silent")}
    with served(slow) as endpoints:
        asked = [*endpoints, *(replace(each, url=each.url.replace("http:", "https:")) for each in endpoints)]
        assert {row.trouble for row in (await ask_all(asked)).values()} == {"timed out"}
        with anyio.fail_after(5):
            while any(thread.name == "tideover-fleet" for thread in threading.enumerate()):
                await anyio.sleep(0.02)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_two_hundred_instances() -> None:
    """Two hundred are asked at once, with the fields that were given, and all of them are rows."""
    seen: list[bytes] = []

    def answer(client: Any) -> None:
        seen.append(client.recv(65_536))
        client.sendall(reply(json.dumps(document()).encode(), "503 Service Unavailable"))

    with listening(answer) as address:
        endpoints = [Endpoint(f"http://{address}", instance=str(n), service="shop") for n in range(200)]
        found = await ask_all(endpoints, Authorization="Bearer x")
    assert [row.trouble for row in found.values()] == [""] * 200
    assert all(b"GET /h HTTP/1.1\r\n" in request and b"Authorization: Bearer x\r\n" in request for request in seen)


# The command ----------------------------------------------------------------------------------------------------


def test_from_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With etcd dead the snapshot's endpoints are asked: 4 if all is well with them, 1 if one does not answer."""
    command = ["fleet", "payments", "-e", "127.0.0.1:1", "--cache-dir", str(tmp_path)]
    with listening(saying(reply(json.dumps(document()).encode()))) as address:
        save(tmp_path, "127.0.0.1:1", f"http://{address}", revision=9, cluster=0x1F)
        assert run(command) == 4
        done = capsys.readouterr()
        assert done.out.splitlines()[-1] == "nothing disagrees among 1"
        assert "the answer is from disk, 3 d 4 h old" in done.err
    assert run([*command, "--json"]) == 1
    row, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["instance"], row["trouble"]) == ("i0", "no answer: Connection refused")
    assert last == {
        "service": "payments",
        "source": "disk",
        "disagreements": ["i0 has not said how it is"],
    }


def test_one_more_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is named by --url is asked too, also when nobody tells the endpoints, and only once."""
    with listening(saying(reply(json.dumps(document()).encode()))) as address:
        command = ["fleet", "payments", "-e", "127.0.0.1:1", "--cache-dir", str(tmp_path)]
        assert run([*command, "--url", f"http://{address}"]) == 4
        done = capsys.readouterr()
        assert "there is no snapshot" in done.err
        assert done.out.splitlines()[-1] == "nothing disagrees among 1"
        save(tmp_path, "127.0.0.1:1", f"http://{address}", revision=9, cluster=0x1F)
        assert run([*command, "--json", "--url", f"http://{address}/"]) == 4
        assert len(capsys.readouterr().out.splitlines()) == 2
        assert run([*command, "--url", "http://127.0.0.1:1"]) == 1


def test_usage_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """Fields and paths that are none are refused, and a field is not repeated: it may be a secret."""
    for args in (
        ["shop", "--header", "Authorization"],
        ["shop", "--header", "Authorization: b\r\nC: d"],
        ["shop", "--path", "health"],
        ["shop", "--path", "/a b"],
        ["shop", "--url", "10.0.0.7"],
        [""],
    ):
        assert run(["fleet", *args]) == 2
        assert "Authorization" not in capsys.readouterr().err
