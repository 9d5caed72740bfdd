"""What a channel is patient with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """What a channel is patient with; times in seconds.

    Attributes:
        connect_timeout: How long looking a name up, connecting, TLS and the server's SETTINGS may take together.
        backoff: For how long after a failed attempt calls fail at once instead of another attempt.
        ping_after: After how long a silence, while calls are under way, the server is sent a PING.
        ping_timeout: How long the server may stay silent then.
        max_message: How large a reply may be, in bytes; etcd's own client has the same bound.
    """

    connect_timeout: float = 5.0
    backoff: float = 2.0
    ping_after: float = 10.0
    ping_timeout: float = 3.0
    max_message: int = 2**31 - 1


URGENT = Options()
# The monitor does not see whether a connection for what is large is refused, so that it is tried again soon.
BULK = Options(backoff=0.1)
