"""etcd's messages in a pool of their own: others with files of these names notice nothing, in either order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from tideover.etcd.messages import rpc
from tideover.testing import EtcdServer

OURS = "from tideover.etcd.messages import rpc as ours"
AETCD = "from aetcd import rpc as aetcds"

# Registers what the generated modules of an application would: files of a name, each with a message of a package.
# The last is that of another client of etcd, whose package is etcd's own, too.
THEIRS = """
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
theirs = []
for name, package, message in [
    ("auth.proto", "shop.auth", "User"),
    ("kv.proto", "shop", "KeyValue"),
    ("rpc.proto", "livekit.proto", "RpcError"),
    ("etcd/rpc.proto", "etcdserverpb", "PutRequest"),
]:
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    file.message_type.add(name=message).field.add(name="theirs", number=7, type=9, label=1)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    theirs.append(message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{message}")))
"""
OURS_WORK = """
assert ours.PutRequest.FromString(ours.PutRequest(key=b"k", lease=1).SerializeToString()).key == b"k"
assert ours.WatchRequest(cancel_request=ours.WatchCancelRequest(watch_id=3)).cancel_request.watch_id == 3
"""
THEIRS_WORK = """
for their in theirs:
    assert their.FromString(their(theirs="x").SerializeToString()).theirs == "x"
"""
AETCDS_WORK = """
assert aetcds.PutRequest.FromString(aetcds.PutRequest(key=b"k").SerializeToString()).key == b"k"
assert aetcds.PutRequest is not ours.PutRequest
"""

# protobuf's two implementations keep their pools in different ways.
implementations = pytest.mark.parametrize("implementation", ["upb", "python"])


def run(*code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, in which warnings are errors."""
    command = [sys.executable, "-W", "error", "-c", "\n".join(code)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def works(*code: str, implementation: str = "upb") -> None:
    """Run code that must not fail."""
    done = run(*code, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=implementation)
    assert done.returncode == 0, done.stderr


@implementations
def test_an_application_with_files_of_the_same_names(implementation: str) -> None:
    """`auth.proto`, `kv.proto`, `rpc.proto` and etcd's own packages can be others', before us or after us."""
    works(THEIRS, OURS, OURS_WORK, THEIRS_WORK, implementation=implementation)
    works(OURS, THEIRS, OURS_WORK, THEIRS_WORK, implementation=implementation)


@implementations
def test_aetcd_itself_is_not_touched(implementation: str) -> None:
    """An application may import aetcd, before us or after us, and each has messages of its own."""
    works(AETCD, OURS, OURS_WORK, AETCDS_WORK, implementation=implementation)
    none = "import sys; assert not any(name.partition('.')[0] == 'aetcd' for name in sys.modules)"
    works(OURS, none, AETCD, OURS_WORK, AETCDS_WORK, implementation=implementation)


def test_both_are_imported_at_the_same_time() -> None:
    """A thread that imports aetcd while another imports us does not meet it."""
    works(
        "import threading, grpc.aio, google.protobuf.message_factory",
        "together, failed = threading.Barrier(2), []",
        "def run(code):",
        "    together.wait()",
        "    try: exec(code, {})",
        "    except BaseException as exc: failed.append(repr(exc))",
        f"codes = {[OURS + OURS_WORK, AETCD]!r}",
        "threads = [threading.Thread(target=run, args=(code,)) for code in codes]",
        "for thread in threads: thread.start()",
        "for thread in threads: thread.join()",
        "assert not failed, failed",
    )


def test_the_messages_are_aetcds() -> None:
    """Every file, message, enumeration's value and stub of `aetcd.rpc` is here under its name, and is the same."""
    works(
        AETCD,
        OURS,
        "pool = ours.PutRequest.DESCRIPTOR.file.pool",
        "for module in (aetcds.auth_pb2, aetcds.kv_pb2, aetcds.rpc_pb2):",
        "    described = module.DESCRIPTOR",
        "    assert pool.FindFileByName(described.name).serialized_pb == described.serialized_pb",
        "names = {name for name, found in vars(aetcds).items() if hasattr(found, 'DESCRIPTOR')}",
        "names |= {name for name, found in vars(aetcds).items() if type(found) is int or name.endswith('Stub')}",
        "names -= {name for name in names if not hasattr(aetcds.rpc_pb2, name) and name.startswith('_')}",
        "missing = {name for name in names if not hasattr(ours, name) and not name.endswith('_pb2')}",
        "assert len(names) > 100 and missing == {'AlarmType'}, missing",
    )


def test_another_aetcd_is_named(tmp_path: Path) -> None:
    """An aetcd without the modules that we read is an ImportError that says which version is needed."""
    (tmp_path / "aetcd").mkdir()
    (tmp_path / "aetcd" / "__init__.py").touch()
    done = run(OURS, PYTHONPATH=str(tmp_path))
    assert "ImportError: tideover needs aetcd 1, and finds no auth_pb2 of it" in done.stderr


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_stub_has_what_its_service_has() -> None:
    """A stub has a method for each request of its service and refuses any other name; it says whose it is."""
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        stub = rpc.KVStub(channel)
        assert all(hasattr(stub, name) for name in ("Range", "Put", "DeleteRange", "Txn", "Compact"))
        with pytest.raises(AttributeError, match="Watch"):
            _ = stub.Watch
        assert repr(stub) == "<Stub etcdserverpb.KV 0 streams>"


@pytest.mark.etcd
@pytest.mark.any_etcd
def test_beside_an_aetcd_client() -> None:
    """One process talks to one etcd through aetcd and through tideover."""
    with EtcdServer() as server:
        host, _, port = server.endpoint.rpartition(":")
        works(
            "import asyncio, aetcd, tideover",
            "async def main():",
            f"    async with aetcd.Client(host={host!r}, port={port}) as client:",
            f"        async with tideover.connect({server.endpoint!r}, cache_dir=False) as tide:",
            "            await client.put(b'/config/k', b'theirs')",
            "            assert (await tide.config.fetch('k')).value == 'theirs'",
            "            await tide.config.put('k', 'ours')",
            "            assert (await client.get(b'/config/k')).value == b'ours'",
            "asyncio.run(main())",
        )
