"""Who is in an organization, and what they may do there.

An organization keeps an owner: the last one can neither leave nor become something else. Only owners change
owners, or make one, and prove who they are for it. These rules are checked in the transaction of the change,
by the role the one who asks has at that moment.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from storage import audit
from storage.accounts import require_other_owner
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import NotAllowed, NotFound, ProofRequired
from storage.management_keys import revoke_keys_of_member
from storage.model import Actor, Organization, Plan, Role
from storage.organizations import insert_organization
from storage.queries import Queries
from storage.users import insert_member

MEMBERS_MAX = 1000
"""The most that one listing returns."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    user_id: UUID
    email: str
    role: Role
    since: datetime
    has_factor: bool


async def create_owned_organization(db: Database, actor: Actor, user_id: UUID, name: str) -> Organization:
    """A new organization on the Free plan, of which the user is the owner. Raises CheckFailed for a name that
    is empty or over 200."""
    async with db.transaction() as tx:
        organization = await insert_organization(tx, actor, name, Plan.FREE)
        await insert_member(tx, actor, organization.org_id, user_id, Role.OWNER)
    return organization


async def select_members(
    db: Queries,
    org_id: UUID,
    limit: int = MEMBERS_MAX,
    after: tuple[datetime, UUID] | None = None,
) -> list[Member]:
    """An organization's members, longest in it first; `after` is since when, and the id, of the last one of
    the page before."""
    rows = await db.fetch(
        """
        SELECT m.user_id, u.email, m.role, m.created_at,
               EXISTS (SELECT FROM totp_factors t WHERE t.user_id = m.user_id AND t.confirmed_at IS NOT NULL)
               OR EXISTS (SELECT FROM passkeys p WHERE p.user_id = m.user_id) AS has_factor
          FROM memberships m
          JOIN users u USING (user_id)
         WHERE m.org_id = $1 AND ($3::timestamptz IS NULL OR (m.created_at, m.user_id) > ($3, $4::uuid))
         ORDER BY m.created_at, m.user_id
         LIMIT $2
        """,
        org_id,
        min(limit, MEMBERS_MAX),
        *(after or (None, None)),
    )
    return [
        Member(
            user_id=row["user_id"],
            email=row["email"],
            role=Role(row["role"]),
            since=row["created_at"],
            has_factor=row["has_factor"],
        )
        for row in rows
    ]


async def change_role(
    db: Database,
    actor: Actor,
    org_id: UUID,
    by_user_id: UUID,
    user_id: UUID,
    role: Role,
    *,
    proved: bool = False,
    by_key: bool = False,
) -> None:
    """`proved`: the one who asks has just proved who they are; `by_key`: it is a key that asks for them, and
    no key has an owner's say.

    Raises NotFound for no member, NotAllowed where only an owner may, ProofRequired where an owner is made or
    unmade without proof, Conflict for the last owner.
    """
    async with db.transaction() as tx:
        before = await _lock_pair(tx, org_id, by_user_id, user_id, role, by_key)
        if Role.OWNER in (before, role) and before is not role and not proved:
            raise ProofRequired("an owner is made or unmade with fresh proof only")
        if before is role:
            return
        if before is Role.OWNER:
            await require_other_owner(tx, org_id, user_id)
        await tx.execute(
            "UPDATE memberships SET role = $3 WHERE org_id = $1 AND user_id = $2", org_id, user_id, role.value
        )
        details = {"before": before.value, "after": role.value}
        await audit.record(tx, actor, Event.MEMBER_ROLE_CHANGED, org_id, str(user_id), details)


async def remove_member(
    db: Database,
    actor: Actor,
    org_id: UUID,
    by_user_id: UUID,
    user_id: UUID,
    *,
    proved: bool = False,
    by_key: bool = False,
) -> None:
    """Takes somebody, or oneself, out, and ends the management keys they minted; `proved` and `by_key` as of
    `change_role`.

    Raises NotFound for no member, NotAllowed where only an owner may, ProofRequired for an owner without
    proof, Conflict for the last owner.
    """
    async with db.transaction() as tx:
        before = await _lock_pair(tx, org_id, by_user_id, user_id, None, by_key)
        if before is Role.OWNER and not proved:
            raise ProofRequired("an owner is taken out with fresh proof only")
        if before is Role.OWNER:
            await require_other_owner(tx, org_id, user_id)
        await tx.execute("DELETE FROM memberships WHERE org_id = $1 AND user_id = $2", org_id, user_id)
        await revoke_keys_of_member(tx, actor, org_id, user_id)
        await audit.record(tx, actor, Event.MEMBER_REMOVED, org_id, str(user_id), {"role": before.value})


async def _lock_pair(
    tx: Transaction, org_id: UUID, by_user_id: UUID, user_id: UUID, role: Role | None, by_key: bool
) -> Role:
    """The role of whom it concerns, once it is clear that the one who asks may change it (to `role`; None:
    to nothing)."""
    # The organization before its members, as everywhere: two who change each other would wait for each other.
    await tx.execute("SELECT FROM organizations WHERE org_id = $1 FOR NO KEY UPDATE", org_id)
    rows = await tx.fetch(
        """
        SELECT user_id, role FROM memberships
         WHERE org_id = $1 AND user_id = ANY($2::uuid[])
         ORDER BY user_id
           FOR UPDATE
        """,
        org_id,
        [by_user_id, user_id],
    )
    roles = {row["user_id"]: Role(row["role"]) for row in rows}
    if user_id not in roles:
        raise NotFound("there is no such member")
    asking, before = roles.get(by_user_id), roles[user_id]
    if not by_key and (asking is Role.OWNER or (user_id == by_user_id and role is None)):
        return before
    if asking not in (Role.ADMIN, Role.OWNER) or Role.OWNER in (before, role):
        raise NotAllowed("only an owner may do that")
    return before
