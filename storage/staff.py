"""Platform operators: who they are, what they look at, and what they do to organizations.

Only the owner of the schema makes or unmakes one, by the command line: the program that serves pages cannot.
Whatever they look at is recorded: in the organization's own chain where it is about one, so that its members
see it, else in the system's.

A suspension by staff says why, and outlives the wish of the organization's owners to end or keep it.
"""

from __future__ import annotations

import re
from datetime import datetime
from uuid import UUID

import msgspec

from storage import audit
from storage.audit import Event
from storage.bridge import Database
from storage.errors import Conflict, NotFound
from storage.model import Actor, Organization, OrgStatus
from storage.organizations import COLUMNS, to_organization
from storage.queries import Queries
from storage.users import normalize_email

STAFF_MAX = 1000
"""The most that one listing returns."""
PAGE_ROWS_MAX = 50
SEARCH_CHARS_MAX = 200
REASON_CHARS_MAX = 500
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


class StaffMember(msgspec.Struct, frozen=True, kw_only=True):
    user_id: UUID
    email: str
    granted_at: datetime
    has_factor: bool
    """Without one they see nothing."""


async def grant_staff(owner_db: Database, actor: Actor, email: str) -> UUID:
    """Makes a user a platform operator; being one already changes nothing. For the owner of the schema.

    Raises NotFound for no user of that address, InvalidValue for no address.
    """
    async with owner_db.transaction() as tx:
        user_id = await _require_user(tx, email)
        granted = await tx.fetch_value(
            "INSERT INTO staff (user_id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING true", user_id
        )
        if granted:
            await audit.record(tx, actor, Event.STAFF_GRANTED, None, str(user_id), {})
    return user_id


async def revoke_staff(owner_db: Database, actor: Actor, email: str) -> UUID:
    """Unmakes one. Raises NotFound for nobody, or who is none."""
    async with owner_db.transaction() as tx:
        user_id = await _require_user(tx, email)
        gone = await tx.fetch_value("DELETE FROM staff WHERE user_id = $1 RETURNING true", user_id)
        if not gone:
            raise NotFound("that user is no platform operator: see `karta staff list`")
        await audit.record(tx, actor, Event.STAFF_REVOKED, None, str(user_id), {})
    return user_id


async def select_staff(db: Queries) -> list[StaffMember]:
    """All platform operators, longest first."""
    rows = await db.fetch(
        """
        SELECT f.user_id, u.email, f.granted_at,
               EXISTS (SELECT FROM totp_factors t WHERE t.user_id = f.user_id AND t.confirmed_at IS NOT NULL)
               OR EXISTS (SELECT FROM passkeys p WHERE p.user_id = f.user_id) AS has_factor
          FROM staff f JOIN users u USING (user_id)
         ORDER BY f.granted_at, f.user_id
         LIMIT $1
        """,
        STAFF_MAX,
    )
    return [StaffMember(**dict(row)) for row in rows]


async def record_view(db: Database, actor: Actor, org_id: UUID | None, page: str, search: str = "") -> None:
    """That a platform operator looks at something. Comes before what is shown."""
    async with db.transaction() as tx:
        details = {"page": page} | ({"search": search} if search else {})
        await audit.record(tx, actor, Event.STAFF_VIEWED, org_id, str(org_id or "system"), details)


async def search_organizations(
    db: Queries, text: str = "", status: OrgStatus | None = None, after: UUID | None = None
) -> list[Organization]:
    """Newest first, `PAGE_ROWS_MAX` at most: those whose id the text is, or the address of one of whose
    members, or whose name has it in it, which goes through all of them. `after` is the last organization of
    the page before."""
    text = text.strip()[:SEARCH_CHARS_MAX].lower()
    of_status = "true" if status is None else _OF_STATUS[status]
    rows = await db.fetch(
        f"""
        SELECT {COLUMNS}
          FROM organizations o
         WHERE {_of_text(text)}
           AND {of_status} AND o.deleted_at IS NULL
           AND ($2::uuid IS NULL OR (o.created_at, o.org_id)
                                    < (SELECT created_at, org_id FROM organizations WHERE org_id = $2))
         ORDER BY o.created_at DESC, o.org_id DESC
         LIMIT $3
        """,  # noqa: S608
        text,
        after,
        PAGE_ROWS_MAX,
    )
    return [to_organization(row) for row in rows]


_OF_STATUS = {
    OrgStatus.ACTIVE: "o.status = 'active'",
    OrgStatus.SUSPENDED: "o.status = 'suspended'",
}
"""Written out, for the index of those that are suspended."""


def _of_text(text: str) -> str:
    """Which organizations `$1` is for, by an index where there is one. No index tells what a name has in it:
    that takes an extension which not every PostgreSQL has."""
    if not text:
        return "$1 = ''"
    if _ID.fullmatch(text):
        return "o.org_id = $1::text::uuid"
    if _ADDRESS.fullmatch(text):
        return """
            o.org_id IN (SELECT m.org_id FROM memberships m JOIN users u USING (user_id) WHERE u.email = $1)
        """
    return "strpos(lower(o.name), $1) > 0"


async def suspend(db: Database, actor: Actor, org_id: UUID, reason: str) -> None:
    """Refuses its requests and cuts its running ones, everywhere, until it is lifted. The members read why.

    Raises NotFound, and CheckFailed for a reason that is empty or over `REASON_CHARS_MAX`.
    """
    async with db.transaction() as tx:
        before = await tx.fetch_row(
            "SELECT status, suspension_reason FROM organizations"
            " WHERE org_id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE",
            org_id,
        )
        if before is None:
            raise NotFound(f"there is no organization {org_id}")
        if before["suspension_reason"] == reason:
            return
        # Owners who take back its end must not lift this with it.
        await tx.execute(
            """
            UPDATE organizations SET status = 'suspended', suspension_reason = $2, active_before = false
             WHERE org_id = $1
            """,
            org_id,
            reason,
        )
        details = {"before": before["status"], "after": "suspended", "reason": reason}
        await audit.record(tx, actor, Event.ORGANIZATION_STATUS_CHANGED, org_id, str(org_id), details)


async def lift(db: Database, actor: Actor, org_id: UUID) -> None:
    """Ends a suspension. An organization whose owners asked for its end stays suspended for that alone.

    Raises NotFound, and Conflict where nothing is suspended by staff.
    """
    async with db.transaction() as tx:
        before = await tx.fetch_row(
            """
            SELECT status, delete_after, suspension_reason FROM organizations
             WHERE org_id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE
            """,
            org_id,
        )
        if before is None:
            raise NotFound(f"there is no organization {org_id}")
        ending = before["delete_after"] is not None
        if before["status"] != "suspended" or (ending and before["suspension_reason"] is None):
            raise Conflict("it is not suspended by staff")
        after = "suspended" if ending else "active"
        await tx.execute(
            """
            UPDATE organizations SET status = $2, suspension_reason = NULL, active_before = true
             WHERE org_id = $1
            """,
            org_id,
            after,
        )
        details = {"before": before["status"], "after": after, "lifted": True}
        await audit.record(tx, actor, Event.ORGANIZATION_STATUS_CHANGED, org_id, str(org_id), details)


async def _require_user(tx: Queries, email: str) -> UUID:
    user_id: UUID | None = await tx.fetch_value(
        "SELECT user_id FROM users WHERE email = $1 AND deleted_at IS NULL", normalize_email(email)
    )
    if user_id is None:
        raise NotFound("there is no user of that address: they sign up first")
    return user_id
