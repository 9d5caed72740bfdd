#!/usr/bin/env bash
# Python 3.11 (asyncio); asyncstdlib 3.14.0, aiocache 0.12.3, cashews 7.6.0, async-lru 2.4.0.
# Guess: once an entry is cleared (a watch has said that the key changed), the next call asks again: what a call that began
#   before has read is handed to that caller, and is not kept.
# Behaviour: only async-lru does so. The others store a call's result when it ends, whatever was cleared meanwhile: the old
#   value is there again, after the only notice of the new one, for as long as an entry lives, with asyncstdlib for good.
#   So it is with cashews' tags and with its lock, and with aiocache's `cached_stampede`.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet asyncstdlib==3.14.0 aiocache==0.12.3 cashews==7.6.0 async-lru==2.4.0
cat >"$folder/probe.py" <<'PY'
import asyncio

import aiocache
import async_lru
import asyncstdlib
import cashews


class Source:
    """A key of etcd, say: a read takes a while, and its answer is from when it began."""

    def __init__(self):
        self.value = "old"
        self.answer = asyncio.Event()

    async def read(self):
        value = self.value
        await self.answer.wait()
        return value


async def trial(name, make):
    source = Source()
    cached, clear = make(source.read)
    early = asyncio.create_task(cached())
    await asyncio.sleep(0.05)
    source.value = "new"
    await clear()
    source.answer.set()
    assert await early == "old"
    print(f"{name}:", await cached())


def with_async_lru(read):
    cached = async_lru.alru_cache(read)
    return cached, asyncstdlib.sync(cached.cache_clear)


def with_asyncstdlib_clear(read):
    cached = asyncstdlib.lru_cache(read)
    return cached, asyncstdlib.sync(cached.cache_clear)


def with_asyncstdlib_discard(read):
    cached = asyncstdlib.lru_cache(read)
    return cached, asyncstdlib.sync(cached.cache_discard)


def with_aiocache(decorator):
    def make(read):
        cached = decorator(ttl=60, key_builder=lambda *arguments: "key")(read)
        return cached, cached.cache.clear

    return make


def with_cashews(tags=(), **options):
    def make(read):
        cache = cashews.Cache()
        cache.setup("mem://")

        @cache(ttl="1m", key="key", tags=tags, **options)
        async def cached():
            return await read()

        return cached, lambda: cache.delete_tags(*tags) if tags else cache.delete("key")

    return make


async def main():
    await trial("async-lru, cache_clear", with_async_lru)
    await trial("asyncstdlib, cache_clear", with_asyncstdlib_clear)
    await trial("asyncstdlib, cache_discard", with_asyncstdlib_discard)
    await trial("aiocache, cached", with_aiocache(aiocache.cached))
    await trial("aiocache, cached_stampede", with_aiocache(aiocache.cached_stampede))
    await trial("cashews, delete", with_cashews())
    await trial("cashews, delete with a lock", with_cashews(lock=True))
    await trial("cashews, delete_tags", with_cashews(tags=("tag",)))


asyncio.run(main())
PY
timeout 100 "$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
async-lru, cache_clear: new
asyncstdlib, cache_clear: old
asyncstdlib, cache_discard: old
aiocache, cached: old
aiocache, cached_stampede: old
cashews, delete: old
cashews, delete with a lock: old
cashews, delete_tags: old
SEEN
