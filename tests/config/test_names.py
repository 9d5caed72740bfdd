"""Names of keys and prefixes that find nothing: refused at once, or told."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import pytest

from tests.support import connected
from tideover import InvalidRequest, StalenessLimit, connect, with_config
from tideover.store.operations import Put
from tideover.testing import MemoryStore
from tideover.types import HealthState

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Pool:
    """Settings with defaults."""

    size: int = 10
    name: str = "main"


def unfound(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines about settings without keys."""
    return [
        r.getMessage() for r in caplog.records if "config.unfound" in r.getMessage() and r.levelname == "WARNING"
    ]


# Slashes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["pool", "pool/"])
async def test_a_settings_prefix_gets_its_slash(prefix: str) -> None:
    """`prefix="pool"` means the keys under `pool/`, at the first look and at changes."""
    async with connected(MemoryStore()) as tide:
        await tide.config.put("pool/size", 3)
        live = tide.config.bind(Pool, prefix=prefix)
        assert live.value.size == 3
        await tide.config.put("pool/size", 4)
        assert (live.value.size, live.prefix) == (4, "pool/")


async def test_a_prefix_that_ends_in_another_sign_stays_as_it_is() -> None:
    """Names that are divided by a dot or an underscore, or not at all, are found as before."""
    async with connected(MemoryStore()) as tide:
        for key in ("pool.size", "pool_size", "size"):
            await tide.config.put(key, 3)
        assert [tide.config.bind(Pool, prefix=p).value.size for p in ("pool.", "pool_", "")] == [3, 3, 3]


@pytest.mark.parametrize(("given", "right"), [("/a/b", "a/b"), ("/shop/config/a/b", "a/b"), ("//a", "a")])
async def test_a_key_that_begins_with_a_slash_is_refused_with_its_right_name(given: str, right: str) -> None:
    """A leading slash, or the key as etcd has it, would be another key: no default is given for it."""
    async with connected(MemoryStore(), namespace="/shop") as tide:
        config = tide.config
        for call in (config.get, config.read):
            with pytest.raises(InvalidRequest, match=f"write '{right}', not '{given}'"):
                call(given, int, default=3)
        with pytest.raises(InvalidRequest, match=right):
            await config.fetch(given, default="x")
        with pytest.raises(InvalidRequest, match=right):
            await config.put(given, 1)
        with pytest.raises(InvalidRequest, match=right):
            await config.delete(given)
        with pytest.raises(InvalidRequest, match=right):
            config.changes(given)
        with pytest.raises(InvalidRequest, match=f"a configuration prefix .* write '{right}', not '{given}'"):
            config.bind(Pool, prefix=given)


@pytest.mark.parametrize("namespace", ["/shop", "shop"])
async def test_a_slash_alone_is_no_key(namespace: str) -> None:
    """Nobody is told to write an empty key, which is none; an empty prefix is one."""
    async with connected(MemoryStore(), namespace=namespace) as tide:
        for key in ("/", "/shop/config/"):
            with pytest.raises(InvalidRequest, match=f"'{key}' names no key"):
                tide.config.get(key, default="x")
            with pytest.raises(InvalidRequest, match=f"write '', not '{key}'"):
                tide.config.bind(Pool, prefix=key)


@pytest.mark.parametrize("namespace", ["/shop", "shop", ""])
def test_a_prefix_as_etcd_has_it_is_told_without_what_is_put_before_it(namespace: str) -> None:
    """To follow or exclude `config/a/` would follow nothing and exclude nothing, in silence."""
    given = f"/{namespace}/config/a/".replace("//", "/")
    for options in ({"follow": (given,)}, {"exclude": (given,)}, {"limits": {given: StalenessLimit(3)}}):
        with pytest.raises(ValueError, match=f"begins behind '{namespace}/config/': 'a/', not '{given}'"):
            connect("127.0.0.1:1", namespace=namespace, **options)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("/config/a/b", "'{namespace}/config/': 'a/b', not '/config/a/b'"),
        ("/shop/config/a/b", "'{namespace}/config/': 'a/b', not '/shop/config/a/b'"),
        ("/", "'/' names no key"),
        ("/shop/config/", "'/shop/config/' names no key"),
    ],
)
def test_an_injected_key_as_etcd_has_it_is_told_without_what_is_put_before_it(given: str, words: str) -> None:
    """`config/a/b` would be another key, whose default is given in silence."""
    with pytest.raises(ValueError, match=words):
        with_config(size=given)(lambda *, size=1: size)


