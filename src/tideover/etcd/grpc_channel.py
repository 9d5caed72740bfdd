"""Channels of gRPC's own library, and the only module that imports it."""

from __future__ import annotations

import os
from typing import Any

# For grpc, which reads it when it is first used. Its own handlers of a fork restart its threads in the child, on
# connections that are the parent's, and one child in ten then died of SIGSEGV (tests/integration/test_sessions.py
# under load). A child of ours refuses to be used anyway. Applications that need grpc's handlers set the variable.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

import grpc

from tideover.etcd.tls import TlsFiles
from tideover.etcd.transports import certified_name
from tideover.store.endpoints import host_of

# Measured with grpcio 1.85: on a frozen peer only http2.ping_timeout_ms acts, keepalive_timeout_ms only on packet
# loss, and as TCP_USER_TIMEOUT; a keepalive_time below 5 s earns a GOAWAY; without a pool of its own a new channel
# inherits the reconnect backoff of the old one. min_reconnect_backoff is also the time that connecting may take:
# with TLS that is four round trips. What gRPC tries by itself after a refusal comes late, for to a member that
# refuses, the monitor makes a new connection with each question.
_OPTIONS: dict[str, Any] = {
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5_000,
    # Longer than a probe is waited for, so that a frozen member is called silent.
    "grpc.http2.ping_timeout_ms": 7_000,
    "grpc.http2.max_pings_without_data": 0,
    "grpc.keepalive_permit_without_calls": 0,
    "grpc.initial_reconnect_backoff_ms": 2_000,
    "grpc.min_reconnect_backoff_ms": 5_000,
    "grpc.max_reconnect_backoff_ms": 2_000,
    "grpc.use_local_subchannel_pool": 1,
    # A connection is kept however long it idles: that it breaks is the first sign of trouble.
    "grpc.client_idle_timeout_ms": 2**31 - 1,
    "grpc.max_receive_message_length": -1,
    "grpc.enable_retries": 0,
    # A name that has moved is looked up again soon, not after 30 s.
    "grpc.dns_min_time_between_resolutions_ms": 1_000,
    # The pings that measure the bandwidth go with each answer, and each wakes gRPC's threads, which then look for
    # more work seventeen times within 4 s. What is small needs no larger window.
    "grpc.http2.bdp_probe": 0,
}
# A ping waits behind data, and the ones that measure the bandwidth are sent while there is some: they ended a
# transfer that took longer than the time-out. The window is fixed instead, large enough for 3 MB/s at 300 ms. The
# monitor does not see whether it is refused, so gRPC itself tries again soon.
_BULK: dict[str, Any] = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.http2.ping_timeout_ms": 20_000,
    "grpc.http2.lookahead_bytes": 1 << 20,
}


def open_channel(
    endpoint: str, files: TlsFiles | None, server_name: str | None, *, bulk: bool
) -> grpc.aio.Channel:
    """Open a channel; see `transports.load`."""
    options = tuple((_OPTIONS | (_BULK if bulk else {})).items())
    # With its scheme, because a host may be called "unix" or "dns".
    target = f"dns:///{endpoint}"
    if files is None:
        return grpc.aio.insecure_channel(target, options=options)
    material, host = files.material, host_of(endpoint)
    name = certified_name(host, files, server_name)
    credentials = grpc.ssl_channel_credentials(material.ca, material.key, material.cert)
    if name != host:
        options = (*options, ("grpc.ssl_target_name_override", name))
    return grpc.aio.secure_channel(target, credentials, options=options)
