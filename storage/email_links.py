"""Links sent by mail: each works once, for one purpose, for a while.

What is stored is a digest of the link's token (SHA-256 is enough for 128 random bits and more). A newer link
for the same purpose and address replaces the older one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from storage.bridge import Transaction
from storage.errors import NotFound
from storage.queries import Queries, Record

_EXPIRED_ROWS_MAX = 100
"""Cleared away by each new link, as sessions are."""
_COLUMNS = "purpose, email, user_id, expires_at"


class LinkPurpose(StrEnum):
    SIGN_UP = "sign_up"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - names a purpose
    CHANGE_EMAIL = "change_email"


LIFETIMES = {
    LinkPurpose.SIGN_UP: timedelta(hours=24),
    LinkPurpose.RESET_PASSWORD: timedelta(minutes=30),
    LinkPurpose.CHANGE_EMAIL: timedelta(hours=2),
}


class EmailLink(msgspec.Struct, frozen=True, kw_only=True):
    """What a link stands for. `user_id` is None for a sign-up: there is nobody yet."""

    purpose: LinkPurpose
    email: str
    user_id: UUID | None
    expires_at: datetime


async def create_link(
    tx: Transaction, purpose: LinkPurpose, email: str, user_id: UUID | None, token_digest: bytes
) -> EmailLink:
    """A new link, in place of an older one for the same."""
    await tx.execute(
        """
        DELETE FROM email_links
         WHERE token_digest IN (
               SELECT token_digest FROM email_links WHERE expires_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED)
        """,
        _EXPIRED_ROWS_MAX,
    )
    row = await tx.fetch_row(
        f"""
        INSERT INTO email_links (token_digest, purpose, email, user_id, expires_at)
        VALUES ($1, $2, $3, $4, now() + $5)
        ON CONFLICT (purpose, email) DO UPDATE
           SET token_digest = excluded.token_digest, user_id = excluded.user_id,
               created_at = now(), expires_at = excluded.expires_at
        RETURNING {_COLUMNS}
        """,  # noqa: S608
        token_digest,
        purpose.value,
        email,
        user_id,
        LIFETIMES[purpose],
    )
    assert row is not None
    return _to_link(row)


async def select_link(db: Queries, purpose: LinkPurpose, token_digest: bytes) -> EmailLink:
    """The live link of that token, unspent. Raises NotFound."""
    row = await db.fetch_row(
        f"SELECT {_COLUMNS} FROM email_links"  # noqa: S608
        " WHERE token_digest = $1 AND purpose = $2 AND expires_at > now()",
        token_digest,
        purpose.value,
    )
    return _to_link(_require(row))


async def spend_link(tx: Transaction, purpose: LinkPurpose, token_digest: bytes) -> EmailLink:
    """Spends the link in the transaction of what it allows. Of two at once, one gets NotFound."""
    row = await tx.fetch_row(
        f"""
        DELETE FROM email_links
         WHERE token_digest = $1 AND purpose = $2 AND expires_at > now()
        RETURNING {_COLUMNS}
        """,  # noqa: S608
        token_digest,
        purpose.value,
    )
    return _to_link(_require(row))


async def delete_links(tx: Transaction, user_id: UUID) -> None:
    """Ends all links of a user, as after a change that they must not undo."""
    await tx.execute("DELETE FROM email_links WHERE user_id = $1", user_id)


def _require(row: Record | None) -> Record:
    if row is None:
        raise NotFound("this link has been used or has expired: ask for a new one")
    return row


def _to_link(row: Record) -> EmailLink:
    return EmailLink(
        purpose=LinkPurpose(row["purpose"]),
        email=row["email"],
        user_id=row["user_id"],
        expires_at=row["expires_at"],
    )
