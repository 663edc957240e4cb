"""Sign-ins whose password was right and whose second factor is still to come.

Kept like sessions, by the digest of a cookie's token, for a few minutes. One ends when it succeeds, and all
of a user's end with their password.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from storage.bridge import Database, Transaction
from storage.errors import NotFound
from storage.model import User
from storage.queries import Queries
from storage.users import require_password, to_user

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


async def spend_pending_sign_in(tx: Transaction, user_id: UUID, token_digest: bytes) -> None:
    """Ends it, in the transaction that makes a session of it. Raises NotFound when it has ended already.

    The user's row is locked first, as a new password locks it: that either has ended this one, or waits and
    then ends the session too.
    """
    await tx.execute("SELECT FROM users WHERE user_id = $1 FOR SHARE", user_id)
    done = await tx.fetch_value(
        "DELETE FROM pending_sign_ins"
        " WHERE token_digest = $1 AND user_id = $2 AND expires_at > now() RETURNING true",
        token_digest,
        user_id,
    )
    if not done:
        raise NotFound("this sign-in has ended: begin anew")
