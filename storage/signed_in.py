"""Everything a page asks about who is signed in, in one query: the session, the user, and what they may see.

Each page asks it, so what would otherwise be four round trips is one.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from storage.model import Organization, Role, User
from storage.organizations import COLUMNS as ORGANIZATION_COLUMNS
from storage.organizations import PAGE_ROWS_MAX, to_organization
from storage.queries import Queries
from storage.sessions import COLUMNS as SESSION_COLUMNS
from storage.sessions import IDLE_SECONDS, Session, to_session


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    session: Session
    user: User
    has_factor: bool
    """There is a second factor that counts."""
    is_staff: bool
    memberships: tuple[tuple[Organization, Role], ...]
    """The oldest organization first."""


async def select_signed_in(
    db: Queries, token_digest: bytes, idle_seconds: float = IDLE_SECONDS
) -> SignedIn | None:
    """Whose live session that token is; None when it has expired, was left idle or ended, or never was."""
    rows = await db.fetch(
        f"""
        SELECT {SESSION_COLUMNS}, u.email, u.created_at AS user_created_at, {ORGANIZATION_COLUMNS}, m.role,
               EXISTS (SELECT FROM totp_factors t WHERE t.user_id = u.user_id AND t.confirmed_at IS NOT NULL)
               OR EXISTS (SELECT FROM passkeys p WHERE p.user_id = u.user_id) AS has_factor,
               EXISTS (SELECT FROM staff f WHERE f.user_id = u.user_id) AS is_staff
          FROM sessions s
          JOIN users u USING (user_id)
          LEFT JOIN memberships m ON m.user_id = u.user_id
          LEFT JOIN organizations o ON o.org_id = m.org_id
         WHERE s.token_digest = $1 AND s.expires_at > now() AND s.last_seen_at > now() - $2::interval
           AND u.deleted_at IS NULL
         ORDER BY o.created_at, o.org_id
         LIMIT $3
        """,  # noqa: S608
        token_digest,
        timedelta(seconds=idle_seconds),
        PAGE_ROWS_MAX,
    )
    if not rows:
        return None
    first = rows[0]
    return SignedIn(
        session=to_session(first),
        user=User(user_id=first["user_id"], email=first["email"], created_at=first["user_created_at"]),
        has_factor=first["has_factor"],
        is_staff=first["is_staff"],
        memberships=tuple(
            (to_organization(row), Role(row["role"])) for row in rows if row["org_id"] is not None
        ),
    )
