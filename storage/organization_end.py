"""The end of an organization: suspended at once, gone after a while, and kept if an owner says so meanwhile.

What goes: its keys are revoked, its provider keys shredded, its webhooks deleted, its members and invitations
taken out, its name forgotten. What stays is a bare row, for the usage and the audit rows that name it.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from storage import audit
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.credentials import forget_credentials, shred_now
from storage.errors import Conflict, NotFound
from storage.model import Actor
from storage.queries import Queries
from storage.webhooks import hide_endpoints, select_endpoints

GRACE = timedelta(days=7)
DUE_MAX = 20
"""Of one round of the job; the next round takes the rest."""
BATCH_ROWS_MAX = 500
"""Of one transaction: each has its row in the audit log, whose chain is locked for so long."""

_BECAUSE = "organization ended"
_DUE = """
    SELECT true FROM organizations
     WHERE org_id = $1 AND delete_after <= now() AND deleted_at IS NULL
       FOR NO KEY UPDATE
"""
_MANY = (
    (
        """
        UPDATE api_keys SET revoked_at = now()
         WHERE key_id IN (SELECT key_id FROM api_keys WHERE org_id = $1 AND revoked_at IS NULL
                           ORDER BY key_id LIMIT $2)
        RETURNING key_id AS subject, name, last_four
        """,
        Event.KEY_REVOKED,
    ),
    (
        """
        UPDATE management_keys SET revoked_at = now()
         WHERE key_id IN (SELECT key_id FROM management_keys WHERE org_id = $1 AND revoked_at IS NULL
                           ORDER BY key_id LIMIT $2)
        RETURNING key_id AS subject, name, last_four
        """,
        Event.MANAGEMENT_KEY_REVOKED,
    ),
    (
        """
        DELETE FROM memberships
         WHERE org_id = $1 AND user_id IN (SELECT user_id FROM memberships WHERE org_id = $1
                                            ORDER BY user_id LIMIT $2)
        RETURNING user_id::text AS subject, role
        """,
        Event.MEMBER_REMOVED,
    ),
)


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
    """Keeps it after all. Raises Conflict when its time has come, or nothing was to end.

    From that time on it may be half gone, so the clock decides and not how far the job has come.
    """
    async with db.transaction() as tx:
        kept = await tx.fetch_value(
            """
            UPDATE organizations
               SET delete_after = NULL, status = CASE WHEN active_before THEN 'active' ELSE status END
             WHERE org_id = $1 AND delete_after > clock_timestamp() AND deleted_at IS NULL
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

    What may be thousands goes by `BATCH_ROWS_MAX`, a transaction each; if this is cut off, the next round
    takes up what is left. The last one takes with it whatever was added meanwhile.
    """
    while True:
        async with db.transaction() as tx:
            if not await tx.fetch_value(_DUE, org_id):
                return False
            if await _end_many(tx, actor, org_id):
                continue
            await _end_rest(tx, actor, org_id)
        await shred_now(db)
        return True


async def _end_many(tx: Transaction, actor: Actor, org_id: UUID) -> bool:
    """Ends keys, management keys and members, `BATCH_ROWS_MAX` at most of one kind; whether there may be
    more."""
    for query, event in _MANY:
        changes = []
        for row in await tx.fetch(query, org_id, BATCH_ROWS_MAX):
            details = dict(row)
            changes.append((details.pop("subject"), details | {"because": _BECAUSE}))
        await audit.record_each(tx, actor, event, org_id, sorted(changes, key=lambda change: change[0]))
        if len(changes) == BATCH_ROWS_MAX:
            return True
    return False


async def _end_rest(tx: Transaction, actor: Actor, org_id: UUID) -> None:
    endpoints = await select_endpoints(tx, org_id)
    await hide_endpoints(tx, org_id)
    invited = await tx.fetch("DELETE FROM invitations WHERE org_id = $1 RETURNING email", org_id)
    await tx.execute(
        "UPDATE organizations SET name = 'Deleted organization', deleted_at = now() WHERE org_id = $1",
        org_id,
    )
    await forget_credentials(tx, actor, org_id, _BECAUSE)
    for event, changes in (
        (Event.WEBHOOK_DELETED, [(str(one.endpoint_id), {"host": one.host}) for one in endpoints]),
        (Event.INVITATION_WITHDRAWN, [(row["email"], {}) for row in invited]),
        (Event.ORGANIZATION_ENDED, [(str(org_id), {})]),
    ):
        await audit.record_each(tx, actor, event, org_id, changes)
