"""Customer keys: minted once, shown once, kept as a digest, and read by the data plane in one row.

The digest costs a quarter of a second of one core, so it is made in a thread, few at a time, and before the
transaction begins: nobody waits behind a lock for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import trio
from trio.lowlevel import RunVar

from storage import audit, key_format
from storage.acting import DEVELOPERS, require_role
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import Conflict, InvalidValue, NotFound
from storage.key_format import MintedKey
from storage.key_letters import tell_minted
from storage.key_scopes import to_arguments, to_tuple
from storage.model import (
    Actor,
    APIKey,
    GatewayKey,
    KeyScope,
    Limit,
    Mode,
    OrgStatus,
    Plan,
    Route,
    SealedCredential,
)
from storage.plans import require_key_room, require_overlap_room
from storage.queries import Queries, Record

PAGE_ROWS_MAX = 1000
"""The most keys that one listing or look-up returns."""
DIGEST_THREADS_MAX = 2
"""bcrypt fills a core each; more at once would only make everything else wait."""
OVERLAP_SECONDS_MAX = 30 * 24 * 3600
"""How long a rotated key may live on beside its successor."""

COLUMNS = """
    key_id, org_id, name, mode, last_four, created_at, expires_at, revoked_at, last_used_at, allowed_models,
    billed_elsewhere, allowed_endpoints, allowed_networks::text[] AS allowed_networks
