"""What etcd counts."""

from __future__ import annotations

import re
import ssl
import urllib.request

from tideover.testing import EtcdServer


def gauge(server: EtcdServer, name: str) -> float:
    """Return a number from etcd's own metrics."""
    # A test's certificate, which only its clients know.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with urllib.request.urlopen(f"{server._client_url}/metrics", timeout=10, context=context) as reply:
        found = re.search(rf"^{re.escape(name)} (\S+)$", reply.read().decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])
