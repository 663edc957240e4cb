"""Routes of organizations: a name that requests give as their model, and the targets it stands for, in order.

Every change is one transaction: the targets, one audit row, and, by a trigger, the word to the gateways. A
route is replaced whole; nothing else names one, so what was before is only in the audit log.

Bounds: `ORG_ROUTES_MAX` of `TARGETS_MAX`, because a gateway holds all of an organization with each of its
keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from uuid import UUID

from storage import audit
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import Conflict, InvalidValue, NotFound
from storage.model import Actor, CredentialKind, Route, RouteTarget
from storage.queries import Queries, Record

ORG_ROUTES_MAX = 100
TARGETS_MAX = 8

_COLUMNS = "alias, provider, model, weight, credential, first_byte_seconds"
_REMOVE = """
    UPDATE route_targets SET removed_at = now() WHERE org_id = $1 AND alias = $2 AND removed_at IS NULL
"""


async def set_route(
    db: Database, actor: Actor, org_id: UUID, alias: str, targets: Sequence[RouteTarget]
) -> Route:
    """Sets or replaces the route of a name.

    Raises NotFound for an unknown organization, InvalidValue without targets or with too many, CheckFailed
    for a name, provider, model, weight or time that the database does not take, Conflict above
    `ORG_ROUTES_MAX`.
    """
    if not 1 <= len(targets) <= TARGETS_MAX:
        raise InvalidValue(f"a route has 1 to {TARGETS_MAX} targets")
    route = Route(alias=alias, targets=tuple(targets))
    async with db.transaction() as tx:
        await _lock_org(tx, org_id)
        await tx.execute(_REMOVE, org_id, alias)
        count = await tx.fetch_value(
            "SELECT count(DISTINCT alias) FROM route_targets WHERE org_id = $1 AND removed_at IS NULL", org_id
        )
        if count >= ORG_ROUTES_MAX:
            raise Conflict(f"an organization has {ORG_ROUTES_MAX} routes at most")
        for place, target in enumerate(targets, 1):
            await tx.execute(
                """
                INSERT INTO route_targets
                       (org_id, alias, place, provider, model, weight, credential, first_byte_seconds)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                """,
                org_id,
                alias,
                place,
                target.provider,
                target.model,
                target.weight,
                None if target.credential is None else target.credential.value,
                target.first_byte_seconds,
            )
        await audit.record(tx, actor, Event.ROUTE_SET, org_id, alias, _describe(route))
    return route


async def remove_route(db: Database, actor: Actor, org_id: UUID, alias: str) -> Route | None:
    """Removes the route of a name; None when there is none. Raises NotFound for an unknown organization."""
    async with db.transaction() as tx:
        await _lock_org(tx, org_id)
        found = await _select(tx, org_id, alias)
        if not found:
            return None
        await tx.execute(_REMOVE, org_id, alias)
        await audit.record(tx, actor, Event.ROUTE_REMOVED, org_id, alias, _describe(found[0]))
    return found[0]


async def select_routes(db: Queries, org_id: UUID) -> list[Route]:
    """An organization's routes by name."""
    return await _select(db, org_id, None)


async def _select(db: Queries, org_id: UUID, alias: str | None) -> list[Route]:
    rows = await db.fetch(
        f"""
        SELECT {_COLUMNS} FROM route_targets
         WHERE org_id = $1 AND ($2::text IS NULL OR alias = $2) AND removed_at IS NULL
         ORDER BY alias, place
         LIMIT {ORG_ROUTES_MAX * TARGETS_MAX}
        """,  # noqa: S608
        org_id,
        alias,
    )
    return [
        Route(alias=name, targets=tuple(map(_to_target, same)))
        for name, same in groupby(rows, lambda row: str(row["alias"]))
    ]


async def _lock_org(tx: Transaction, org_id: UUID) -> None:
    """So that two who set routes of an organization do so one after the other."""
    found = await tx.fetch_value(
        "SELECT org_id FROM organizations WHERE org_id = $1 FOR NO KEY UPDATE", org_id
    )
    if found is None:
        raise NotFound(f"there is no organization {org_id}: see `karta org list`")


def _describe(route: Route) -> dict[str, object]:
    return {
        "targets": [
            {
                "provider": target.provider,
                "model": target.model,
                "weight": target.weight,
                "credential": None if target.credential is None else target.credential.value,
                "first_byte_seconds": target.first_byte_seconds,
            }
            for target in route.targets
        ]
    }


def _to_target(row: Record) -> RouteTarget:
    credential = row["credential"]
    return RouteTarget(
        provider=row["provider"],
        model=row["model"],
        weight=row["weight"],
        credential=None if credential is None else CredentialKind(credential),
        first_byte_seconds=row["first_byte_seconds"],
    )
