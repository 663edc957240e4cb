"""The URL of a database: refused where it would be read otherwise than it was meant, and shown without its
password.

A password that holds `/`, `#` or `?` as they are ends the part of a URL that names user and host: the driver
would look for a host of the user's name, and nothing here could tell what of the rest is secret.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

HIDDEN = "(hidden)"
_SCHEMES = ("postgresql://", "postgres://")
# One host, or several by commas, each with a port or none; a bracketed one is an address of IPv6.
_HOSTS = re.compile(r"(?:\[[^\[\]]*\]|[^:,\[\]]*)(?::\d*)?(?:,(?:\[[^\[\]]*\]|[^:,\[\]]*)(?::\d*)?)*\Z")


def check_database_url(url: str) -> None:
    """Raises `ValueError` for what is no PostgreSQL URL, with a message that quotes nothing of it."""
    if not url.startswith(_SCHEMES):
        raise ValueError("write it as postgresql://user:password@host:port/name")
    try:
        misread = _is_misread(urlsplit(url))
    except ValueError:
        misread = True
    if misread:
        raise ValueError(
            "percent-encode what user and password hold of / (%2F), # (%23), ? (%3F), @ (%40), [ (%5B) and "
            "] (%5D), in postgresql://user:password@host:port/name"
        )


def without_password(url: str) -> str:
    """A URL as it may be shown; nothing of it where the password may be anywhere."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    if _is_misread(parts) or "@" in parts.query:
        return HIDDEN
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    if not colon and "password" not in parts.query:
        return url
    options = "?…" if parts.query else ""
    return f"{parts.scheme}://{name}{':…' if colon else ''}{at}{hosts}{parts.path}{options}"


def _is_misread(parts: SplitResult) -> bool:
    """Whether its host is none, or an `@` stands behind it: the one that was to end the password."""
    before, at, _ = parts.query.partition("@")
    # `?user=karta@server` is an option, as some services want it.
    beyond = "@" in parts.path or "@" in parts.fragment or (at and "=" not in before)
    return bool(beyond) or _HOSTS.match(parts.netloc.rpartition("@")[2]) is None
