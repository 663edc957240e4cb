"""Subscriptions as they were last read from Stripe, and what follows from them: the plan and the state of
payment of their organization.

What a subscription's status means is one table (`ENTITLING`, `_TOLD`). A payment that is late stops nothing:
Stripe tries again for some days (past_due). When Stripe gives up (unpaid, canceled), the plan is Free again,
with all that a change of plan does. The organization's plan is changed only when what its subscriptions
entitle to changes, so a plan that staff gave stays.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from storage import audit
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.letter_kinds import LetterKind
from storage.model import Actor, Plan
from storage.outbox import Facts, write_members
from storage.plans import change_plan
from storage.queries import Queries
from storage.stripe_customers import lock_owner
from storage.stripe_objects import SubscriptionReading

ENTITLING: Final = ("active", "trialing", "past_due")
"""With these the plan is had; `past_due` is the time in which Stripe tries again."""
_TOLD: Final = ("unpaid", "past_due", "incomplete")
"""What members are told of, the worst first."""
_RANK: Final = {Plan.FREE: 0, Plan.PRO: 1, Plan.ENTERPRISE: 2}
SEATS_ROWS_MAX = 20
SEATS_WAIT = timedelta(minutes=5)
PAGE_ROWS_MAX = 50
_COLUMNS = """
    s.subscription_id, s.org_id, s.status, s.plan, s.seat_item_id, s.seats, s.metered, s.started_at,
    s.period_end, s.ends_at, s.ended_at
"""


class KeptSubscription(msgspec.Struct, frozen=True, kw_only=True):
    subscription_id: str
    org_id: UUID
    status: str
    plan: Plan | None
    seat_item_id: str | None
    seats: int
    metered: bool
    started_at: datetime
    period_end: datetime | None
    ends_at: datetime | None
    ended_at: datetime | None


class SeatDrift(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription that is paid for another number of seats than there are members."""

    subscription_id: str
    seat_item_id: str
    seats: int
    """As Stripe was last read."""
    reading: int
    """The number of that reading."""
    wanted: int
    """0: the organization is gone, and so should the subscription be."""


async def select_subscriptions(db: Queries, org_id: UUID) -> list[KeptSubscription]:
    """All of an organization's, those that run first, then the newest."""
    rows = await db.fetch(
        f"""
        SELECT {_COLUMNS} FROM stripe_subscriptions s
         WHERE s.org_id = $1
         ORDER BY s.ended_at DESC NULLS FIRST, s.started_at DESC, s.subscription_id
         LIMIT $2
        """,  # noqa: S608
        org_id,
        PAGE_ROWS_MAX,
    )
    return [
        KeptSubscription(**{**dict(row), "plan": None if row["plan"] is None else Plan(row["plan"])})
        for row in rows
    ]


async def has_subscription(db: Queries, org_id: UUID) -> bool:
    """Whether a subscription runs that pays for a plan: then the plan ends by ending that."""
    found = await db.fetch_value(
        "SELECT true FROM stripe_subscriptions WHERE org_id = $1 AND plan IS NOT NULL AND status = ANY ($2)",
        org_id,
        list(ENTITLING),
    )
    return bool(found)


async def apply_subscription(
    tx: Transaction, actor: Actor, reading: SubscriptionReading, number: int
) -> UUID | None:
    """Puts in what was read of a subscription, unless something newer was, and what follows from it for the
    plan. Returns whose it is; None for nobody's."""
    org_id = await lock_owner(tx, reading.customer_id)
    if org_id is None:
        # Of a customer that was deleted since, the subscription is still known.
        org_id = await tx.fetch_value(
            """
            SELECT c.org_id
              FROM stripe_subscriptions s JOIN stripe_customers c USING (org_id)
              JOIN organizations o USING (org_id)
             WHERE s.subscription_id = $1
               FOR UPDATE OF c FOR NO KEY UPDATE OF o
            """,
            reading.subscription_id,
        )
    if org_id is None:
        return None
    before = await tx.fetch_row(
        "SELECT status, plan, seats, ends_at FROM stripe_subscriptions WHERE subscription_id = $1",
        reading.subscription_id,
    )
    newest = await _upsert(tx, org_id, reading, number)
    if not newest:
        return org_id
    after = {
        "status": reading.status,
        "plan": None if reading.plan is None else reading.plan.value,
        "seats": reading.seats,
        "ends_at": reading.ends_at,
    }
    if before is None or dict(before) != after:
        told: dict[str, object] = {name: value for name, value in after.items() if value is not None}
        if before is not None:
            told["status_before"] = before["status"]
        await audit.record(
            tx, actor, Event.PAYMENT_SUBSCRIPTION_CHANGED, org_id, reading.subscription_id, told
        )
    await _entitle(tx, actor, org_id)
    return org_id


