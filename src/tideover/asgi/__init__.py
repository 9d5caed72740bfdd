"""tideover for ASGI applications: one middleware, pure ASGI, that runs the coordinator and keeps the records.

Nothing here may call etcd within a request.
"""

from tideover.asgi.middleware import TideoverMiddleware

__all__ = ["TideoverMiddleware"]
