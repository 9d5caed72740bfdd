"""The shop of `examples/shop.py`, with all that it records sent on. README.md says how to run it, and what to see.

uvicorn --app-dir examples observability.shop:app --workers 4
"""

from observability.instrumentation import instrument
from shop import app

instrument(app)

__all__ = ["app"]
