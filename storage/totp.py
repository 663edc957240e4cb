"""Codes of an authenticator app: TOTP as RFC 6238 has it, six digits, 30 seconds, SHA-1.

A code is taken once. The check is one UPDATE that moves `last_step` on, so of any number of tries at once, in
any number of processes, one wins; and after a code, no code of the same or an older step is taken.

The clock is the database's, as for all that proof hangs on: a host whose own jumps neither takes codes of
another hour nor refuses those of this one. Codes of the step before and after are taken too, since phones are
not exact: a code lives for 90 seconds at most.
"""

from __future__ import annotations

import hmac
from datetime import datetime
from uuid import UUID

import pyotp

from storage.audit import Event
from storage.bridge import Database
from storage.clock import tell_time
from storage.errors import Conflict, NotFound
from storage.model import Actor
from storage.outbox import Letter, post
from storage.queries import Queries
from storage.recovery_codes import drop_idle_codes
from storage.sealed_box import Purpose, open_box, seal_box
from storage.sealing import MasterKeys
from storage.sessions import end_sessions, require_session
from storage.users import record_account_change

STEP_SECONDS = 30
DIGITS = 6
SECRET_CHARS = 32
"""160 random bits in base32, as RFC 4226 recommends."""
_STEPS_AROUND = (0, -1, 1)
_TOLD = {"factor": "totp"}


async def begin_totp(db: Database, master_keys: MasterKeys, user_id: UUID) -> None:
    """Makes a new secret, which counts once a code of it was given. Raises Conflict when one counts
    already."""
    secret = pyotp.random_base32(SECRET_CHARS)
    sealed = seal_box(master_keys, Purpose.TOTP_SECRET, user_id.bytes, secret.encode())
    begun = await db.fetch_value(
        """
        INSERT INTO totp_factors AS f (user_id, sealed_secret) VALUES ($1, $2)
        ON CONFLICT (user_id) DO UPDATE
           SET sealed_secret = excluded.sealed_secret, last_step = 0, created_at = now()
         WHERE f.confirmed_at IS NULL
        RETURNING true
        """,
        user_id,
        sealed,
    )
    if not begun:
        raise Conflict("an authenticator app is set up already: remove it first")


async def select_begun_secret(db: Queries, master_keys: MasterKeys, user_id: UUID) -> str:
    """The secret to be put into the app, in base32, while it does not count yet. Raises NotFound."""
    sealed = await db.fetch_value(
        "SELECT sealed_secret FROM totp_factors WHERE user_id = $1 AND confirmed_at IS NULL", user_id
    )
    if sealed is None:
        raise NotFound("there is nothing to confirm: begin setting the app up")
    return open_box(master_keys, Purpose.TOTP_SECRET, user_id.bytes, sealed).decode()


async def confirm_totp(
    db: Database,
    actor: Actor,
    master_keys: MasterKeys,
    user_id: UUID,
    code: str,
    letter: Letter,
    *,
    keep_session: bytes,
    at: float | None = None,
) -> bool:
    """Makes the begun secret count, if the code is right; other sessions end then. Raises NotFound, and
    SessionEnded when the session that is kept has ended."""
    secret = await select_begun_secret(db, master_keys, user_id)
    step = matching_step(secret, code, await _tell(db, at))
    if step is None:
        return False
    async with db.transaction() as tx:
        await require_session(tx, user_id, keep_session)
        done = await tx.fetch_value(
            """
            UPDATE totp_factors SET confirmed_at = now(), last_step = $2
             WHERE user_id = $1 AND confirmed_at IS NULL
            RETURNING true
            """,
            user_id,
            step,
        )
        if not done:
            raise NotFound("there is nothing to confirm any more")
        await end_sessions(tx, user_id, keep=keep_session)
        await post(tx, master_keys, letter)
        await record_account_change(tx, actor, Event.FACTOR_ADDED, user_id, _TOLD, _TOLD)
    return True


async def use_totp(
    db: Database, master_keys: MasterKeys, user_id: UUID, code: str, *, at: float | None = None
) -> bool:
    """Whether the code is right, now; it is spent then."""
    sealed = await db.fetch_value(
        "SELECT sealed_secret FROM totp_factors WHERE user_id = $1 AND confirmed_at IS NOT NULL", user_id
    )
    if sealed is None:
        return False
    secret = open_box(master_keys, Purpose.TOTP_SECRET, user_id.bytes, sealed).decode()
    step = matching_step(secret, code, await _tell(db, at))
    if step is None:
        return False
    taken = await db.fetch_value(
        "UPDATE totp_factors SET last_step = $2"
        " WHERE user_id = $1 AND last_step < $2 AND confirmed_at IS NOT NULL RETURNING true",
        user_id,
        step,
    )
    return taken is True


async def remove_totp(
    db: Database, actor: Actor, master_keys: MasterKeys, user_id: UUID, letter: Letter, *, keep_session: bytes
) -> None:
    """Forgets the secret; other sessions end. Raises NotFound, and SessionEnded when the session that is kept
    has ended."""
    async with db.transaction() as tx:
        await require_session(tx, user_id, keep_session)
        removed = await tx.fetch_value("DELETE FROM totp_factors WHERE user_id = $1 RETURNING true", user_id)
        if not removed:
            raise NotFound("no authenticator app is set up")
        await drop_idle_codes(tx, user_id)
        await end_sessions(tx, user_id, keep=keep_session)
        await post(tx, master_keys, letter)
        await record_account_change(tx, actor, Event.FACTOR_REMOVED, user_id, _TOLD, _TOLD)


async def select_totp_since(db: Queries, user_id: UUID) -> datetime | None:
    """Since when the user's app counts; None when there is none."""
    since: datetime | None = await db.fetch_value(
        "SELECT confirmed_at FROM totp_factors WHERE user_id = $1", user_id
    )
    return since


async def _tell(db: Queries, at: float | None) -> float:
    return (await tell_time(db)).timestamp() if at is None else at


def matching_step(secret: str, code: str, at: float) -> int | None:
    """The step near the time `at` (seconds since 1970) that the code is of; None when it is of none."""
    if len(code) != DIGITS or not (code.isascii() and code.isdigit()):
        return None
    app = pyotp.TOTP(secret, digits=DIGITS, interval=STEP_SECONDS)
    now = int(at) // STEP_SECONDS
    for around in _STEPS_AROUND:
        step = now + around
        if step > 0 and hmac.compare_digest(app.generate_otp(step), code):
            return step
    return None


def provisioning_uri(secret: str, email: str) -> str:
    """What the app's QR code says."""
    return pyotp.TOTP(secret, digits=DIGITS, interval=STEP_SECONDS).provisioning_uri(
        name=email, issuer_name="Karta"
    )
