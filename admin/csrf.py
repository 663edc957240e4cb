"""Proof that a form was served by us to this browser, on every request that changes something.

Two checks, and both must pass. What the browser itself says: `Sec-Fetch-Site`, else `Origin`, must be
this site's. And a token in the form: an HMAC of the browser's own secret cookie, which another site can
neither read nor, with the `__Host-` prefix, set. Before sign-in that cookie is one made for the purpose,
so that nobody can be signed in to a stranger's account; afterwards it is the session's. Nothing is
stored on the server.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import urlsplit

from werkzeug.datastructures import Headers

FIELD = "csrf_token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def make_token(cookie: str) -> str:
    """The form's token for the browser that holds `cookie`."""
    return base64.urlsafe_b64encode(
        hmac.digest(cookie.encode(), b"karta form token 1", hashlib.sha256)
    ).decode()


def is_token(cookie: str | None, token: str | None) -> bool:
    """Whether `token` was made for `cookie`. Constant time; never raises."""
    if not cookie or not token:
        return False
    return hmac.compare_digest(make_token(cookie).encode(), token.encode("utf-8", "replace"))


def is_same_site(headers: Headers, scheme: str, host: str) -> bool:
    """Whether the browser says that the request came from a page of this very origin.

    Every browser of the last years sends Sec-Fetch-Site or Origin with a POST. A client that sends
    neither is no browser, so no other site can be acting through it; the token still has to be right.
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("Origin")
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme == scheme and parts.netloc.lower() == host.lower()
