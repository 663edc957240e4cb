"""Limits of organizations and keys: set, removed and told of. How they are kept is the business of `leases`.

Every change is one transaction: the limit, its audit row, and, by a trigger, the word to the gateways. A
limit that is set again changes in place and keeps what was counted; one that was removed and is set anew is
counted anew, a day's or a month's from its beginning on (`open_limit` of migrations/0007_rollups.sql).

Bound: `ORG_LIMITS_MAX`, because a gateway holds all limits of a key's organization with the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from storage import audit
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import Conflict, NotFound
from storage.model import Actor, Limit, LimitKind, Period
from storage.queries import Queries, Record

ORG_LIMITS_MAX = 1000
"""Live limits of one organization and its live keys together."""
THRESHOLDS = (50, 80, 100)
"""At which percentages a budget tells, when nothing else was asked for."""

# Those of a key that has ended stay with it, and hold nobody any more: each rotation leaves some.
_HOLDS = """(key_id IS NULL OR EXISTS (
    SELECT FROM api_keys k WHERE k.key_id = limits.key_id AND k.revoked_at IS NULL
                             AND coalesce(k.expires_at > now(), true)))"""
_COLUMNS = "limit_id, org_id, key_id, model, kind, period, amount, hard, thresholds, of_plan"


class LimitScope(msgspec.Struct, frozen=True, kw_only=True):
    """What a limit is for. There is one limit at most for each scope."""

    org_id: UUID | None = None
    """May be left out when `key_id` says it."""
    key_id: str | None = None
    model: str | None = None
    kind: LimitKind
    period: Period


class LimitStanding(msgspec.Struct, frozen=True, kw_only=True):
    """A limit and its current window: `settled` is used and accounted for, `held` is set apart by gateways
    (used already or about to be), `written_off` was set apart by some that have not been heard of since."""

    limit: Limit
    settled: int
    held: int
    written_off: int


async def set_limit(
    db: Database,
    actor: Actor,
    scope: LimitScope,
    amount: int,
    *,
    hard: bool = True,
    thresholds: Sequence[int] = THRESHOLDS,
) -> Limit:
    """Sets or changes the limit of a scope.

    Raises NotFound for an unknown key or organization (also for a key of another organization), CheckFailed
    for an amount below 1 or a period that the kind does not have, Conflict above `ORG_LIMITS_MAX`.
    """
    async with db.transaction() as tx:
        org_id = await _find_org(tx, scope)
        row = await tx.fetch_row(
            f"""
            UPDATE limits SET amount = $6, hard = $7, thresholds = $8, updated_at = now()
             WHERE org_id = $1 AND key_id IS NOT DISTINCT FROM $2 AND model IS NOT DISTINCT FROM $3
               AND kind = $4 AND period = $5 AND removed_at IS NULL AND NOT of_plan
            RETURNING {_COLUMNS}
            """,  # noqa: S608
            *_arguments(org_id, scope),
            amount,
            hard,
            list(thresholds),
        )
        if row is None:
            row = await _insert_limit(tx, org_id, scope, amount, hard, thresholds)
        limit = _to_limit(row)
        await audit.record(tx, actor, Event.LIMIT_SET, org_id, str(limit.limit_id), _describe(limit))
    return limit


async def unset_limit(db: Database, actor: Actor, scope: LimitScope) -> Limit | None:
    """Removes the limit of a scope; None when there is none. Raises NotFound as `set_limit` does."""
    async with db.transaction() as tx:
        org_id = await _find_org(tx, scope)
        row = await tx.fetch_row(
            f"""
            UPDATE limits SET removed_at = now(), updated_at = now()
             WHERE org_id = $1 AND key_id IS NOT DISTINCT FROM $2 AND model IS NOT DISTINCT FROM $3
               AND kind = $4 AND period = $5 AND removed_at IS NULL AND NOT of_plan
            RETURNING {_COLUMNS}
            """,  # noqa: S608
            *_arguments(org_id, scope),
        )
        if row is None:
            return None
        limit = _to_limit(row)
        await audit.record(tx, actor, Event.LIMIT_REMOVED, org_id, str(limit.limit_id), _describe(limit))
    return limit


async def select_limits(
    db: Queries, org_id: UUID, key_id: str | None = None, *, of_plan: bool = False
) -> list[LimitStanding]:
    """An organization's live limits and those of its live keys, or one key's own, each with its window of
    this moment. `of_plan`: those that its plan sets, and its credit, instead of its own."""
    rows = await db.fetch(
        f"""
        SELECT {_COLUMNS}, coalesce(w.settled, 0) AS settled, coalesce(w.written_off, 0) AS written_off,
               coalesce(q.held, 0)::bigint AS held
          FROM limits
         CROSS JOIN LATERAL (SELECT quota_window(period, now()) AS begins) current_window
          LEFT JOIN LATERAL (
               SELECT settled, written_off FROM quota_windows
                WHERE limit_id = limits.limit_id AND window_start = begins) w ON true
         CROSS JOIN LATERAL (
               SELECT sum(held) FILTER (WHERE held > 0) AS held FROM quota_leases
                WHERE limit_id = limits.limit_id AND window_start = begins) q
         WHERE org_id = $1 AND removed_at IS NULL AND of_plan = $3
           AND CASE WHEN $2::text IS NULL THEN {_HOLDS} ELSE key_id = $2 END
         ORDER BY key_id NULLS FIRST, model NULLS FIRST, kind, period
         LIMIT {ORG_LIMITS_MAX}
        """,  # noqa: S608
        org_id,
        key_id,
        of_plan,
    )
    return [
        LimitStanding(
            limit=_to_limit(row), settled=row["settled"], held=row["held"], written_off=row["written_off"]
        )
        for row in rows
    ]


async def select_key_org(db: Queries, key_id: str) -> UUID:
    """Whose key it is. Raises NotFound."""
    org_id: UUID | None = await db.fetch_value("SELECT org_id FROM api_keys WHERE key_id = $1", key_id)
    if org_id is None:
        raise NotFound("there is no key of that id: `karta keys list --org ORG` shows the ids")
    return org_id


async def _find_org(tx: Transaction, scope: LimitScope) -> UUID:
    """The organization of a scope, locked, so that two who set limits of it do so one after the other."""
    org_id = scope.org_id
    if scope.key_id is not None:
        org_id = await select_key_org(tx, scope.key_id)
        if scope.org_id not in (None, org_id):
            raise NotFound("the organization has no key of that id")
    found = await tx.fetch_value(
        "SELECT org_id FROM organizations WHERE org_id = $1 FOR NO KEY UPDATE", org_id
    )
    if found is None:
        raise NotFound("there is no such organization")
    return UUID(str(found))


async def _insert_limit(
    tx: Transaction, org_id: UUID, scope: LimitScope, amount: int, hard: bool, thresholds: Sequence[int]
) -> Record:
    count = await tx.fetch_value(
        f"SELECT count(*) FROM limits WHERE org_id = $1 AND removed_at IS NULL AND NOT of_plan AND {_HOLDS}",  # noqa: S608
        org_id,
    )
    if count >= ORG_LIMITS_MAX:
        raise Conflict(f"an organization has {ORG_LIMITS_MAX} limits at most")
    row = await tx.fetch_row(
        f"""
        INSERT INTO limits (org_id, key_id, model, kind, period, amount, hard, thresholds)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        RETURNING {_COLUMNS}
        """,  # noqa: S608
        *_arguments(org_id, scope),
        amount,
        hard,
        list(thresholds),
    )
    assert row is not None
    await tx.execute("SELECT open_limit($1)", row["limit_id"])
    return row


def _arguments(org_id: UUID, scope: LimitScope) -> tuple[UUID, str | None, str | None, str, str]:
    return org_id, scope.key_id, scope.model, scope.kind.value, scope.period.value


def _describe(limit: Limit) -> dict[str, object]:
    return {
        "key_id": limit.key_id,
        "model": limit.model,
        "kind": limit.kind.value,
        "period": limit.period.value,
        "amount": limit.amount,
        "hard": limit.hard,
        "thresholds": limit.thresholds,
    }


def _to_limit(row: Record) -> Limit:
    return Limit(
        limit_id=row["limit_id"],
        org_id=row["org_id"],
        key_id=row["key_id"],
        model=row["model"],
        kind=LimitKind(row["kind"]),
        period=Period(row["period"]),
        amount=row["amount"],
        hard=row["hard"],
        thresholds=tuple(row["thresholds"]),
        of_plan=row["of_plan"],
    )
