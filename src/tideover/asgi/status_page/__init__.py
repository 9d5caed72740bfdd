"""The status page: what `tide.status()` says, for people, as it changes.

`app` answers requests, `pulse` looks at the coordinator once a second for all viewers, `contexts` says what each
fragment shows, `templates` renders it, `streams` sends what has changed. Facts come from the report alone; what it
does not say is not on the page.
"""

from tideover.asgi.status_page.app import status_app

__all__ = ["status_app"]
