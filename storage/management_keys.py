"""Keys of the management API (`kt_mgmt_…`): minted once, shown once, kept as a digest.

A key is an organization's, and acts for who minted it: with its scopes, and never with more than the role
they had then, nor with more than the role they have now. When they leave the organization it is revoked, and
stays so when they come back: nobody remembers what was minted years ago. It always expires.

`select_acting` is asked with each call, so that a key stops at once when it is revoked.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec
import trio
from trio.lowlevel import RunVar

from storage import audit, key_format
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import Conflict, InvalidValue, NotAllowed, NotFound
from storage.model import Actor, Organization, OrgStatus, Plan, Role
from storage.queries import Queries, Record

LIVE_KEYS_MAX = 100
"""Of one organization, neither revoked nor expired."""
LISTED_MAX = 1000
"""The newest that a listing returns."""
DAYS_MAX = 365

_COLUMNS = (
    "key_id, org_id, user_id, role, name, scopes, last_four, created_at, expires_at, revoked_at, last_used_at"
)
_limiter: RunVar[trio.CapacityLimiter] = RunVar("karta management key digests")


class Scope(StrEnum):
    """What a key may be for. Never rename or reuse one: keys are kept with theirs."""

    ORGANIZATION_READ = "organization:read"
    ORGANIZATION_WRITE = "organization:write"
    MEMBERS_READ = "members:read"
    MEMBERS_WRITE = "members:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    LIMITS_READ = "limits:read"
    LIMITS_WRITE = "limits:write"
    PROVIDER_KEYS_READ = "provider_keys:read"
    PROVIDER_KEYS_WRITE = "provider_keys:write"
    ROUTES_READ = "routes:read"
    ROUTES_WRITE = "routes:write"
    USAGE_READ = "usage:read"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"


class ManagementKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key as it may be shown."""

    key_id: str
    org_id: UUID
    user_id: UUID
    role: Role
    """Of who minted it, when they did."""
    name: str
    scopes: frozenset[Scope]
    last_four: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


class ActingKey(msgspec.Struct, frozen=True, kw_only=True):
    """A live key with all that decides what it may do. Its repr tells the id alone."""

    key: ManagementKey
    secret_digest: bytes
    current_role: Role
    """Of who minted it, now."""
    organization: Organization
    factor_missing: bool
    """The organization is for members with a second factor, and who minted the key has none."""

    def __repr__(self) -> str:
        return f"ActingKey({self.key.key_id!r})"


async def mint_management_key(
    db: Database,
    actor: Actor,
    *,
    org_id: UUID,
    user_id: UUID,
    name: str,
    scopes: Collection[Scope],
    days: int,
) -> tuple[ManagementKey, str]:
    """A new key and its token, which is nowhere else and never again to be had.

    Raises NotAllowed for who is no member, CheckFailed for a name that is empty or over 200 characters or for
    no scopes, InvalidValue for a time that is not 1 to `DAYS_MAX` days, Conflict when there are too many.
    """
    if not 1 <= days <= DAYS_MAX:
        raise InvalidValue(f"a management key lives 1 to {DAYS_MAX} days")
    minted = key_format.mint_management()
    digest = await trio.to_thread.run_sync(key_format.digest, minted.secret, limiter=_threads())
    async with db.transaction() as tx:
        # Locked, so that two of these do not both find room.
        await tx.execute("SELECT FROM organizations WHERE org_id = $1 FOR NO KEY UPDATE", org_id)
        role = await tx.fetch_value(
            "SELECT role FROM memberships WHERE org_id = $1 AND user_id = $2", org_id, user_id
        )
        if role is None:
            raise NotAllowed("only members mint keys")
        live = await tx.fetch_value(
            "SELECT count(*) FROM management_keys"
            " WHERE org_id = $1 AND revoked_at IS NULL AND expires_at > now()",
            org_id,
        )
        if live >= LIVE_KEYS_MAX:
            raise Conflict(f"an organization has {LIVE_KEYS_MAX} management keys at most: revoke some first")
        row = await tx.fetch_row(
            f"""
            INSERT INTO management_keys
                   (key_id, org_id, user_id, role, name, scopes, last_four, secret_digest, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + make_interval(days => $9))
            RETURNING {_COLUMNS}
            """,  # noqa: S608
            minted.key_id,
            org_id,
            user_id,
            role,
            name,
            sorted(scope.value for scope in scopes),
            minted.last_four,
            digest,
            days,
        )
        assert row is not None
        key = _to_key(row)
        details = {
            "name": key.name,
            "role": key.role.value,
            "scopes": sorted(key.scopes),
            "last_four": key.last_four,
            "expires_at": key.expires_at.isoformat(),
        }
        await audit.record(tx, actor, Event.MANAGEMENT_KEY_MINTED, org_id, key.key_id, details)
    return key, minted.token


