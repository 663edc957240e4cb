"""Who calls the management API: the key in `Authorization: Bearer kt_mgmt_…`, and nothing else.

Order of defence: the address is counted; the checksum (an invented key costs nothing more); the body is read,
so that a call is of a key that lives when the call is whole, and not when it began; the row, which says
whether the key is alive; the secret, which costs a bcrypt unless this process has verified it lately;
and at last the key is counted, so that nobody else uses up what is its own.

One answer for unknown, wrong, revoked and expired: which it was is nobody's business.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

from quart import g, request

from admin import csrf, throttle
from admin.services import services
from storage import key_format
from storage.key_format import ParsedManagementKey
from storage.management_keys import ActingKey, note_use, select_acting

USE_NOTED = timedelta(minutes=1)
"""How coarsely it is noted that a key is used: not each call is a write."""
_SCHEME = "bearer "


class Unauthenticated(Exception):
    """No live management key came with the call."""


async def authenticate() -> ActingKey:
    """Raises `Unauthenticated`, `Throttled`, `TooManyChecks`, and what is wrong with how the body came."""
    await throttle.count_address(throttle.API_ADDRESS)
    parsed = key_format.parse_management(_token())
    if parsed is None:
        raise Unauthenticated
    if request.method not in csrf.SAFE_METHODS:
        await request.get_data()
    acting = await select_acting(services().db, parsed.key_id)
    if acting is None:
        raise Unauthenticated
    await _require_secret(parsed, acting)
    await throttle.count(throttle.API_KEY, parsed.key_id)
    used = acting.key.last_used_at
    if used is None or datetime.now(UTC) - used > USE_NOTED:
        await note_use(services().db, parsed.key_id)
    g.acting, g.management_secret = acting, parsed.secret
    return acting


def acting_key() -> ActingKey:
    """Whose call this is; once `authenticate` has said so."""
    return cast("ActingKey", g.acting)


def secret() -> bytes:
    """The secret it came with: what is kept of a call is bound to it."""
    return cast("bytes", g.management_secret)


async def _require_secret(parsed: ParsedManagementKey, acting: ActingKey) -> None:
    check = services().management_keys
    if check.remembers(parsed.secret, acting.secret_digest):
        return
    await throttle.count_address(throttle.API_UNPROVED_ADDRESS)
    if not await check.verify(parsed.secret, acting.secret_digest):
        raise Unauthenticated


def _token() -> bytes:
    given = request.headers.getlist("Authorization")
    if len(given) != 1 or given[0][: len(_SCHEME)].lower() != _SCHEME:
        return b""
    token: str = given[0][len(_SCHEME) :].strip(" ")
    return token.encode("utf-8", "replace") if len(token) <= key_format.TOKEN_BYTES_MAX else b""
