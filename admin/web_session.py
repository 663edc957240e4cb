"""Who is signed in: a random token in a cookie, and its digest in the database.

The cookie has the `__Host-` prefix, so it is sent to this host alone, over HTTPS alone (browsers count
http://localhost as secure, but not http://127.0.0.1), and no neighbouring domain can set it. A token is
made anew at every sign-in and every proof of who somebody is; one that the browser brought along is ended.
Sessions end at a fixed time, and when they are left idle.

Some acts need fresh proof (`stepped_up`): the feature `proof` asks for it.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

from quart import Request, Response, g, request
from werkzeug.exceptions import HTTPException

from admin import api_path, client_address, csrf, throttle, wording
from admin.services import services
from storage.clock import tell_time
from storage.model import Actor, ActorKind, User
from storage.sessions import (
    Method,
    Session,
    create_session,
    delete_session,
    step_up,
    touch_session,
)
from storage.sign_in_places import Place
from storage.signed_in import SignedIn, select_signed_in

COOKIE = "__Host-karta-session"
VISITOR_COOKIE = "__Host-karta-visitor"
"""Carries the form token's secret before sign-in; it identifies nobody and ends with the browser."""
ANONYMOUS_ENDPOINTS = frozenset(
    {
        *("static", "transport.healthz", "transport.report_violation", "stripe_webhook.take"),
        *("trust.show_security", "trust.show_policy", "trust.show_compliance", "trust.show_sub_processors"),
        *("trust.show_security_txt", "trust.follow_security_txt"),
        *("status.show", "status.show_json", "status.show_atom", "status.show_badge"),
        *("status.show_history", "status.show_incident"),
    }
)
"""Nobody is looked up for these, so they answer without a database."""
TOKEN_BYTES = 32
TOKEN_CHARS_MAX = 64
"""No longer cookie is ours, so none is hashed or looked up."""
LOOK_HEADER = "X-Karta-Look"
"""A page that follows what happens asks again by itself (static/live.js): that is no sign of its reader."""
TOUCH_SECONDS = 60
"""How coarsely it is noted that a session is used: not each page is a write."""


PROGRAMS = frozenset({"transport.report_violation", "suppressions_webhook.take", "stripe_webhook.take"})
"""Endpoints that other programs post to, without a cookie: a report, or what its sender has proved."""


class SignedOut(Exception):
    """The page is for people who are signed in."""


class Forged(Exception):
    """A change was asked for without the proof that one of our own forms did."""


async def read_form() -> None:
    """Before anything is asked about who is there: a form counts as sent when its last byte is. Whoever holds
    one back, while a session ends or a member is taken out, is then asked for as who they are by that time.

    Of strangers, too: how much, and for how long, is bounded for all alike.
    """
    if request.method in csrf.SAFE_METHODS or request.endpoint in PROGRAMS or api_path.is_api():
        return
    try:
        await request.form
    except HTTPException:
        await load_user()  # for the page that says so
        raise


async def load_user() -> None:
    """Before each request: puts the signed-in user, or None, where `current_user` finds it."""
    g.signed_in = None
    token = _cookie(request, COOKIE)
    if token is None or request.endpoint in ANONYMOUS_ENDPOINTS or api_path.is_api():
        return
    idle_seconds = services().settings.session_idle_minutes * 60
    found = g.signed_in = await select_signed_in(services().db, digest(token), idle_seconds)
    if found is not None:
        stale = datetime.now(UTC) - found.session.last_seen_at > timedelta(seconds=TOUCH_SECONDS)
        if stale and LOOK_HEADER not in request.headers:
            await touch_session(services().db, digest(token))


def current() -> SignedIn | None:
    """Who is signed in, with all that was asked about them."""
    return cast("SignedIn | None", g.get("signed_in"))


def require() -> SignedIn:
    """The same. Raises `SignedOut`."""
    signed_in = current()
    if signed_in is None:
        raise SignedOut
    return signed_in


def current_user() -> User | None:
    signed_in = current()
    return None if signed_in is None else signed_in.user


