"""Incidents and maintenance, as the status page tells them. What was told is not changed: more is told.

The health job opens an incident of a component by itself, and resolves what it opened; people may do both to
any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from storage import audit
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import Conflict, NotFound
from storage.letter_kinds import LetterKind
from storage.model import Actor
from storage.queries import Queries, Record
from storage.subscriptions import Topic, write_subscribers

SHOWN_MAX = 50
UPDATES_MAX = 100
"""Of one incident, shown at once."""


class Stage(StrEnum):
    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    RESOLVED = "resolved"
    PLANNED = "planned"
    CANCELLED = "cancelled"


class Kind(StrEnum):
    INCIDENT = "incident"
    MAINTENANCE = "maintenance"


class Update(msgspec.Struct, frozen=True):
    told_at: datetime
    stage: Stage
    message: str


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """`updates` are newest first. `ends_at` of an incident is None until it is resolved."""

    incident_id: UUID
    kind: Kind
    title: str
    components: tuple[str, ...]
    automatic: bool
    starts_at: datetime
    ends_at: datetime | None
    cancelled: bool
    updates: list[Update]


async def open_incident(
    db: Database,
    actor: Actor,
    title: str,
    components: Sequence[str],
    message: str,
    *,
    automatic: bool = False,
) -> UUID:
    """Raises Conflict for an automatic one where its component has one open, CheckFailed for texts that are
    empty or too long."""
    async with db.transaction() as tx:
        incident_id: UUID = await tx.fetch_value(
            "INSERT INTO incidents (kind, title, components, automatic) VALUES ('incident', $1, $2, $3)"
            " RETURNING incident_id",
            title,
            list(components),
            automatic,
        )
        await _tell(tx, incident_id, Stage.INVESTIGATING, message)
        await _write(tx, incident_id, title, Stage.INVESTIGATING, message)
        details = {"title": title, "components": list(components), "automatic": automatic}
        await audit.record(tx, actor, Event.INCIDENT_OPENED, None, str(incident_id), details)
    return incident_id


async def update_incident(db: Database, actor: Actor, incident_id: UUID, stage: Stage, message: str) -> None:
    """Tells more of an open incident; `Stage.RESOLVED` ends it. Raises NotFound, or Conflict when it has
    ended."""
    async with db.transaction() as tx:
        row = await tx.fetch_row(
            "SELECT ends_at, title FROM incidents WHERE incident_id = $1 AND kind = 'incident' FOR UPDATE",
            incident_id,
        )
        if row is None:
            raise NotFound("there is no such incident")
        if row["ends_at"] is not None:
            raise Conflict("this incident is resolved: open another")
        event = Event.INCIDENT_UPDATED
        if stage is Stage.RESOLVED:
            await tx.execute("UPDATE incidents SET ends_at = now() WHERE incident_id = $1", incident_id)
            event = Event.INCIDENT_RESOLVED
        await _tell(tx, incident_id, stage, message)
        await _write(tx, incident_id, row["title"], stage, message)
        await audit.record(tx, actor, event, None, str(incident_id), {"stage": stage.value})


async def plan_maintenance(
    db: Database,
    actor: Actor,
    title: str,
    components: Sequence[str],
    message: str,
    starts_at: datetime,
    ends_at: datetime,
) -> UUID:
    """Announces maintenance. Raises CheckFailed unless it ends after it starts."""
    async with db.transaction() as tx:
        incident_id: UUID = await tx.fetch_value(
            "INSERT INTO incidents (kind, title, components, starts_at, ends_at)"
            " VALUES ('maintenance', $1, $2, $3, $4) RETURNING incident_id",
            title,
            list(components),
            starts_at,
            ends_at,
        )
        await _tell(tx, incident_id, Stage.PLANNED, message)
        await _write(tx, incident_id, title, Stage.PLANNED, message)
        details = {"title": title, "starts_at": starts_at.isoformat(), "ends_at": ends_at.isoformat()}
        await audit.record(tx, actor, Event.MAINTENANCE_PLANNED, None, str(incident_id), details)
    return incident_id


async def cancel_maintenance(db: Database, actor: Actor, incident_id: UUID, message: str) -> None:
    """Raises NotFound when there is none that is still to end."""
    async with db.transaction() as tx:
        title = await tx.fetch_value(
            "UPDATE incidents SET cancelled = true WHERE incident_id = $1 AND kind = 'maintenance'"
            " AND NOT cancelled AND ends_at > now() RETURNING title",
            incident_id,
        )
        if title is None:
            raise NotFound("there is no such maintenance still to come")
        await _tell(tx, incident_id, Stage.CANCELLED, message)
        await _write(tx, incident_id, title, Stage.CANCELLED, message)
        await audit.record(tx, actor, Event.MAINTENANCE_CANCELLED, None, str(incident_id), {})


async def find_automatic(db: Queries, component: str) -> UUID | None:
    """The open incident that the health job opened for a component."""
    found: UUID | None = await db.fetch_value(
        "SELECT incident_id FROM incidents WHERE automatic AND kind = 'incident' AND ends_at IS NULL"
        " AND components[1] = $1",
        component,
    )
    return found


async def select_incidents(
    db: Queries, *, before: datetime | None = None, limit: int = SHOWN_MAX
) -> list[Incident]:
    """Incidents and maintenance that start before a moment, newest first."""
    rows = await db.fetch(
        f"{_SELECT} WHERE $1::timestamptz IS NULL OR i.starts_at < $1"
        " ORDER BY i.starts_at DESC, i.incident_id LIMIT $2",
        before,
        min(limit, SHOWN_MAX),
    )
    return [_to_incident(row) for row in rows]


async def select_open(db: Queries) -> list[Incident]:
    """What is wrong now, and maintenance under way or to come; oldest first."""
    rows = await db.fetch(
        f"{_SELECT} WHERE NOT i.cancelled"
        " AND (i.ends_at IS NULL OR i.kind = 'maintenance' AND i.ends_at > now())"
        " ORDER BY i.starts_at, i.incident_id LIMIT $1",
        SHOWN_MAX,
    )
    return [_to_incident(row) for row in rows]


async def select_incident(db: Queries, incident_id: UUID) -> Incident:
    """Raises NotFound."""
    row = await db.fetch_row(f"{_SELECT} WHERE i.incident_id = $1", incident_id)
    if row is None:
        raise NotFound("there is no such incident")
    return _to_incident(row)


_SELECT = f"""
    SELECT i.incident_id, i.kind, i.title, i.components, i.automatic, i.starts_at, i.ends_at, i.cancelled,
           u.told_at, u.states, u.messages
      FROM incidents i
      LEFT JOIN LATERAL (
           SELECT array_agg(told_at ORDER BY update_id DESC) AS told_at,
                  array_agg(state ORDER BY update_id DESC) AS states,
                  array_agg(message ORDER BY update_id DESC) AS messages
             FROM (SELECT update_id, told_at, state, message FROM incident_updates
                    WHERE incident_id = i.incident_id ORDER BY update_id DESC LIMIT {UPDATES_MAX}) newest
           ) u ON true
"""  # noqa: S608


async def _tell(tx: Transaction, incident_id: UUID, stage: Stage, message: str) -> None:
    await tx.execute(
        "INSERT INTO incident_updates (incident_id, state, message) VALUES ($1, $2, $3)",
        incident_id,
        stage.value,
        message,
    )


async def _write(tx: Transaction, incident_id: UUID, title: str, stage: Stage, message: str) -> None:
    """To whoever wants to hear of it by mail."""
    facts = {"incident_id": str(incident_id), "title": title, "stage": stage.value, "message": message}
    await write_subscribers(tx, Topic.INCIDENTS, LetterKind.INCIDENT, facts)


def _to_incident(row: Record) -> Incident:
    told = zip(row["told_at"] or [], row["states"] or [], row["messages"] or [], strict=True)
    return Incident(
        incident_id=row["incident_id"],
        kind=Kind(row["kind"]),
        title=row["title"],
        components=tuple(row["components"]),
        automatic=row["automatic"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        cancelled=row["cancelled"],
        updates=[Update(told_at, Stage(state), message) for told_at, state, message in told],
    )
