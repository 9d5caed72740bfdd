"""The page's templates, through one environment that escapes everything; nothing else imports jinja2.

`select_autoescape` and the environments of frameworks decide by the name of a file, and escape neither `.svg` nor
`.html.j2`. Control characters pass every escaping, so that text of others is shown through `shown` as well, whose
place is here: no template can forget it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from tideover.asgi.status_page.ages import Age
from tideover.asgi.status_page.answers import policy
from tideover.shown import MOST, shown

__all__ = ["ICONS", "POLICY", "SCRIPT", "STYLE", "Markup", "environment", "render"]

_HERE = files("tideover.asgi.status_page")


def _finalize(value: object) -> object:
    """Escape control characters: autoescape leaves them in."""
    if value is None:
        raise ValueError("a template was given nothing where there should be a text")
    if isinstance(value, Age) or (isinstance(value, str) and len(value) <= MOST and value.isprintable()):
        return value
    # Markup is what macros and blocks of these templates have made: each part of it has been here.
    return value if hasattr(value, "__html__") else shown(str(value))


environment = jinja2.Environment(
    loader=jinja2.FunctionLoader(lambda name: (_HERE / "templates" / name).read_text(encoding="utf-8")),
    autoescape=True,
    finalize=_finalize,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _asset(name: str) -> str:
    return (_HERE / "assets" / name).read_text(encoding="utf-8")


STYLE = _asset("status.css")
SCRIPT = _asset("status.js")
ICONS = {name: _asset(name).encode() for name in ("available.svg", "degraded.svg", "unavailable.svg")}


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


POLICY = policy(style=_digest(STYLE), script=_digest(SCRIPT))


def render(template: str, context: Mapping[str, Any]) -> Markup:
    """Return a template's markup."""
    return Markup(environment.get_template(f"{template}.html").render(context))
