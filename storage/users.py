"""People: who may sign in, and what they may do in which organization."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from storage import audit
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import InvalidValue, NotFound
from storage.model import Actor, Membership, Role, User
from storage.queries import Queries, Record

EMAIL_CHARS_MAX = 254
"""RFC 5321's longest path, without the brackets."""
ORGANIZATIONS_PER_SIGN_IN_MAX = 100
"""A sign-in is recorded in each of a user's organizations, up to this many."""

_EMAIL = re.compile(r"[^\s@\x00-\x1f\x7f]{1,64}@[^\s@\x00-\x1f\x7f]{1,253}")


async def create_user(db: Database, actor: Actor, *, email: str, password_digest: bytes) -> User:
    """A new user, in no organization yet. Raises Conflict when the address is taken, InvalidValue when it is
    none."""
    async with db.transaction() as tx:
        return await insert_user(tx, actor, normalize_email(email), password_digest)


async def insert_user(tx: Transaction, actor: Actor, email: str, password_digest: bytes) -> User:
    """The same within a transaction, of an address that is normalized already."""
    user_id = uuid4()
    row = await tx.fetch_row(
        """
        INSERT INTO users (user_id, email, password_digest)
        VALUES ($1, $2, $3)
        RETURNING user_id, email, created_at
        """,
        user_id,
        email,
        password_digest,
    )
    await audit.record(tx, actor, Event.USER_CREATED, None, str(user_id), {"email": email})
    assert row is not None
    return to_user(row)


async def select_user(db: Queries, user_id: UUID) -> User:
    """Raises NotFound."""
    row = await db.fetch_row("SELECT user_id, email, created_at FROM users WHERE user_id = $1", user_id)
    if row is None:
        raise NotFound(f"there is no user {user_id}")
    return to_user(row)


async def select_user_by_email(db: Queries, email: str) -> tuple[User, bytes] | None:
    """The user and the password's digest; None for an unknown address and for what is no address."""
    try:
        email = normalize_email(email)
    except InvalidValue:
        return None
    row = await db.fetch_row(
        "SELECT user_id, email, created_at, password_digest FROM users WHERE email = $1", email
    )
    return None if row is None else (to_user(row), row["password_digest"])


async def require_password(tx: Transaction, user_id: UUID, password_digest: bytes) -> None:
    """Raises NotFound unless this is the user's password still. None can be set before the transaction ends.

    A password takes a while to verify, and one may be set meanwhile, which ends every session: what the old
    one began must not come after that.
    """
    found = await tx.fetch_value(
        "SELECT true FROM users WHERE user_id = $1 AND password_digest = $2 AND deleted_at IS NULL FOR SHARE",
        user_id,
        password_digest,
    )
    if not found:
        raise NotFound(f"user {user_id} has another password by now")


async def has_factor(db: Queries, user_id: UUID) -> bool:
    """Whether there is any second factor that counts."""
    found: bool = await db.fetch_value(
        """
        SELECT EXISTS (SELECT FROM totp_factors WHERE user_id = $1 AND confirmed_at IS NOT NULL)
            OR EXISTS (SELECT FROM passkeys WHERE user_id = $1)
        """,
        user_id,
    )
    return found


async def add_member(db: Database, actor: Actor, org_id: UUID, user_id: UUID, role: Role) -> Membership:
    """Raises Conflict when the user is a member already, InvalidReference when either does not exist."""
    async with db.transaction() as tx:
        return await insert_member(tx, actor, org_id, user_id, role)


async def insert_member(tx: Transaction, actor: Actor, org_id: UUID, user_id: UUID, role: Role) -> Membership:
    """The same within a transaction."""
    await tx.execute(
        "INSERT INTO memberships (org_id, user_id, role) VALUES ($1, $2, $3)", org_id, user_id, role.value
    )
    await audit.record(tx, actor, Event.MEMBER_ADDED, org_id, str(user_id), {"role": role.value})
    return Membership(org_id=org_id, user_id=user_id, role=role)


async def record_sign_in(tx: Transaction, actor: Actor, user_id: UUID, by: str) -> None:
    """Tells the audit log of each of the user's organizations that they have signed in; the system's when
    there is none. As with `audit.record`: at the transaction's end."""
    await _tell_sign_in(tx, actor, Event.SIGN_IN_SUCCEEDED, user_id, by)


async def record_failed_sign_in(
    db: Database, actor: Actor, user_id: UUID | None, by: str = "password"
) -> None:
    """The same of one that was refused; the system's log also when there is no such user.

    Never give what was typed as an address as the actor's id: people type passwords there.
    """
    async with db.transaction() as tx:
        await _tell_sign_in(tx, actor, Event.SIGN_IN_FAILED, user_id, by)


async def _tell_sign_in(tx: Transaction, actor: Actor, event: Event, user_id: UUID | None, by: str) -> None:
    told: list[UUID | None] = [*await _select_told(tx, user_id)]
    for org_id in told or [None]:
        await audit.record(tx, actor, event, org_id, str(user_id or "unknown"), {"by": by})


async def record_account_change(
    tx: Transaction,
    actor: Actor,
    event: Event,
    user_id: UUID,
    details: Mapping[str, Any],
    told: Mapping[str, Any] | None = None,
) -> None:
    """Tells that how a person signs in has changed: the system's log all of it, and each of the person's
    organizations `told` alone (docs/decisions/0105). As with `audit.record`: at the transaction's end."""
    await audit.record(tx, actor, event, None, str(user_id), details)
    for org_id in await _select_told(tx, user_id):
        await audit.record(tx, actor, event, org_id, str(user_id), told or {})


async def _select_told(tx: Transaction, user_id: UUID | None) -> list[UUID]:
    """The person's organizations, in one order everywhere, in which the system comes first: each row locks
    its organization's chain."""
    rows = await tx.fetch(
        "SELECT org_id FROM memberships WHERE user_id = $1 ORDER BY org_id LIMIT $2",
        user_id,
        ORGANIZATIONS_PER_SIGN_IN_MAX,
    )
    return [row["org_id"] for row in rows]


async def record_failed_proof(db: Database, actor: Actor, user_id: UUID) -> None:
    """Tells the audit log that somebody signed in could not prove who they are. (That they could is told by
    `sessions.step_up`.)"""
    async with db.transaction() as tx:
        await audit.record(tx, actor, Event.PROOF_FAILED, None, str(user_id), {})


def normalize_email(email: str) -> str:
    """The form in which addresses are stored and compared. Raises InvalidValue when it cannot be one."""
    email = email.strip().lower()
    if len(email) > EMAIL_CHARS_MAX or not _EMAIL.fullmatch(email) or not email.isprintable():
        raise InvalidValue("that is not an email address")
    return email


def to_user(row: Record) -> User:
    """From any row with the user's three columns."""
    return User(user_id=row["user_id"], email=row["email"], created_at=row["created_at"])
