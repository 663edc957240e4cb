"""Passkeys: the public halves, and the challenges that browsers are to sign.

A challenge is taken away before anything is checked, so it is used once, by the browser that asked for it,
for what it was asked for. The counter must grow where an authenticator counts at all (those that synchronize
say 0 for ever): one that stands still or falls back is refused, since somebody may have copied the key.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from storage.audit import Event
from storage.bridge import Database
from storage.errors import Conflict, NotFound
from storage.model import Actor
from storage.outbox import Letter, post
from storage.queries import Queries, Record
from storage.recovery_codes import drop_idle_codes
from storage.sealing import MasterKeys
from storage.sessions import end_sessions, require_session
from storage.users import record_account_change

PASSKEYS_MAX = 20
"""Of one user."""
CHALLENGE_BYTES = 32
CHALLENGE_LIFETIME = timedelta(minutes=5)
CHALLENGES_MAX = 20
"""Of one browser at a time: the oldest goes first."""
HANDLE_BYTES = 64
_EXPIRED_ROWS_MAX = 100
_TOLD = {"factor": "passkey"}
"""To the person's organizations: not what the passkey is called."""
_COLUMNS = (
    "credential_id, passkey_id, user_id, name, public_key, sign_count, backed_up, created_at, last_used_at"
)


class ChallengePurpose(StrEnum):
    REGISTER = "register"
    SIGN_IN = "sign_in"
    SECOND_FACTOR = "second_factor"
    PROOF = "proof"


class Passkey(msgspec.Struct, frozen=True, kw_only=True):
    """One passkey; `passkey_id` names it on pages, `credential_id` to browsers."""

    credential_id: bytes
    passkey_id: UUID
    user_id: UUID
    name: str
    public_key: bytes
    sign_count: int
    backed_up: bool
    created_at: datetime
    last_used_at: datetime | None


async def create_challenge(db: Database, purpose: ChallengePurpose, holder: bytes) -> bytes:
    """32 random bytes for the browser whose cookie has the digest `holder`."""
    challenge = secrets.token_bytes(CHALLENGE_BYTES)
    async with db.transaction() as tx:
        await tx.execute(
            """
            DELETE FROM passkey_challenges
             WHERE challenge IN (
                   SELECT challenge FROM passkey_challenges WHERE expires_at < now() LIMIT $1
                      FOR UPDATE SKIP LOCKED)
                OR challenge IN (
                   SELECT challenge FROM passkey_challenges WHERE holder = $2
                    ORDER BY expires_at DESC OFFSET $3)
            """,
            _EXPIRED_ROWS_MAX,
            holder,
            CHALLENGES_MAX - 1,
        )
        await tx.execute(
            "INSERT INTO passkey_challenges (challenge, purpose, holder, expires_at)"
            " VALUES ($1, $2, $3, now() + $4::interval)",
            challenge,
            purpose.value,
            holder,
            CHALLENGE_LIFETIME,
        )
    return challenge


async def take_challenge(db: Queries, purpose: ChallengePurpose, holder: bytes, challenge: bytes) -> None:
    """Uses a challenge up. Raises NotFound for one that is not this browser's, was used, or is too old."""
    taken = await db.fetch_value(
        """
        DELETE FROM passkey_challenges
         WHERE challenge = $1 AND purpose = $2 AND holder = $3 AND expires_at > now()
        RETURNING true
        """,
        challenge,
        purpose.value,
        holder,
    )
    if not taken:
        raise NotFound("this challenge was used or is too old: load the page again")


async def ensure_handle(db: Queries, user_id: UUID) -> bytes:
    """What names the user to authenticators, made when first needed. Raises NotFound."""
    handle: bytes | None = await db.fetch_value(
        "UPDATE users SET passkey_handle = coalesce(passkey_handle, $2) WHERE user_id = $1"
        " RETURNING passkey_handle",
        user_id,
        secrets.token_bytes(HANDLE_BYTES),
    )
    if handle is None:
        raise NotFound(f"there is no user {user_id}")
    return handle


