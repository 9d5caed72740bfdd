"""tideover for ASGI applications: pure ASGI, one class for each concern.

`TideoverMiddleware` runs the coordinator and keeps the records, `framework_lifespan` runs it for frameworks that
keep lifespans from middleware; `FencingMiddleware` refuses a lock's former holders; `requirements` let routes say
what they need, and refuse requests while that is missing; `HealthApp` answers probes, `status_page` has a page
for people. Nothing here may call etcd within a request.
"""

from tideover.asgi.error_problems import problem_handler
from tideover.asgi.fencing import FenceMemory, FencingMiddleware
from tideover.asgi.framework_lifespan import lifespan
from tideover.asgi.health import HealthApp
from tideover.asgi.middleware import TideoverMiddleware
from tideover.asgi.requirements import Requirement, leader_only, requires
from tideover.asgi.requirements_middleware import RequirementsMiddleware
from tideover.asgi.status_page import status_app
from tideover.fencing.token import Fence

__all__ = [
    "Fence",
    "FenceMemory",
    "FencingMiddleware",
    "HealthApp",
    "Requirement",
    "RequirementsMiddleware",
    "TideoverMiddleware",
    "leader_only",
    "lifespan",
    "problem_handler",
    "requires",
    "status_app",
]
