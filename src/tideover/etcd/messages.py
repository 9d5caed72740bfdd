"""etcd's messages and stubs, in a protobuf pool of their own.

protobuf keeps what generated modules describe in one pool for the whole process, by file name, and aetcd calls its
files `auth.proto`, `kv.proto` and `rpc.proto`. The second module with one of these names (livekit's, another etcd
client's, an application's own) fails to import. So aetcd's modules are not run here. Their
descriptions are read from their code and put into a pool of this module's, which no other module sees: an aetcd
that the application imports is not touched either.

`rpc` has the names of `aetcd.rpc`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from importlib.abc import InspectLoader
from importlib.machinery import PathFinder
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from weakref import WeakSet

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from tideover.etcd.rpc_errors import UsageError

# In the order in which they build on each other.
_FILES = ("auth", "kv", "rpc")


class Stub:
    """One of etcd's services at a member: a method for each request."""

    def __init__(self, service: Any, channel: Any) -> None:
        self.streams: WeakSet[Any] = WeakSet()
        self._name: str = service.full_name
        for method in service.methods:
            call = _multicallable(channel, method)
            setattr(self, method.name, partial(_noted, self.streams, call) if method.server_streaming else call)

    def __repr__(self) -> str:
        """Name the service and count the streams."""
        return f"<Stub {self._name} {len(self.streams)} streams>"

    def let_go(self) -> None:
        """Drop all references to the channel; later calls are refused as by a closed channel."""
        for name, value in vars(self).items():
            if callable(value):
                setattr(self, name, _refused)


def _refused(*args: Any, **kwargs: Any) -> Any:
    raise UsageError("Channel is closed.")


def _noted(streams: WeakSet[Any], call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    stream = call(*args, **kwargs)
    streams.add(stream)
    return stream


def _multicallable(channel: Any, method: Any) -> Callable[..., Any]:
    sent, received = ("stream" if many else "unary" for many in (method.client_streaming, method.server_streaming))
    call: Callable[..., Any] = getattr(channel, f"{sent}_{received}")(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    return call


def _descriptions() -> Iterator[bytes]:
    """Yield the serialized description of each file: the longest constant of the module generated from it."""
    aetcd = importlib.util.find_spec("aetcd")
    folders = [str(Path(folder, "rpc")) for folder in (aetcd and aetcd.submodule_search_locations) or ()]
    for file in _FILES:
        spec = PathFinder.find_spec(f"{file}_pb2", folders)
        code = cast("InspectLoader", spec.loader).get_code(spec.name) if spec else None
        if code is None:
            raise ImportError(f"tideover needs aetcd 1, and finds no {file}_pb2 of it", name="aetcd.rpc")
        yield max((constant for constant in code.co_consts if isinstance(constant, bytes)), key=len)


def _load() -> SimpleNamespace:
    """Return the messages, the values of enumerations and the stubs, by name."""
    pool = DescriptorPool()
    for description in _descriptions():
        pool.AddSerializedFile(description)
    names: dict[str, Any] = {}
    for file in _FILES:
        described = pool.FindFileByName(f"{file}.proto")
        for name, message in described.message_types_by_name.items():
            names[name] = GetMessageClass(message)
        for enum in described.enum_types_by_name.values():
            names.update((value.name, value.number) for value in enum.values)
        for name, service in described.services_by_name.items():
            names[f"{name}Stub"] = partial(Stub, service)
    return SimpleNamespace(**names)


rpc = _load()
