"""Invitations into an organization: a link by mail, for one address, for a week.

Nobody is invited to be an owner: a member is made one, by an owner.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec

from storage import audit
from storage.acting import ADMINS, require_role
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import Conflict, InvalidValue, NotFound
from storage.model import Actor, Role, User
from storage.outbox import Letter, post
from storage.plans import Allowance, count_members, lock_plan, require_room, require_seat
from storage.queries import Queries, Record
from storage.sealing import MasterKeys
from storage.users import insert_member, insert_user, normalize_email

LIFETIME = timedelta(days=7)
INVITATIONS_MAX = 200
"""Open at once, of one organization."""
_COLUMNS = (
    "i.invitation_id, i.org_id, o.name, i.email, i.role, i.created_at, i.expires_at,"
    " i.expires_at <= now() AS expired"
)


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    invitation_id: UUID
    org_id: UUID
    organization_name: str
    email: str
    role: Role
    created_at: datetime
    expires_at: datetime
    expired: bool


async def invite(
    db: Database,
    actor: Actor,
    master_keys: MasterKeys,
    org_id: UUID,
    email: str,
    role: Role,
    token_digest: bytes,
    letter: Letter,
) -> Invitation:
    """Sends a link, in place of an earlier one to the same address.

    Raises InvalidValue for no address or the role of an owner, Conflict for somebody who is a member already
    or when too many are open, PlanRefused where no seat is free, NotAllowed.
    """
    email = normalize_email(email)
    if role is Role.OWNER:
        raise InvalidValue("invite with another role first, and make the member an owner then")
    async with db.transaction() as tx:
        await lock_plan(tx, org_id)
        await require_role(tx, actor, org_id, ADMINS)
        member = await tx.fetch_value(
            "SELECT true FROM memberships JOIN users USING (user_id) WHERE org_id = $1 AND email = $2",
            org_id,
            email,
        )
        if member:
            raise Conflict("that address is a member's already")
        await tx.execute("DELETE FROM invitations WHERE org_id = $1 AND expires_at <= now()", org_id)
        if (
            await tx.fetch_value("SELECT count(*) FROM invitations WHERE org_id = $1", org_id)
            >= INVITATIONS_MAX
        ):
            raise Conflict(f"{INVITATIONS_MAX} invitations are open: take some back first")
        await require_seat(tx, org_id, email)
        invitation_id = uuid4()
        await tx.execute(
            """
            INSERT INTO invitations AS i (invitation_id, org_id, email, role, token_digest, expires_at)
            VALUES ($1, $2, $3, $4, $5, now() + $6::interval)
            ON CONFLICT (org_id, email) DO UPDATE
               SET invitation_id = excluded.invitation_id, role = excluded.role,
                   token_digest = excluded.token_digest, created_at = now(), expires_at = excluded.expires_at
            """,
            invitation_id,
            org_id,
            email,
            role.value,
            token_digest,
            LIFETIME,
        )
        await post(tx, master_keys, letter)
        details = {"role": role.value}
        await audit.record(tx, actor, Event.MEMBER_INVITED, org_id, email, details)
        # Here and not by the caller: what goes wrong after the commit looks as if nobody had been invited.
        row = await tx.fetch_row(
            f"SELECT {_COLUMNS} FROM invitations i JOIN organizations o USING (org_id)"  # noqa: S608
            " WHERE i.invitation_id = $1",
            invitation_id,
        )
    assert row is not None
    return _to_invitation(row)


async def select_invitations(db: Queries, org_id: UUID) -> list[Invitation]:
    """An organization's, newest first."""
    rows = await db.fetch(
        f"""
        SELECT {_COLUMNS}
          FROM invitations i JOIN organizations o USING (org_id)
         WHERE i.org_id = $1
         ORDER BY i.created_at DESC, i.invitation_id
         LIMIT $2
        """,  # noqa: S608
        org_id,
        INVITATIONS_MAX,
    )
    return [_to_invitation(row) for row in rows]


async def select_invitation(db: Queries, token_digest: bytes) -> Invitation:
    """The live invitation of a link. Raises NotFound."""
    row = await db.fetch_row(
        f"SELECT {_COLUMNS} FROM invitations i JOIN organizations o USING (org_id)"  # noqa: S608
        " WHERE i.token_digest = $1 AND i.expires_at > now()",
        token_digest,
    )
    if row is None:
        raise NotFound("this invitation was used, taken back, or is too old: ask for a new one")
    return _to_invitation(row)


async def withdraw_invitation(db: Database, actor: Actor, org_id: UUID, invitation_id: UUID) -> None:
    """Takes one back. Raises NotFound."""
    async with db.transaction() as tx:
        email = await tx.fetch_value(
            "DELETE FROM invitations WHERE org_id = $1 AND invitation_id = $2 RETURNING email",
            org_id,
            invitation_id,
        )
        if email is None:
            raise NotFound("there is no such invitation")
        await audit.record(tx, actor, Event.INVITATION_WITHDRAWN, org_id, email, {})


async def accept_invitation(db: Database, actor: Actor, token_digest: bytes, user: User) -> UUID:
    """Makes the invited user a member; returns the organization's id.

    Raises NotFound for a spent invitation or one that is somebody else's, Conflict for who is a member,
    PlanRefused where no seat is free any more.
    """
    async with db.transaction() as tx:
        invitation = await _spend(tx, token_digest)
        if invitation.email != user.email:
            raise NotFound("this invitation is for another address")
        await _require_seat_now(tx, invitation.org_id)
        await insert_member(tx, actor, invitation.org_id, user.user_id, invitation.role)
    return invitation.org_id


async def sign_up_invited(
    db: Database, actor: Actor, token_digest: bytes, password_digest: bytes
) -> tuple[User, UUID]:
    """Makes an account for the invited address, which the link has confirmed, and the membership.

    Raises NotFound for a spent invitation, Conflict when the address has an account, PlanRefused where no
    seat is free any more.
    """
    async with db.transaction() as tx:
        invitation = await _spend(tx, token_digest)
        await _require_seat_now(tx, invitation.org_id)
        user = await insert_user(tx, actor, invitation.email, password_digest)
        await insert_member(tx, actor, invitation.org_id, user.user_id, invitation.role)
    return user, invitation.org_id


async def _spend(tx: Transaction, token_digest: bytes) -> Invitation:
    invitation = await select_invitation(tx, token_digest)
    # The organization before what belongs to it, as everywhere.
    await tx.execute("SELECT FROM organizations WHERE org_id = $1 FOR NO KEY UPDATE", invitation.org_id)
    spent = await tx.fetch_value(
        "DELETE FROM invitations WHERE token_digest = $1 RETURNING true", token_digest
    )
    if not spent:
        raise NotFound("this invitation was used just now")
    return invitation


async def _require_seat_now(tx: Transaction, org_id: UUID) -> None:
    """An invitation kept a seat free; a plan that ended since may have taken it."""
    await require_room(tx, org_id, Allowance.SEATS, await count_members(tx, org_id))


def _to_invitation(row: Record) -> Invitation:
    return Invitation(
        invitation_id=row["invitation_id"],
        org_id=row["org_id"],
        organization_name=row["name"],
        email=row["email"],
        role=Role(row["role"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        expired=row["expired"],
    )
