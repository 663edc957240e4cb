"""Where the management API is: below it there are no cookies, no forms and no pages, errors included."""

from __future__ import annotations

from quart import request

PREFIX = "/api/v1"


def is_api() -> bool:
    """Whether the current request is for it, whether or not there is anything at its path."""
    path: str = request.path
    return path == PREFIX or path.startswith(f"{PREFIX}/")
