"""The state between a right password and a second factor: a cookie of its own, and a row for some minutes."""

from __future__ import annotations

from uuid import UUID

from quart import Response

from admin import web_session
from admin.services import services
from storage.errors import NotFound
from storage.model import User
from storage.pending_sign_ins import create_pending_sign_in, select_pending_user
from storage.sessions import Method

COOKIE = "__Host-karta-pending"


class NothingPending(Exception):
    """No sign-in awaits its second factor here, or not any more."""


async def begin(response: Response, user_id: UUID, password_digest: bytes) -> None:
    """Raises NotFound when the password is the user's no more."""
    token = web_session.new_token()
    await create_pending_sign_in(services().db, user_id, web_session.digest(token), password_digest)
    web_session.set_cookie(response, COOKIE, token)


async def require_user() -> User:
    """Whose second factor is awaited. Raises `NothingPending`."""
    token = web_session.read_cookie(COOKIE)
    user = None if token is None else await select_pending_user(services().db, web_session.digest(token))
    if user is None:
        raise NothingPending
    return user


async def complete(
    response: Response, user_id: UUID, method: Method, credential_id: bytes | None = None
) -> None:
    """Signs in, where by a passkey by that one. Raises `NothingPending` when another request has done so
    already, a password was set, or the passkey was removed."""
    pending = web_session.digest(web_session.read_cookie(COOKIE) or "")
    try:
        await web_session.sign_in(
            response, user_id, method, pending_digest=pending, credential_id=credential_id
        )
    except NotFound:
        raise NothingPending from None
    web_session.delete_cookie(response, COOKIE)