async def insert_passkey(
    db: Database,
    actor: Actor,
    master_keys: MasterKeys,
    passkey: Passkey,
    letter: Letter,
    *,
    keep_session: bytes,
) -> None:
    """Adds a passkey that was verified; other sessions end. Its id and times are the database's.

    Raises Conflict when it is somebody's already or the user has `PASSKEYS_MAX`, SessionEnded when the
    session that is kept has ended.
    """
    async with db.transaction() as tx:
        await require_session(tx, passkey.user_id, keep_session)
        count = await tx.fetch_value("SELECT count(*) FROM passkeys WHERE user_id = $1", passkey.user_id)
        if count >= PASSKEYS_MAX:
            raise Conflict(f"there are {PASSKEYS_MAX} passkeys already: remove one first")
        await tx.execute(
            """
            INSERT INTO passkeys (credential_id, user_id, name, public_key, sign_count, backed_up)
            VALUES ($1, $2, $3, $4, $5, $6)
            """,
            passkey.credential_id,
            passkey.user_id,
            passkey.name,
            passkey.public_key,
            passkey.sign_count,
            passkey.backed_up,
        )
        await end_sessions(tx, passkey.user_id, keep=keep_session)
        await post(tx, master_keys, letter)
        details = {**_TOLD, "name": passkey.name}
        await record_account_change(tx, actor, Event.FACTOR_ADDED, passkey.user_id, details, _TOLD)


async def select_passkeys(db: Queries, user_id: UUID) -> list[Passkey]:
    """A user's, oldest first."""
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM passkeys WHERE user_id = $1 ORDER BY created_at, passkey_id LIMIT $2",  # noqa: S608
        user_id,
        PASSKEYS_MAX,
    )
    return [_to_passkey(row) for row in rows]


async def select_passkey(db: Queries, credential_id: bytes) -> tuple[Passkey, bytes]:
    """A passkey and its user's handle. Raises NotFound."""
    row = await db.fetch_row(
        f"""
        SELECT {_COLUMNS}, (SELECT passkey_handle FROM users u WHERE u.user_id = p.user_id) AS passkey_handle
          FROM passkeys p
         WHERE credential_id = $1
        """,  # noqa: S608
        credential_id,
    )
    if row is None:
        raise NotFound("this passkey is not known here")
    return _to_passkey(row), row["passkey_handle"]


async def note_passkey_used(db: Queries, credential_id: bytes, sign_count: int, backed_up: bool) -> bool:
    """Notes a use that was verified. False when the counter has not grown: somebody may have copied the
    key."""
    noted = await db.fetch_value(
        """
        UPDATE passkeys SET sign_count = $2, backed_up = $3, last_used_at = now()
         WHERE credential_id = $1 AND ($2 > sign_count OR (sign_count = 0 AND $2 = 0))
        RETURNING true
        """,
        credential_id,
        sign_count,
        backed_up,
    )
    return noted is True


async def remove_passkey(
    db: Database,
    actor: Actor,
    master_keys: MasterKeys,
    user_id: UUID,
    passkey_id: UUID,
    letter: Letter,
    *,
    keep_session: bytes,
) -> None:
    """Forgets one of the user's passkeys; other sessions end. Raises NotFound, and SessionEnded when the
    session that is kept has ended."""
    async with db.transaction() as tx:
        await require_session(tx, user_id, keep_session)
        name = await tx.fetch_value(
            "DELETE FROM passkeys WHERE passkey_id = $1 AND user_id = $2 RETURNING name", passkey_id, user_id
        )
        if name is None:
            raise NotFound("there is no such passkey")
        await drop_idle_codes(tx, user_id)
        await end_sessions(tx, user_id, keep=keep_session)
        await post(tx, master_keys, letter)
        details = {**_TOLD, "name": name}
        await record_account_change(tx, actor, Event.FACTOR_REMOVED, user_id, details, _TOLD)


def _to_passkey(row: Record) -> Passkey:
    return Passkey(
        credential_id=row["credential_id"],
        passkey_id=row["passkey_id"],
        user_id=row["user_id"],
        name=row["name"],
        public_key=row["public_key"],
        sign_count=row["sign_count"],
        backed_up=row["backed_up"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
    )
