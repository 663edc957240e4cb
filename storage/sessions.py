"""Web sessions, kept here rather than in a signed cookie so that they can be ended.

What is stored is a digest of the cookie's token (SHA-256 is enough for 128 random bits), so a copy of the
table signs nobody in.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from storage import audit
from storage.audit import Event
from storage.bridge import Database
from storage.model import Actor, User
from storage.queries import Queries
from storage.users import to_user

_EXPIRED_ROWS_MAX = 100
"""Expired sessions cleared away by each new one: the table stays in proportion to its use without a job of
its own."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One signed-in browser."""

    user_id: UUID
    created_at: datetime
    expires_at: datetime


async def create_session(
    db: Database, actor: Actor, user_id: UUID, token_digest: bytes, expires_at: datetime
) -> Session:
    """Raises InvalidReference for an unknown user, CheckFailed unless the digest has 32 bytes."""
    async with db.transaction() as tx:
        await tx.execute(
            """
            DELETE FROM sessions
             WHERE token_digest IN (
                   SELECT token_digest FROM sessions WHERE expires_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED)
            """,
            _EXPIRED_ROWS_MAX,
        )
        row = await tx.fetch_row(
            """
            INSERT INTO sessions (token_digest, user_id, expires_at)
            VALUES ($1, $2, $3)
            RETURNING user_id, created_at, expires_at
            """,
            token_digest,
            user_id,
            expires_at,
        )
        details = {"expires_at": expires_at.isoformat()}
        await audit.record(tx, actor, Event.SESSION_CREATED, None, str(user_id), details)
    assert row is not None
    return Session(user_id=row["user_id"], created_at=row["created_at"], expires_at=row["expires_at"])


async def select_session(db: Queries, token_digest: bytes) -> tuple[Session, User] | None:
    """The live session of that token and its user; None when it has expired, was ended, or never was."""
    row = await db.fetch_row(
        """
        SELECT s.created_at AS session_created_at, s.expires_at, u.user_id, u.email, u.created_at
          FROM sessions s
          JOIN users u USING (user_id)
         WHERE s.token_digest = $1 AND s.expires_at > now()
        """,
        token_digest,
    )
    if row is None:
        return None
    session = Session(
        user_id=row["user_id"], created_at=row["session_created_at"], expires_at=row["expires_at"]
    )
    return session, to_user(row)


async def delete_session(db: Database, actor: Actor, token_digest: bytes) -> bool:
    """Ends a session. False when there was none."""
    async with db.transaction() as tx:
        user_id = await tx.fetch_value(
            "DELETE FROM sessions WHERE token_digest = $1 RETURNING user_id", token_digest
        )
        if user_id is not None:
            await audit.record(tx, actor, Event.SESSION_ENDED, None, str(user_id), {})
    return user_id is not None
