"""tideover for ASGI applications: pure ASGI, one class for each concern.

`TideoverMiddleware` runs the coordinator and keeps the records, `lifespan` runs it for frameworks that keep
lifespans from middleware; `FencingMiddleware` refuses a lock's former holders; `HealthApp` answers probes, and
`status_app` is a page for people. Nothing here may call etcd within a request.
"""

from tideover.asgi.fencing import FenceMemory, FencingMiddleware
from tideover.asgi.framework_lifespan import lifespan
from tideover.asgi.health import HealthApp
from tideover.asgi.middleware import TideoverMiddleware
from tideover.asgi.status_page import status_app
from tideover.fencing.token import Fence

__all__ = [
    "Fence",
    "FenceMemory",
    "FencingMiddleware",
    "HealthApp",
    "TideoverMiddleware",
    "lifespan",
    "status_app",
]
