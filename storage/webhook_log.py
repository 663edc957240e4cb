"""What was sent to an endpoint and what came of it, as it is shown; trials, sending again, and switching off
who does nothing but fail."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from storage import audit
from storage.audit import Event
from storage.bridge import Database
from storage.errors import Conflict, NotFound
from storage.letter_kinds import LetterKind
from storage.model import Actor
from storage.outbox import Facts, write_members
from storage.queries import Queries, Record
from storage.webhook_deliveries import FAILING_DAYS, KEPT_DAYS, Attempt
from storage.webhook_events import TEST
from storage.webhook_schedule import State
from storage.webhooks import Endpoint, Reason, select_endpoint, switch_off

PAGE_ROWS_MAX = 100
ATTEMPTS_MAX = 50


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One message for one endpoint."""

    delivery_id: int
    endpoint_id: UUID
    event_id: UUID
    """The `webhook-id` it is sent with, whatever the try."""
    type: str
    state: State
    tries: int
    created_at: datetime
    due_at: datetime | None
    """When it is tried next; None when it has ended."""
    ended_at: datetime | None


async def select_deliveries(
    db: Queries, org_id: UUID, endpoint_id: UUID, *, before: int | None = None, limit: int = PAGE_ROWS_MAX
) -> list[Delivery]:
    """An endpoint's, newest first, from before a delivery's id. Raises NotFound."""
    await select_endpoint(db, org_id, endpoint_id)
    rows = await db.fetch(
        f"{_SELECT} WHERE d.endpoint_id = $1 AND ($2::bigint IS NULL OR d.delivery_id < $2)"
        " ORDER BY d.delivery_id DESC LIMIT $3",
        endpoint_id,
        before,
        min(limit, PAGE_ROWS_MAX + 1),
    )
    return [_to_delivery(row) for row in rows]


async def select_delivery(
    db: Queries, org_id: UUID, endpoint_id: UUID, delivery_id: int
) -> tuple[Delivery, str, list[Attempt]]:
    """One with its body and its tries, newest first. Raises NotFound."""
    await select_endpoint(db, org_id, endpoint_id)
    row = await db.fetch_row(
        f"{_SELECT} WHERE d.endpoint_id = $1 AND d.delivery_id = $2", endpoint_id, delivery_id
    )
    if row is None:
        raise NotFound("there is no such delivery")
    attempts = await db.fetch(
        """
        SELECT attempt_id, started_at, duration_ms, status, reason, headers, excerpt FROM webhook_attempts
         WHERE delivery_id = $1 ORDER BY started_at DESC, attempt_id LIMIT $2
        """,
        delivery_id,
        ATTEMPTS_MAX,
    )
    return _to_delivery(row), row["body"], [_to_attempt(one) for one in attempts]


async def redeliver(
    db: Database, actor: Actor, org_id: UUID, endpoint_id: UUID, delivery_id: int
) -> Delivery:
    """Sends a message again, with all its tries before it; of one that waits, now. Raises NotFound, and
    Conflict while the endpoint is disabled."""
    async with db.transaction() as tx:
        endpoint = await select_endpoint(tx, org_id, endpoint_id)
        _require_enabled(endpoint)
        done = await tx.fetch_value(
            """
            UPDATE webhook_deliveries
               SET state = 'pending', ended_at = NULL,
                   tries = CASE WHEN claim IS NULL THEN 0 ELSE tries END,
                   due_at = CASE WHEN claim IS NULL THEN now() ELSE due_at END
             WHERE endpoint_id = $1 AND delivery_id = $2 RETURNING true
            """,
            endpoint_id,
            delivery_id,
        )
        if not done:
            raise NotFound("there is no such delivery")
        row = await tx.fetch_row(f"{_SELECT} WHERE d.delivery_id = $1", delivery_id)
        assert row is not None
        delivery = _to_delivery(row)
        details = {"delivery_id": delivery_id, "event_id": str(delivery.event_id), "type": delivery.type}
        await audit.record(tx, actor, Event.WEBHOOK_REDELIVERED, org_id, str(endpoint_id), details)
    return delivery


async def send_test(db: Database, actor: Actor, org_id: UUID, endpoint_id: UUID) -> UUID:
    """A trial for one endpoint; returns the event's id. Raises NotFound, Conflict while it is disabled."""
    async with db.transaction() as tx:
        endpoint = await select_endpoint(tx, org_id, endpoint_id)
        _require_enabled(endpoint)
        event_id: UUID = await tx.fetch_value(
            "INSERT INTO webhook_events (org_id, type, data, endpoint_id)"
            " VALUES ($1, $2, jsonb_build_object('endpoint_id', $3::uuid), $3) RETURNING event_id",
            org_id,
            TEST,
            endpoint_id,
        )
        details = {"host": endpoint.host, "event_id": str(event_id)}
        await audit.record(tx, actor, Event.WEBHOOK_TESTED, org_id, str(endpoint_id), details)
    return event_id


async def switch_off_failing(
    db: Database,
    actor: Actor,
    endpoint_id: UUID,
    *,
    gone: bool = False,
) -> Endpoint | None:
    """Switches an endpoint off that has failed for `FAILING_DAYS`, or that has just said to be `gone`, and
    writes to the organization's owners and admins. None when there is no cause."""
    async with db.transaction() as tx:
        row = await tx.fetch_row(
            """
            SELECT org_id, failing_since < now() - make_interval(days => $2) AS failing
              FROM webhook_endpoints WHERE endpoint_id = $1 AND state = 'enabled' FOR NO KEY UPDATE
            """,
            endpoint_id,
            FAILING_DAYS,
        )
        if row is None:
            return None
        if not (gone or row["failing"]):
            return None
        reason: Reason = "gone" if gone else "failing"
        endpoint = await select_endpoint(tx, row["org_id"], endpoint_id)
        # Of the address only the host: its path may be a secret of the receiver's.
        facts: Facts = {
            "host": endpoint.host,
            "endpoint_id": str(endpoint_id),
            "cause": reason,
            "failing_days": FAILING_DAYS,
            "kept_days": KEPT_DAYS,
        }
        await write_members(tx, endpoint.org_id, LetterKind.WEBHOOK_OFF, facts)
        return await switch_off(tx, actor, endpoint, reason)


def _require_enabled(endpoint: Endpoint) -> None:
    if endpoint.state != "enabled":
        raise Conflict("the endpoint is switched off: switch it on first")


_SELECT = """
    SELECT d.delivery_id, d.endpoint_id, w.event_id, w.type, w.body, d.state, d.tries, d.created_at,
    d.ended_at,
           CASE WHEN d.state = 'pending' THEN d.due_at END AS due_at
      FROM webhook_deliveries d JOIN webhook_events w ON w.seq = d.event_seq
"""


def _to_delivery(row: Record) -> Delivery:
    return Delivery(
        delivery_id=row["delivery_id"],
        endpoint_id=row["endpoint_id"],
        event_id=row["event_id"],
        type=row["type"],
        state=row["state"],
        tries=row["tries"],
        created_at=row["created_at"],
        due_at=row["due_at"],
        ended_at=row["ended_at"],
    )


def _to_attempt(row: Record) -> Attempt:
    return Attempt(
        attempt_id=row["attempt_id"],
        started_at=row["started_at"],
        duration_ms=row["duration_ms"],
        status=row["status"],
        reason=row["reason"],
        headers=msgspec.json.decode(row["headers"], type=dict[str, str]),
        excerpt=row["excerpt"],
    )
