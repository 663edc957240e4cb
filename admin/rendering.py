"""Templates, rendered in one go.

Quart renders them piece by piece, each an awaited step, so that a template could wait for something. Ours
wait for nothing: views ask the database first. Rendered at once a page costs less, and no thread.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import quart.templating
from quart import Quart, current_app

_REMEMBERED = frozenset({"org_id", "filename"})
"""Values that are ours, of a size that is known: nobody fills the memory with them."""
_REMEMBERED_MAX = 4096


class Environment(quart.templating.Environment):
    """Quart's, without waiting."""

    def __init__(self, app: Quart, **options: Any) -> None:
        super().__init__(app, **options)
        self.is_async = False


def url_for(endpoint: str, **values: Any) -> str:
    """The path to an endpoint, as Quart makes it. A page has twenty, nearly all the same as the last time."""
    if values.keys() <= _REMEMBERED:
        return _remember(endpoint, **values)
    return quart.url_for(endpoint, **values)


@lru_cache(_REMEMBERED_MAX)
def _remember(endpoint: str, **values: Any) -> str:
    return quart.url_for(endpoint, **values)


async def render_template(name: str, /, **context: Any) -> str:
    """The page. Async as Quart's is, whose place it takes."""
    return current_app.jinja_env.get_template(name).render(context)
