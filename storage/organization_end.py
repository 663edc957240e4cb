"""The end of an organization: suspended at once, gone after a while, and kept if an owner says so meanwhile.

What goes: its keys are revoked, its provider keys shredded, its webhooks deleted, its members and invitations
taken out, its name forgotten. What stays is a bare row, for the usage and the audit rows that name it.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from storage import audit
from storage.audit import Event
from storage.bridge import Database
from storage.credentials import revoke_credential, select_credentials
from storage.errors import Conflict, NotFound
from storage.model import Actor
from storage.queries import Queries
from storage.webhooks import hide_endpoints

GRACE = timedelta(days=7)
DUE_MAX = 20
"""Of one round of the job; the next round takes the rest."""


async def request_end(db: Database, actor: Actor, org_id: UUID) -> None:
    """Suspends it now and lets it go after `GRACE`. Raises NotFound; the same again changes nothing."""
    async with db.transaction() as tx:
        row = await tx.fetch_row(
            "SELECT status, delete_after FROM organizations"
            " WHERE org_id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE",
            org_id,
        )
        if row is None:
            raise NotFound(f"there is no organization {org_id}")
        if row["delete_after"] is not None:
            return
        await tx.execute(
            """
            UPDATE organizations
               SET delete_after = now() + $2::interval, active_before = (status = 'active'),
                   status = 'suspended'
             WHERE org_id = $1
            """,
            org_id,
            GRACE,
        )
        details = {"grace_days": GRACE.days}
        await audit.record(tx, actor, Event.ORGANIZATION_END_REQUESTED, org_id, str(org_id), details)


async def cancel_end(db: Database, actor: Actor, org_id: UUID) -> None:
    """Keeps it after all. Raises Conflict when it is too late, or nothing was to end."""
    async with db.transaction() as tx:
        kept = await tx.fetch_value(
            """
            UPDATE organizations
               SET delete_after = NULL, status = CASE WHEN active_before THEN 'active' ELSE status END
             WHERE org_id = $1 AND delete_after IS NOT NULL AND deleted_at IS NULL
            RETURNING true
            """,
            org_id,
        )
        if not kept:
            raise Conflict("there is nothing to keep: its end was not asked for, or has come")
        await audit.record(tx, actor, Event.ORGANIZATION_END_CANCELLED, org_id, str(org_id), {})


async def select_due(db: Queries) -> list[UUID]:
    """The organizations whose time has come, the longest due first."""
    rows = await db.fetch(
        """
        SELECT org_id FROM organizations
         WHERE delete_after <= now() AND deleted_at IS NULL
         ORDER BY delete_after
         LIMIT $1
        """,
        DUE_MAX,
    )
    return [row["org_id"] for row in rows]


async def end_organization(db: Database, actor: Actor, org_id: UUID) -> bool:
    """Lets one go whose time has come. False when it has not, or somebody else was faster.

    Each provider key is shredded by itself, so if this is cut off, the next round takes up what is left.
    """
    due = "SELECT true FROM organizations WHERE org_id = $1 AND delete_after <= now() AND deleted_at IS NULL"
    if not await db.fetch_value(due, org_id):
        return False
    for credential in await select_credentials(db, org_id, live=True):
        await revoke_credential(db, actor, credential.credential_id, org_id=org_id)
    async with db.transaction() as tx:
        if not await tx.fetch_value(f"{due} FOR NO KEY UPDATE", org_id):
            return False
        await tx.execute(
            "UPDATE api_keys SET revoked_at = now() WHERE org_id = $1 AND revoked_at IS NULL", org_id
        )
        await tx.execute(
            "UPDATE management_keys SET revoked_at = now() WHERE org_id = $1 AND revoked_at IS NULL", org_id
        )
        await hide_endpoints(tx, org_id)
        await tx.execute("DELETE FROM memberships WHERE org_id = $1", org_id)
        await tx.execute("DELETE FROM invitations WHERE org_id = $1", org_id)
        await tx.execute(
            "UPDATE organizations SET name = 'Deleted organization', deleted_at = now() WHERE org_id = $1",
            org_id,
        )
        await audit.record(tx, actor, Event.ORGANIZATION_ENDED, org_id, str(org_id), {})
    return True