def test_prefixes_and_injected_keys_that_begin_with_a_slash_are_refused_before_anything_runs() -> None:
    """`follow`, `exclude` and `limits` are refused by `connect`, keys of `@with_config` when decorating."""
    for options in ({"follow": ("/a/",)}, {"exclude": ("/a/",)}, {"limits": {"/a/": StalenessLimit(3)}}):
        with pytest.raises(ValueError, match="'a/', not '/a/'"):
            connect("127.0.0.1:1", **options)
    with pytest.raises(ValueError, match="'a/b', not '/a/b'"):

        @with_config(size="/a/b")
        def _(*, size: int = 1) -> None: ...


async def test_a_key_with_a_leading_slash_in_etcd_harms_nobody() -> None:
    """Somebody else's `//` in etcd is followed like any key, though nobody can ask for it."""
    store = MemoryStore()
    async with connected(store) as tide:
        changes = tide.config.changes()
        for key in (b"/config//odd", b"/config/even"):
            await store.call(Put(key, b"2"), member=store.members[0], timeout=1)
        assert [(await anext(changes)).key for _ in range(2)] == ["/odd", "even"]
        assert tide.config.get("even") == "2"


# Never found ---------------------------------------------------------------------------------------------------


async def test_settings_without_any_key_are_told_once_and_stand_in_the_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A settings object that is all defaults says so once, at WARNING, with the prefix as etcd has it."""
    async with connected(MemoryStore(), namespace="/shop") as tide:
        live = tide.config.bind(Pool, prefix="pol/")
        await tide.config.put("pool/size", 3)
        await anyio.sleep(60)
        assert len(unfound(caplog)) == 1
        assert "etcd has no key of Pool under '/shop/config/pol/'" in unfound(caplog)[0]
        assert tide.status().unfound == ("pol/",)
        assert "never had a key under '/shop/config/pol/'" in tide.status().sentence
        await tide.config.put("pol/size", 4)
        assert live.value.size == 4
        assert tide.status().unfound == ()
        await tide.config.delete("pol/size")
        await anyio.sleep(60)
        assert tide.status().unfound == ()
    assert len(unfound(caplog)) == 1


async def test_many_settings_of_one_prefix_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A settings object made for each request, under a prefix without keys, does not fill the log."""
    async with connected(MemoryStore()) as tide:
        lives = [tide.config.bind(Pool, prefix=prefix) for prefix in ("many/",) * 50 + ("other/",)]
        assert len(lives) == 51
        lines = unfound(caplog)
    assert len(lines) == 2
    assert "'/config/many/'" in lines[0]
    assert "'/config/other/'" in lines[1]


async def test_settings_with_one_key_are_found(caplog: pytest.LogCaptureFixture) -> None:
    """One key of several is enough: the others are defaults on purpose. So is one that is refused."""
    async with connected(MemoryStore()) as tide:
        await tide.config.put("pool/name", "x")
        await tide.config.put("other/size", 1)
        tide.config.bind(Pool, prefix="pool/")
        other = tide.config.bind(Pool, prefix="other/")
        await tide.config.put("other/size", "many")
        assert other.rejection is not None
        await anyio.sleep(60)
        assert tide.status().unfound == ()
    assert unfound(caplog) == []


async def test_in_an_outage_nobody_says_that_there_is_no_key(caplog: pytest.LogCaptureFixture) -> None:
    """Only a quorum's word counts: nothing is said before etcd is back, and then it is said."""
    store = MemoryStore()
    store.down = set(store.members)
    async with connected(store) as tide:
        live = tide.config.bind(Pool, prefix="pool/")
        await anyio.sleep(60)
        assert (unfound(caplog), tide.status().unfound) == ([], ())
        store.down = set()
        store.touch()
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(1)
        assert tide.status().unfound == (live.prefix,)
    assert len(unfound(caplog)) == 1
