"""tideover in FastAPI: settings, handles and requirements as dependencies of its routes.

`settings` and `handles` are for parameters in `Annotated` style, `requirements` lets a route be reached only while
something can be had. `by_type` is what the first two have in common.
"""

from tideover.asgi.refusals import RequirementNotMet
from tideover.extras import importing

with importing(__name__, extra="fastapi"):
    from tideover.contrib.fastapi.handles import Current, Tide, get_tide
    from tideover.contrib.fastapi.requirements import LeaderOnly, Requires, requirement_responses
    from tideover.contrib.fastapi.settings import Setting

__all__ = [
    "Current",
    "LeaderOnly",
    "RequirementNotMet",
    "Requires",
    "Setting",
    "Tide",
    "get_tide",
    "requirement_responses",
]
