"""The page's answers, with headers that restrict browsers to showing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import Scope, Send

from tideover.asgi.problems import Problem

# Nothing is loaded but the page's own style, script, icon and events; `{style}` and `{script}` are their hashes.
_POLICY = (
    "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_GUIDE = "how-to/status-page/"
_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

ALWAYS = {
    "cache-control": "no-store",
    "content-security-policy": _NOTHING,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer."""

    status: int
    body: bytes = b""
    media_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Send it; to HEAD without the body."""
        named = {**ALWAYS, **self.headers}
        if self.status != 304:
            named |= {"content-type": self.media_type, "content-length": str(len(self.body))}
        raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in named.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        body = b"" if scope["method"] == "HEAD" else self.body
        await send({"type": "http.response.body", "body": body})


def problem(status: int, detail: str, *, retry_after: int | None = None, **headers: str) -> Problem:
    """Return a problem with the page's headers."""
    named = {**ALWAYS, **headers}
    # A problem is never stored, and says so itself.
    del named["cache-control"]
    return Problem(status, detail, see=_GUIDE, retry_after=retry_after, headers=named)


def policy(*, style: str, script: str) -> str:
    """Return the content security policy of the page."""
    return _POLICY.format(style=style, script=script)