def current_session() -> Session:
    """Raises `SignedOut`."""
    return require().session


def session_digest() -> bytes:
    """What the database knows the current session by. Raises `SignedOut`."""
    current_session()
    return digest(_cookie(request, COOKIE) or "")


def require_user() -> User:
    """The signed-in user. Raises `SignedOut`."""
    return require().user


async def require_proof() -> None:
    """Before each request that changes something. Raises `Forged`."""
    if request.method in csrf.SAFE_METHODS or request.endpoint in PROGRAMS:
        return
    if api_path.is_api():
        return  # no cookie counts there, so no other site can use one
    scheme = client_address.scheme(request, services().settings.trusted_proxies)
    form = await request.form
    if not csrf.is_same_site(request.headers, scheme, request.host):
        raise Forged
    if not csrf.is_token(_secret_cookie(), form.get(csrf.FIELD)):
        raise Forged


def form_token() -> str:
    """The hidden field of a form on this page."""
    return csrf.make_token(form_secret())


def form_secret() -> str:
    """What names this browser to its forms. For a visitor it makes the cookie that goes with it."""
    secret = _secret_cookie()
    if secret is None:
        secret = g.get("visitor") or new_token()
        g.visitor = secret
    return str(secret)


async def keep_visitor(response: Response) -> Response:
    """After each request: sets the visitor's cookie if a form was made for it."""
    if visitor := g.get("visitor"):
        set_cookie(response, VISITOR_COOKIE, visitor)
    return response


async def sign_in(
    response: Response,
    user_id: UUID,
    method: Method,
    password_digest: bytes | None = None,
    pending_digest: bytes | None = None,
    credential_id: bytes | None = None,
) -> None:
    """Begin a session of a new token, and end the one the browser had. Raises NotFound when somebody signs in
    by a password or a passkey that is theirs no more, or by a second factor and the pending sign-in has
    ended; ProofRequired when they do by a password and have a second factor by now."""
    token = new_token()
    expires_at = await tell_time(services().db) + timedelta(hours=services().settings.session_hours)
    await _end_session()
    acting = actor(user_id)
    place = Place(
        browser=wording.browser(acting.user_agent),
        network=throttle.bucket(acting.address),
        address=acting.address or "unknown",
    )
    await create_session(
        services().db,
        acting,
        user_id,
        digest(token),
        expires_at,
        method,
        place,
        password_digest,
        pending_digest,
        credential_id,
    )
    set_cookie(response, COOKIE, token)
    delete_cookie(response, VISITOR_COOKIE)


async def prove(response: Response) -> None:
    """Notes that the signed-in person has proved who they are; the session goes on under a new token."""
    user = require_user()
    token = new_token()
    await step_up(services().db, actor(user.user_id), user.user_id, session_digest(), digest(token))
    set_cookie(response, COOKIE, token)


async def sign_out(response: Response) -> None:
    await _end_session()
    delete_cookie(response, COOKIE)


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
        await delete_session(services().db, actor(user.user_id if user else None), digest(token))


def _secret_cookie() -> str | None:
    """What form tokens are made of: the session's token when signed in, else the visitor's."""
    return _cookie(request, COOKIE if current_user() is not None else VISITOR_COOKIE)


def read_cookie(name: str) -> str | None:
    """One of our secrets that the browser brought, if it can be one."""
    return _cookie(request, name)


def _cookie(request: Request, name: str) -> str | None:
    value: str | None = request.cookies.get(name)
    return value if value and len(value) <= TOKEN_CHARS_MAX else None


def set_cookie(response: Response, name: str, value: str) -> None:
    """With all that our cookies have; it ends with the browser."""
    response.set_cookie(name, value, secure=True, httponly=True, samesite="Lax", path="/")


def delete_cookie(response: Response, name: str) -> None:
    response.delete_cookie(name, secure=True, httponly=True, samesite="Lax", path="/")


def new_token() -> str:
    """A secret of 256 random bits, fit for a cookie or a link."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> bytes:
    """What the database keeps of such a secret."""
    return hashlib.sha256(token.encode()).digest()