async def revoke_management_key(
    db: Database, actor: Actor, org_id: UUID, key_id: str, *, only_of: UUID | None = None
) -> ManagementKey:
    """Ends a key for good, from the next call on. Revoking it again changes nothing.

    Raises NotFound, and NotAllowed when `only_of` is given and somebody else minted it.
    """
    async with db.transaction() as tx:
        row = await tx.fetch_row(
            f"SELECT {_COLUMNS} FROM management_keys WHERE org_id = $1 AND key_id = $2 FOR NO KEY UPDATE",  # noqa: S608
            org_id,
            key_id,
        )
        if row is None:
            raise NotFound("there is no management key of that id")
        before = _to_key(row)
        if only_of not in (None, before.user_id):
            raise NotAllowed("somebody else minted that key")
        if before.revoked_at is not None:
            return before
        row = await tx.fetch_row(
            f"UPDATE management_keys SET revoked_at = now() WHERE key_id = $1 RETURNING {_COLUMNS}",  # noqa: S608
            key_id,
        )
        assert row is not None
        details = {"name": before.name, "last_four": before.last_four}
        await audit.record(tx, actor, Event.MANAGEMENT_KEY_REVOKED, org_id, key_id, details)
    return _to_key(row)


async def revoke_keys_of_member(tx: Transaction, actor: Actor, org_id: UUID, user_id: UUID) -> None:
    """Ends all that somebody minted in an organization, in the transaction that takes them out of it. The
    organization must be locked already, so that none is minted meanwhile."""
    rows = await tx.fetch(
        """
        UPDATE management_keys SET revoked_at = now()
         WHERE org_id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > now()
        RETURNING key_id, name, last_four
        """,
        org_id,
        user_id,
    )
    for row in sorted(rows, key=lambda row: row["key_id"]):
        details = {"name": row["name"], "last_four": row["last_four"], "because": "member removed"}
        await audit.record(tx, actor, Event.MANAGEMENT_KEY_REVOKED, org_id, row["key_id"], details)


async def select_management_keys(db: Queries, org_id: UUID) -> list[ManagementKey]:
    """An organization's, newest first, ended ones too."""
    rows = await db.fetch(
        f"""
        SELECT {_COLUMNS} FROM management_keys
         WHERE org_id = $1
         ORDER BY created_at DESC, key_id
         LIMIT {LISTED_MAX}
        """,  # noqa: S608
        org_id,
    )
    return [_to_key(row) for row in rows]


async def select_acting(db: Queries, key_id: str) -> ActingKey | None:
    """The key of that id if it is live and whoever minted it is still a member; else None.

    Who was taken out and came back is a member anew. What they had minted is revoked; older releases did not
    revoke it, and the time of the membership tells those keys.
    """
    row = await db.fetch_row(
        """
        SELECT k.key_id, k.org_id, k.user_id, k.role, k.name, k.scopes, k.last_four, k.created_at,
               k.expires_at, k.revoked_at, k.last_used_at, k.secret_digest, m.role AS current_role,
               o.name AS org_name, o.plan, o.status, o.created_at AS org_created_at, o.mfa_required,
               o.delete_after, o.seats, o.prepaid,
               o.mfa_required AND NOT EXISTS (
                   SELECT FROM totp_factors t WHERE t.user_id = k.user_id AND t.confirmed_at IS NOT NULL)
               AND NOT EXISTS (SELECT FROM passkeys p WHERE p.user_id = k.user_id) AS factor_missing
          FROM management_keys k
          JOIN organizations o USING (org_id)
          JOIN memberships m ON m.org_id = k.org_id AND m.user_id = k.user_id
                         AND m.created_at <= k.created_at
         WHERE k.key_id = $1 AND k.revoked_at IS NULL AND k.expires_at > now() AND o.deleted_at IS NULL
        """,
        key_id,
    )
    if row is None:
        return None
    organization = Organization(
        org_id=row["org_id"],
        name=row["org_name"],
        plan=Plan(row["plan"]),
        status=OrgStatus(row["status"]),
        created_at=row["org_created_at"],
        mfa_required=row["mfa_required"],
        delete_after=row["delete_after"],
        seats=row["seats"],
        prepaid=row["prepaid"],
    )
    return ActingKey(
        key=_to_key(row),
        secret_digest=row["secret_digest"],
        current_role=Role(row["current_role"]),
        organization=organization,
        factor_missing=row["factor_missing"],
    )


async def note_use(db: Queries, key_id: str) -> None:
    """Notes that a key is in use, once a minute at most."""
    await db.execute(
        """
        UPDATE management_keys SET last_used_at = now()
         WHERE key_id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
        """,
        key_id,
    )


def _threads() -> trio.CapacityLimiter:
    """One: minting these is rare, and each fills a core for a quarter of a second."""
    try:
        return _limiter.get()
    except LookupError:
        limiter = trio.CapacityLimiter(1)
        _limiter.set(limiter)
        return limiter


def _to_key(row: Record) -> ManagementKey:
    return ManagementKey(
        key_id=row["key_id"],
        org_id=row["org_id"],
        user_id=row["user_id"],
        role=Role(row["role"]),
        name=row["name"],
        scopes=frozenset(map(Scope, row["scopes"])),
        last_four=row["last_four"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )
