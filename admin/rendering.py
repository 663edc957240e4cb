"""Templates, rendered in one go.

Quart renders them piece by piece, each an awaited step, so that a template could wait for something. Ours
wait for nothing: views ask the database first. Rendered at once a page costs less, and no thread. What is the
same on every page of its kind (`fragment`) is rendered once.
"""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import quart.templating
from markupsafe import Markup
from quart import Quart, current_app

_REMEMBERED = frozenset({"org_id", "filename"})
"""Values that are ours, of a size that is known: nobody fills the memory with them."""
_REMEMBERED_MAX = 4096
_VERSION_DIGITS = 12
_FRAGMENTS_MAX = 2048
"""Some megabytes at most."""


class Environment(quart.templating.Environment):
    """Quart's, without waiting."""

    def __init__(self, app: Quart, **options: Any) -> None:
        super().__init__(app, **options)
        self.is_async = False

    def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
        """What a template finds everywhere: all is known before the first is loaded, so a plain dict will do,
        which is quicker to look into than Jinja's chain."""
        return {**self.globals, **(d or {})}


def url_for(endpoint: str, **values: Any) -> str:
    """The path to an endpoint, as Quart makes it. A page has twenty, nearly all the same as the last time."""
    if values.keys() <= _REMEMBERED:
        return _remember(endpoint, **values)
    return quart.url_for(endpoint, **values)


@lru_cache(_REMEMBERED_MAX)
def _remember(endpoint: str, **values: Any) -> str:
    if endpoint == "static":
        values["v"] = _version(values["filename"])
    return quart.url_for(endpoint, **values)


def _version(filename: str) -> str:
    """Of a static file: what is in it. Browsers keep these for an hour, and after an upgrade would show new
    pages by old styles and scripts."""
    content = Path(current_app.static_folder or "", filename).read_bytes()
    return hashlib.sha256(content).hexdigest()[:_VERSION_DIGITS]


async def render_template(name: str, /, **context: Any) -> str:
    """The page. Async as Quart's is, whose place it takes."""
    return current_app.jinja_env.get_template(name).render(context)


@lru_cache(_FRAGMENTS_MAX)
def fragment(name: str, /, **values: Any) -> Markup:
    """A template that depends on these values and nothing else; the values must be few and hashable."""
    # Rendered with escaping, as every template of ours.
    return Markup(current_app.jinja_env.get_template(name).render(values))  # noqa: S704
