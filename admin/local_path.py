"""Places on this site that a request names for afterwards: only such as cannot lead elsewhere."""

from __future__ import annotations

from urllib.parse import urlsplit

PATH_CHARS_MAX = 1024


def local_path(named: str | None, otherwise: str = "/") -> str:
    """`named` if it is a path of this site with or without a query, else `otherwise`.

    Browsers read `//host`, and backslashes as slashes, as another site; and they drop tabs and line ends.
    """
    if not named or len(named) > PATH_CHARS_MAX or not named.startswith("/") or named.startswith("//"):
        return otherwise
    if "\\" in named or not named.isprintable() or not named.isascii():
        return otherwise
    try:
        parts = urlsplit(named)
    except ValueError:
        return otherwise
    return otherwise if parts.scheme or parts.netloc else named