"""
_limits_decoder = msgspec.json.Decoder(tuple[Limit, ...])
_routes_decoder = msgspec.json.Decoder(tuple[Route, ...])
_limiter: RunVar[trio.CapacityLimiter] = RunVar("karta key digests")


async def mint_key(
    db: Database,
    actor: Actor,
    *,
    org_id: UUID,
    name: str,
    mode: Mode,
    expires_at: datetime | None = None,
    allowed_models: Sequence[str] | None = None,
    allowed_endpoints: Sequence[str] | None = None,
    allowed_networks: Sequence[str] | None = None,
    billed_elsewhere: bool = False,
) -> tuple[APIKey, str]:
    """A new key and its token, which is nowhere else and never again to be had.

    Raises NotFound for an unknown organization, PlanRefused where its plan has no room for another key,
    NotAllowed, CheckFailed for a name that is empty or over 200 characters or an empty list in the scope.
    """
    scope = KeyScope(
        models=to_tuple(allowed_models),
        endpoints=to_tuple(allowed_endpoints),
        networks=to_tuple(allowed_networks),
    )
    minted, digest = await make_key(mode)
    async with db.transaction() as tx:
        await require_key_room(tx, org_id)
        await require_role(tx, actor, org_id, DEVELOPERS)
        [key] = await insert_keys(
            tx, [(minted, digest)], org_id, name, mode, expires_at, scope, billed_elsewhere
        )
        await tell_minted(tx, actor, [key])
        await audit.record(tx, actor, Event.KEY_MINTED, org_id, key.key_id, describe(key))
    return key, minted.token


async def rotate_key(
    db: Database, actor: Actor, key_id: str, overlap_seconds: float = 0, *, org_id: UUID | None = None
) -> tuple[APIKey, str]:
    """A successor of the same name, mode, models, limits and lifetime; the old key ends after the overlap (0:
    at once).

    Raises NotFound (also when `org_id` is given and the key is not that organization's), NotAllowed, Conflict
    when the key has ended already, and PlanRefused when too many overlap.
    """
    if not 0 <= overlap_seconds <= OVERLAP_SECONDS_MAX:
        raise InvalidValue(f"the overlap is 0 to {OVERLAP_SECONDS_MAX} seconds")
    found = await db.fetch_row("SELECT org_id, mode FROM api_keys WHERE key_id = $1", key_id)
    if found is None or org_id not in (None, found["org_id"]):
        raise _not_found(key_id)
    minted, digest = await make_key(Mode(found["mode"]))
    async with db.transaction() as tx:
        if overlap_seconds:
            await require_overlap_room(tx, found["org_id"])
        old, ended = await _lock_key(tx, key_id, org_id)
        await require_role(tx, actor, old.org_id, DEVELOPERS)
        if ended:
            raise Conflict(f"key {key_id} has ended: mint a new one instead of rotating it")
        lifetime = None if old.expires_at is None else old.expires_at - old.created_at
        expires_at = (
            None if lifetime is None else await tx.fetch_value("SELECT now() + $1::interval", lifetime)
        )
        kept = (old.org_id, old.name, old.mode, expires_at, old.scope, old.billed_elsewhere)
        [new] = await insert_keys(tx, [(minted, digest)], *kept)
        await tx.execute("SELECT inherit_limits($1, $2)", key_id, new.key_id)
        if overlap_seconds == 0:
            await tx.execute("UPDATE api_keys SET revoked_at = now() WHERE key_id = $1", key_id)
        else:
            await tx.execute(
                """
                UPDATE api_keys
                   SET expires_at = least(expires_at, now() + make_interval(secs => $2))
                 WHERE key_id = $1
                """,
                key_id,
                float(overlap_seconds),
            )
        await tell_minted(tx, actor, [new], successor_of=key_id)
        details = describe(new) | {"successor": new.key_id, "overlap_seconds": overlap_seconds}
        await audit.record(tx, actor, Event.KEY_ROTATED, old.org_id, key_id, details)
    return new, minted.token


async def revoke_key(db: Database, actor: Actor, key_id: str, *, org_id: UUID | None = None) -> APIKey:
    """Ends a key for good; gateways learn of it at commit. Revoking it again changes nothing.

    Raises NotFound, also when `org_id` is given and the key is not that organization's.
    """
    async with db.transaction() as tx:
        before, _ended = await _lock_key(tx, key_id, org_id)
        if before.revoked_at is not None:
            return before
        row = await tx.fetch_row(
            f"UPDATE api_keys SET revoked_at = now() WHERE key_id = $1 RETURNING {COLUMNS}",  # noqa: S608
            key_id,
        )
        assert row is not None
        details = {"name": before.name, "last_four": before.last_four}
        await audit.record(tx, actor, Event.KEY_REVOKED, before.org_id, key_id, details)
    return to_key(row)


async def allow_elsewhere(db: Database, actor: Actor, key_id: str, allowed: bool) -> APIKey:
    """Sets whether a key may, under a hard budget, use what tells its cost only later or elsewhere.

    Raises NotFound.
    """
    async with db.transaction() as tx:
        before, _ended = await _lock_key(tx, key_id, None)
        if before.billed_elsewhere is allowed:
            return before
        row = await tx.fetch_row(
            f"UPDATE api_keys SET billed_elsewhere = $2 WHERE key_id = $1 RETURNING {COLUMNS}",  # noqa: S608
            key_id,
            allowed,
        )
        assert row is not None
        await audit.record(
            tx, actor, Event.KEY_SCOPE_CHANGED, before.org_id, key_id, {"billed_elsewhere": allowed}
        )
    return to_key(row)


async def select_keys(
    db: Queries, org_id: UUID, limit: int = PAGE_ROWS_MAX, after: str | None = None
) -> list[APIKey]:
    """An organization's keys, oldest first, ended ones too; `after` is the last key id of the page before."""
    rows = await db.fetch(
        f"""
        SELECT {COLUMNS}
          FROM api_keys
         WHERE org_id = $1
           AND ($3::text IS NULL
                OR (created_at, key_id)
                   > (SELECT created_at, key_id FROM api_keys WHERE key_id = $3 AND org_id = $1))
         ORDER BY created_at, key_id
         LIMIT $2
        """,  # noqa: S608
        org_id,
        min(limit, PAGE_ROWS_MAX),
        after,
    )
    return [to_key(row) for row in rows]


async def select_key(db: Queries, org_id: UUID, key_id: str) -> APIKey:
    """One of an organization's keys. Raises NotFound."""
    row = await db.fetch_row(
        f"SELECT {COLUMNS} FROM api_keys WHERE key_id = $1 AND org_id = $2",  # noqa: S608
        key_id,
        org_id,
    )
    if row is None:
        raise _not_found(key_id)
    return to_key(row)


async def select_gateway_key(db: Queries, key_id: str) -> GatewayKey | None:
    """All the data plane needs of one key, whatever its state; None when there is no such key."""
    keys = await select_gateway_keys(db, [key_id])
    return keys[0] if keys else None


async def select_gateway_keys(db: Queries, key_ids: Sequence[str]) -> list[GatewayKey]:
    """The same for many keys in one query, in no order; those that do not exist are left out.

    Raises InvalidValue above `PAGE_ROWS_MAX` keys.
    """
    if len(key_ids) > PAGE_ROWS_MAX:
        raise InvalidValue(f"ask for {PAGE_ROWS_MAX} keys at most at a time")
    rows = await db.fetch(
        """
        SELECT k.key_id, k.org_id, k.mode, k.secret_digest, k.expires_at, k.revoked_at, k.allowed_models,
               k.allowed_endpoints, k.allowed_networks::text[] AS allowed_networks, k.billed_elsewhere,
               o.plan, o.status, o.salt, o.server_timing,
               c.credential_id, c.provider, c.master_key_version, c.wrapped_key, c.ciphertext,
               (SELECT json_agg(json_build_object(
                           'limit_id', l.limit_id, 'org_id', l.org_id, 'key_id', l.key_id, 'model', l.model,
                           'kind', l.kind, 'period', l.period, 'amount', l.amount, 'hard', l.hard,
                           'thresholds', l.thresholds, 'of_plan', l.of_plan) ORDER BY l.limit_id)::text
                  FROM limits l
                 WHERE l.org_id = k.org_id AND (l.key_id IS NULL OR l.key_id = k.key_id)
                   AND l.removed_at IS NULL) AS limits,
               (SELECT json_agg(json_build_object('alias', alias, 'targets', targets) ORDER BY alias)::text
                  FROM (SELECT r.alias, json_agg(json_build_object(
                                   'provider', r.provider, 'model', r.model, 'weight', r.weight,
                                   'credential', r.credential, 'first_byte_seconds', r.first_byte_seconds)
                                   ORDER BY r.place) AS targets
                          FROM route_targets r WHERE r.org_id = k.org_id AND r.removed_at IS NULL
                         GROUP BY r.alias) named) AS routes,
               ARRAY(SELECT s.provider FROM provider_credentials s
                      WHERE s.org_id = k.org_id AND s.suspended_at IS NOT NULL AND s.revoked_at IS NULL)
                   AS suspended_providers
          FROM api_keys k
          JOIN organizations o USING (org_id)
          LEFT JOIN provider_credentials c
            ON c.org_id = k.org_id AND c.revoked_at IS NULL AND c.suspended_at IS NULL
         WHERE k.key_id = ANY($1::text[])
         ORDER BY k.key_id, c.provider
        """,
        list(key_ids),
    )
    grouped: dict[str, list[Record]] = {}
    for row in rows:
        grouped.setdefault(row["key_id"], []).append(row)
    return [_to_gateway_key(same_key) for same_key in grouped.values()]


async def make_key(mode: Mode) -> tuple[MintedKey, bytes]:
    """A key that is nowhere yet, and its digest, which takes a quarter of a second in a thread."""
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = trio.CapacityLimiter(DIGEST_THREADS_MAX)
        _limiter.set(limiter)
    minted = key_format.mint(mode)
    return minted, await trio.to_thread.run_sync(key_format.digest, minted.secret, limiter=limiter)


async def insert_keys(
    tx: Transaction,
    made: Sequence[tuple[MintedKey, bytes]],
    org_id: UUID,
    name: str,
    mode: Mode,
    expires_at: datetime | None,
    scope: KeyScope,
    billed_elsewhere: bool,
) -> list[APIKey]:
    """Keys that were made; in any order. It is for the caller to lock the plan, and to record it."""
    rows = await tx.fetch(
        f"""
        INSERT INTO api_keys
               (key_id, org_id, name, mode, last_four, secret_digest, expires_at, billed_elsewhere,
                allowed_models, allowed_endpoints, allowed_networks)
        SELECT made.key_id, $4, $5, $6, made.last_four, made.digest, $7, $8, $9, $10, $11::text[]::cidr[]
          FROM unnest($1::text[], $2::text[], $3::bytea[]) AS made (key_id, last_four, digest)
        RETURNING {COLUMNS}
        """,  # noqa: S608
        [minted.key_id for minted, _ in made],
        [minted.last_four for minted, _ in made],
        [digest for _, digest in made],
        org_id,
        name,
        mode.value,
        expires_at,
        billed_elsewhere,
        *to_arguments(scope),
    )
    return [to_key(row) for row in rows]


async def _lock_key(tx: Transaction, key_id: str, org_id: UUID | None) -> tuple[APIKey, bool]:
    """The key, locked until the transaction ends, and whether it has ended."""
    row = await tx.fetch_row(
        f"""
        SELECT {COLUMNS}, revoked_at IS NOT NULL OR coalesce(expires_at <= now(), false) AS ended
          FROM api_keys
         WHERE key_id = $1 AND ($2::uuid IS NULL OR org_id = $2)
           FOR NO KEY UPDATE
        """,  # noqa: S608
        key_id,
        org_id,
    )
    if row is None:
        raise _not_found(key_id)
    return to_key(row), row["ended"]


def _not_found(key_id: str) -> NotFound:
    # Whatever was given as an id may be a whole key, pasted by mistake.
    shown = key_id if key_id.isalnum() and len(key_id) == key_format.KEY_ID_CHARS else "of that id"
    return NotFound(f"there is no key {shown}: `karta keys list --org ORG` shows the ids")


def describe(key: APIKey) -> dict[str, object]:
    """A key as the audit log has it."""
    return {
        "name": key.name,
        "mode": key.mode.value,
        "last_four": key.last_four,
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "allowed_models": key.allowed_models,
        "allowed_endpoints": key.allowed_endpoints,
        "allowed_networks": key.allowed_networks,
        "billed_elsewhere": key.billed_elsewhere,
    }


def to_key(row: Record) -> APIKey:
    return APIKey(
        key_id=row["key_id"],
        org_id=row["org_id"],
        name=row["name"],
        mode=Mode(row["mode"]),
        last_four=row["last_four"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
        allowed_models=to_tuple(row["allowed_models"]),
        billed_elsewhere=row["billed_elsewhere"],
        allowed_endpoints=to_tuple(row["allowed_endpoints"]),
        allowed_networks=to_tuple(row["allowed_networks"]),
    )


def _to_gateway_key(rows: list[Record]) -> GatewayKey:
    """From the joined rows of one key: one for each of its organization's credentials, or one without any."""
    first = rows[0]
    credentials = tuple(
        SealedCredential(
            credential_id=row["credential_id"],
            org_id=row["org_id"],
            provider=row["provider"],
            master_key_version=row["master_key_version"],
            org_salt=row["salt"],
            wrapped_key=row["wrapped_key"],
            ciphertext=row["ciphertext"],
        )
        for row in rows
        if row["credential_id"] is not None
    )
    return GatewayKey(
        key_id=first["key_id"],
        org_id=first["org_id"],
        mode=Mode(first["mode"]),
        secret_digest=first["secret_digest"],
        expires_at=first["expires_at"],
        revoked_at=first["revoked_at"],
        allowed_models=to_tuple(first["allowed_models"]),
        billed_elsewhere=first["billed_elsewhere"],
        allowed_endpoints=to_tuple(first["allowed_endpoints"]),
        allowed_networks=to_tuple(first["allowed_networks"]),
        plan=Plan(first["plan"]),
        org_status=OrgStatus(first["status"]),
        credentials=credentials,
        limits=() if first["limits"] is None else _limits_decoder.decode(first["limits"]),
        routes=() if first["routes"] is None else _routes_decoder.decode(first["routes"]),
        server_timing=first["server_timing"],
        suspended_providers=tuple(first["suspended_providers"]),
    )
