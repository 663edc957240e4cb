"""Who is signed in: a random token in a cookie, and its digest in the database.

The cookie has the `__Host-` prefix, so it is sent to this host alone, over HTTPS alone (browsers count
http://localhost as secure, but not http://127.0.0.1), and no neighbouring domain can set it. A token is
made anew at every sign-in; one that the browser brought along is ended. Sessions end at a fixed time.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

from quart import Request, Response, g, request

from admin import client_address, csrf
from admin.services import services
from storage.errors import NotFound
from storage.model import Actor, ActorKind, User
from storage.sessions import create_session, delete_session, select_session

COOKIE = "__Host-karta-session"
VISITOR_COOKIE = "__Host-karta-visitor"
"""Carries the form token's secret before sign-in; it identifies nobody and ends with the browser."""
ANONYMOUS_ENDPOINTS = frozenset({"static", "transport.healthz", "transport.report_violation"})
"""Nobody is looked up for these, so they answer without a database."""
TOKEN_BYTES = 32
TOKEN_CHARS_MAX = 64
"""No longer cookie is ours, so none is hashed or looked up."""


class SignedOut(Exception):
    """The page is for people who are signed in."""


class Forged(Exception):
    """A change was asked for without the proof that one of our own forms did."""


async def load_user() -> None:
    """Before each request: puts the signed-in user, or None, where `current_user` finds it."""
    g.user = None
    token = _cookie(request, COOKIE)
    if token is None or request.endpoint in ANONYMOUS_ENDPOINTS:
        return
    found = await select_session(services().db, _digest(token))
    if found is not None:
        _, g.user = found


def current_user() -> User | None:
    return cast("User | None", g.get("user"))


def require_user() -> User:
    """The signed-in user. Raises `SignedOut`."""
    user = current_user()
    if user is None:
        raise SignedOut
    return user


async def require_proof() -> None:
    """Before each request that changes something. Raises `Forged`."""
    if request.method in csrf.SAFE_METHODS or request.endpoint == "transport.report_violation":
        return
    scheme = client_address.scheme(request, services().settings.trusted_proxies)
    form = await request.form
    if not csrf.is_same_site(request.headers, scheme, request.host):
        raise Forged
    if not csrf.is_token(_secret_cookie(), form.get(csrf.FIELD)):
        raise Forged


def form_token() -> str:
    """The hidden field of a form on this page. For a visitor it makes the cookie that goes with it."""
    secret = _secret_cookie()
    if secret is None:
        secret = g.get("visitor") or secrets.token_urlsafe(TOKEN_BYTES)
        g.visitor = secret
    return csrf.make_token(secret)


def keep_visitor(response: Response) -> Response:
    """After each request: sets the visitor's cookie if a form was made for it."""
    if visitor := g.get("visitor"):
        _set_cookie(response, VISITOR_COOKIE, visitor)
    return response


async def sign_in(response: Response, user_id: UUID) -> None:
    """Begin a session of a new token, and end the one the browser had."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    expires_at = datetime.now(UTC) + timedelta(hours=services().settings.session_hours)
    await _end_session()
    await create_session(services().db, actor(user_id), user_id, _digest(token), expires_at)
    _set_cookie(response, COOKIE, token)
    _delete_cookie(response, VISITOR_COOKIE)


async def sign_out(response: Response) -> None:
    await _end_session()
    _delete_cookie(response, COOKIE)


def actor(user_id: UUID | None) -> Actor:
    """Who the audit log says did it, from where."""
    return Actor(
        kind=ActorKind.SYSTEM if user_id is None else ActorKind.USER,
        actor_id="admin" if user_id is None else str(user_id),
        address=client_address.address(request, services().settings.trusted_proxies),
        user_agent=request.headers.get("User-Agent"),
    )


async def _end_session() -> None:
    token = _cookie(request, COOKIE)
    if token is not None:
        user = current_user()
        try:
            await delete_session(services().db, actor(user.user_id if user else None), _digest(token))
        except NotFound:
            return


def _secret_cookie() -> str | None:
    """What form tokens are made of: the session's token when signed in, else the visitor's."""
    return _cookie(request, COOKIE if current_user() is not None else VISITOR_COOKIE)


def _cookie(request: Request, name: str) -> str | None:
    value: str | None = request.cookies.get(name)
    return value if value and len(value) <= TOKEN_CHARS_MAX else None


def _set_cookie(response: Response, name: str, value: str) -> None:
    response.set_cookie(name, value, secure=True, httponly=True, samesite="Lax", path="/")


def _delete_cookie(response: Response, name: str) -> None:
    response.delete_cookie(name, secure=True, httponly=True, samesite="Lax", path="/")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
