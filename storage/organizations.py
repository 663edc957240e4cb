"""Organizations: the tenants. Everything that is limited, billed or kept secret belongs to exactly one."""

from __future__ import annotations

import secrets
from uuid import UUID, uuid4

from storage import audit, plans
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import NotFound
from storage.model import Actor, Organization, OrgStatus, Plan, Role
from storage.queries import Queries, Record
from storage.sealing import SALT_BYTES

PAGE_ROWS_MAX = 1000
"""The most that one listing returns, whatever was asked."""
COLUMNS = """
    o.org_id, o.name, o.plan, o.status, o.created_at, o.mfa_required, o.delete_after, o.suspension_reason,
    o.payment_state, o.seats, o.prepaid
"""
"""What `to_organization` reads, of organizations called `o`."""


async def create_organization(db: Database, actor: Actor, *, name: str, plan: Plan) -> Organization:
    """A new, active organization with a salt of its own. Raises CheckFailed for a name that is empty or over
    200."""
    async with db.transaction() as tx:
        return await insert_organization(tx, actor, name, plan)


async def insert_organization(tx: Transaction, actor: Actor, name: str, plan: Plan) -> Organization:
    """The same within a transaction."""
    org_id = uuid4()
    row = await tx.fetch_row(
        f"""
        INSERT INTO organizations AS o (org_id, name, plan, salt)
        VALUES ($1, $2, $3, $4)
        RETURNING {COLUMNS}
        """,  # noqa: S608
        org_id,
        name,
        plan.value,
        secrets.token_bytes(SALT_BYTES),
    )
    details = {"name": name, "plan": plan.value}
    await plans.apply_ceilings(tx, org_id, plan)
    await audit.record(tx, actor, Event.ORGANIZATION_CREATED, org_id, str(org_id), details)
    assert row is not None
    return to_organization(row)


async def select_organization(db: Queries, org_id: UUID) -> Organization:
    """Raises NotFound."""
    row = await db.fetch_row(
        f"SELECT {COLUMNS} FROM organizations o WHERE o.org_id = $1",  # noqa: S608
        org_id,
    )
    return to_organization(_require(row, org_id))


async def select_organizations(
    db: Queries, limit: int = PAGE_ROWS_MAX, after: UUID | None = None
) -> list[Organization]:
    """Oldest first; `after` is the last organization of the page before."""
    rows = await db.fetch(
        f"""
        SELECT {COLUMNS}
          FROM organizations o
         WHERE $2::uuid IS NULL
            OR (o.created_at, o.org_id) > (SELECT created_at, org_id FROM organizations WHERE org_id = $2)
         ORDER BY o.created_at, o.org_id
         LIMIT $1
        """,  # noqa: S608
        min(limit, PAGE_ROWS_MAX),
        after,
    )
    return [to_organization(row) for row in rows]


async def select_organizations_by_user(db: Queries, user_id: UUID) -> list[tuple[Organization, Role]]:
    """The organizations a user is a member of, oldest first, with the role in each."""
    rows = await db.fetch(
        f"""
        SELECT {COLUMNS}, m.role
          FROM memberships m
          JOIN organizations o USING (org_id)
         WHERE m.user_id = $1
         ORDER BY o.created_at, o.org_id
         LIMIT $2
        """,  # noqa: S608
        user_id,
        PAGE_ROWS_MAX,
    )
    return [(to_organization(row), Role(row["role"])) for row in rows]


async def set_plan(db: Database, actor: Actor, org_id: UUID, plan: Plan) -> Organization:
    """`plans.change_plan` in a transaction of its own. Raises NotFound."""
    async with db.transaction() as tx:
        await plans.change_plan(tx, actor, org_id, plan)
        return await select_organization(tx, org_id)


async def rename(db: Database, actor: Actor, org_id: UUID, name: str) -> Organization:
    """Raises NotFound, and CheckFailed for a name that is empty or over 200."""
    return await _set(db, actor, org_id, "name", name, Event.ORGANIZATION_RENAMED)


async def require_mfa(db: Database, actor: Actor, org_id: UUID, required: bool) -> Organization:
    """Whether members need a second factor to see anything of it. Raises NotFound."""
    return await _set(db, actor, org_id, "mfa_required", required, Event.ORGANIZATION_MFA_CHANGED)


async def set_server_timing(db: Database, actor: Actor, org_id: UUID, wanted: bool) -> Organization:
    """Whether answers tell how long each stage took; gateways learn of it at once. Raises NotFound."""
    return await _set(db, actor, org_id, "server_timing", wanted, Event.ORGANIZATION_SERVER_TIMING_CHANGED)


async def _set(
    db: Database, actor: Actor, org_id: UUID, column: str, value: str | bool, event: Event
) -> Organization:
    async with db.transaction() as tx:
        before = await tx.fetch_value(
            f"SELECT {column} FROM organizations WHERE org_id = $1 FOR NO KEY UPDATE",  # noqa: S608
            org_id,
        )
        row = await tx.fetch_row(
            f"UPDATE organizations o SET {column} = $2 WHERE o.org_id = $1 RETURNING {COLUMNS}",  # noqa: S608
            org_id,
            value,
        )
        organization = to_organization(_require(row, org_id))
        if before != value:
            await audit.record(tx, actor, event, org_id, str(org_id), {"before": before, "after": value})
    return organization


def _require(row: Record | None, org_id: UUID) -> Record:
    if row is None:
        raise NotFound(f"there is no organization {org_id}: see `karta org list`")
    return row


def to_organization(row: Record) -> Organization:
    """From any row with `COLUMNS`."""
    return Organization(
        org_id=row["org_id"],
        name=row["name"],
        plan=Plan(row["plan"]),
        status=OrgStatus(row["status"]),
        created_at=row["created_at"],
        mfa_required=row["mfa_required"],
        delete_after=row["delete_after"],
        suspension_reason=row["suspension_reason"],
        payment_state=row["payment_state"],
        seats=row["seats"],
        prepaid=row["prepaid"],
    )
