"""tideover for ASGI applications: pure ASGI, one class for each concern.

`TideoverMiddleware` runs the coordinator and keeps the records; `FencingMiddleware` refuses a lock's former
holders; `status_page` is a page for people. Nothing here may call etcd within a request.
"""

from tideover.asgi.fencing import FenceMemory, FencingMiddleware
from tideover.asgi.middleware import TideoverMiddleware
from tideover.asgi.status_page import status_app
from tideover.fencing.token import Fence

__all__ = ["Fence", "FenceMemory", "FencingMiddleware", "TideoverMiddleware", "status_app"]
