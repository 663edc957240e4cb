"""Sign-ins whose password was right and whose second factor is still to come.

Kept like sessions, by the digest of a cookie's token, for a few minutes. One ends when it succeeds, and all
of a user's end with their password.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from storage.bridge import Database
from storage.errors import NotFound
from storage.model import User
from storage.queries import Queries
from storage.sessions import require_password
from storage.users import to_user

LIFETIME = timedelta(minutes=10)
_EXPIRED_ROWS_MAX = 100


async def create_pending_sign_in(
    db: Database, user_id: UUID, token_digest: bytes, password_digest: bytes
) -> None:
    """Raises NotFound when the password is the user's no more."""
    async with db.transaction() as tx:
        await require_password(tx, user_id, password_digest)
        await tx.execute(
            """
            DELETE FROM pending_sign_ins
             WHERE token_digest IN (
                   SELECT token_digest FROM pending_sign_ins WHERE expires_at < now() LIMIT $1
                      FOR UPDATE SKIP LOCKED)
            """,
            _EXPIRED_ROWS_MAX,
        )
        await tx.execute(
            "INSERT INTO pending_sign_ins (token_digest, user_id, expires_at)"
            " VALUES ($1, $2, now() + $3::interval)",
            token_digest,
            user_id,
            LIFETIME,
        )


async def select_pending_user(db: Queries, token_digest: bytes) -> User | None:
    """Whose second factor is awaited; None when it is too late, or nobody's is."""
    row = await db.fetch_row(
        """
        SELECT u.user_id, u.email, u.created_at
          FROM pending_sign_ins p
          JOIN users u USING (user_id)
         WHERE p.token_digest = $1 AND p.expires_at > now() AND u.deleted_at IS NULL
        """,
        token_digest,
    )
    return None if row is None else to_user(row)


async def complete_pending_sign_in(db: Queries, token_digest: bytes) -> None:
    """Ends it, for a session to follow. Raises NotFound when it has ended already."""
    done = await db.fetch_value(
        "DELETE FROM pending_sign_ins WHERE token_digest = $1 AND expires_at > now() RETURNING true",
        token_digest,
    )
    if not done:
        raise NotFound("this sign-in has ended: begin anew")