async def _upsert(tx: Transaction, org_id: UUID, reading: SubscriptionReading, number: int) -> bool:
    done = await tx.fetch_value(
        """
        INSERT INTO stripe_subscriptions AS s
               (subscription_id, org_id, status, plan, seat_item_id, seats, metered, started_at, period_end,
                ends_at, ended_at, reading)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        ON CONFLICT (subscription_id) DO UPDATE
           SET status = EXCLUDED.status, plan = EXCLUDED.plan, seat_item_id = EXCLUDED.seat_item_id,
               seats = EXCLUDED.seats, metered = EXCLUDED.metered, started_at = EXCLUDED.started_at,
               period_end = EXCLUDED.period_end, ends_at = EXCLUDED.ends_at, ended_at = EXCLUDED.ended_at,
               reading = EXCLUDED.reading
         WHERE s.reading < EXCLUDED.reading
        RETURNING true
        """,
        reading.subscription_id,
        org_id,
        reading.status,
        None if reading.plan is None else reading.plan.value,
        reading.seat_item_id,
        reading.seats,
        reading.metered,
        reading.started_at,
        reading.period_end,
        reading.ends_at,
        reading.ended_at,
        number,
    )
    return bool(done)


async def _entitle(tx: Transaction, actor: Actor, org_id: UUID) -> None:
    """What the subscriptions come to: the plan they entitle to, and what members are told."""
    rows = await tx.fetch(
        "SELECT status, plan FROM stripe_subscriptions WHERE org_id = $1 AND ended_at IS NULL", org_id
    )
    had = [Plan(row["plan"]) for row in rows if row["plan"] and row["status"] in ENTITLING]
    entitled = max(had, key=lambda plan: _RANK[plan], default=Plan.FREE)
    statuses = {row["status"] for row in rows}
    told = next((status for status in _TOLD if status in statuses), None)
    organization = await tx.fetch_row(
        "SELECT plan, payment_state FROM organizations WHERE org_id = $1", org_id
    )
    assert organization is not None
    before = Plan(await tx.fetch_value("SELECT entitled_to FROM stripe_customers WHERE org_id = $1", org_id))
    if entitled is not before:
        await tx.execute(
            "UPDATE stripe_customers SET entitled_to = $2 WHERE org_id = $1", org_id, entitled.value
        )
        # A better plan by agreement is not lost by buying a lesser one, nor by ending that.
        if _RANK[Plan(organization["plan"])] <= max(_RANK[entitled], _RANK[before]):
            await change_plan(tx, actor, org_id, entitled, reason="stripe")
    if told != organization["payment_state"]:
        await tx.execute("UPDATE organizations SET payment_state = $2 WHERE org_id = $1", org_id, told)
        await _write_failed(tx, org_id, told)
        details = {"before": organization["payment_state"], "after": told}
        await audit.record(tx, actor, Event.PAYMENT_STATE_CHANGED, org_id, str(org_id), details)


async def _write_failed(tx: Transaction, org_id: UUID, state: str | None) -> None:
    """By mail, when a payment failed, and when Stripe gives up. Who has not paid a first time knows it."""
    if state not in ("past_due", "unpaid"):
        return
    invoice = await tx.fetch_row(
        "SELECT number, currency, due FROM stripe_invoices WHERE org_id = $1 AND status = 'open'"
        " ORDER BY created_at DESC, invoice_id DESC LIMIT 1",
        org_id,
    )
    facts: Facts = {
        "state": state,
        "invoice": "" if invoice is None else invoice["number"] or "",
        "currency": "" if invoice is None else invoice["currency"],
        "due": 0 if invoice is None else invoice["due"],
    }
    await write_members(tx, org_id, LetterKind.PAYMENT_FAILED, facts)


async def claim_seat_drifts(db: Database) -> list[SeatDrift]:
    """Subscriptions whose seats are not the members', for this caller alone; again after `SEATS_WAIT`."""
    rows = await db.fetch(
        """
        WITH drifted AS (
             SELECT s.subscription_id,
                    CASE WHEN o.deleted_at IS NOT NULL THEN 0 ELSE
                    greatest(1, (SELECT count(*) FROM memberships m WHERE m.org_id = s.org_id))::integer END
                    AS wanted
               FROM stripe_subscriptions s JOIN organizations o USING (org_id)
              WHERE s.ended_at IS NULL AND s.status IN ('active', 'trialing', 'past_due', 'unpaid', 'paused')
                AND s.seat_item_id IS NOT NULL AND s.seats_after <= now() AND s.seats <> CASE WHEN
                o.deleted_at IS NOT NULL THEN 0 ELSE
                    greatest(1, (SELECT count(*) FROM memberships m WHERE m.org_id = s.org_id)) END
              LIMIT $1
                FOR UPDATE OF s SKIP LOCKED)
        UPDATE stripe_subscriptions s SET seats_after = now() + $2::interval
          FROM drifted d WHERE s.subscription_id = d.subscription_id
        RETURNING s.subscription_id, s.seat_item_id, s.seats, s.reading, d.wanted
        """,
        SEATS_ROWS_MAX,
        SEATS_WAIT,
    )
    return [SeatDrift(**dict(row)) for row in rows]


async def record_cancellation(
    db: Database, actor: Actor, org_id: UUID, subscription_id: str, *, ends: bool
) -> None:
    """That a member asked for the end of a subscription, or took that back. What came of it is read from
    Stripe."""
    async with db.transaction() as tx:
        event = Event.PAYMENT_END_REQUESTED if ends else Event.PAYMENT_END_CANCELLED
        await audit.record(tx, actor, event, org_id, subscription_id, {})
