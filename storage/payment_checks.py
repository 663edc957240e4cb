"""What `karta billing reconcile` compares of payments: what is kept of Stripe's objects, reports to its
meter, and the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from storage.meter_reports import OF_INVOICES, PICODOLLARS_PER_UNIT
from storage.queries import Queries
from storage.reconciliation import Difference
from storage.stripe_checkouts import PICODOLLARS_PER_CENT
from storage.stripe_objects import ObjectKind

REPORTED_WITHIN: Final = timedelta(hours=3)
"""Of what was charged: it is looked for every ten minutes, and reported once an hour."""
SUMS_MAX: Final = 1000


async def check_payments(
    db: Queries,
    org_id: UUID,
    since: datetime,  # noqa: ARG001 - payments are compared as a whole
    until: datetime,  # noqa: ARG001
) -> Sequence[Difference]:
    """What was paid in advance and by invoices, what of it went back, and what credit notes say is in the
    ledger, all of it and nothing else."""
    row = await db.fetch_row(
        """
        SELECT c.top_up, c.refund, i.payment, i.payment_refund, i.credit_note
          FROM (SELECT coalesce(sum(paid_cents), 0) AS top_up, coalesce(sum(refunded_cents), 0) AS refund
                  FROM stripe_checkouts WHERE org_id = $1) c,
               (SELECT coalesce(sum(usage_paid), 0) AS payment,
                       coalesce(sum(usage_refunded), 0) AS payment_refund,
                       coalesce(sum(usage_credited), 0) AS credit_note
                  FROM stripe_invoices WHERE org_id = $1) i
        """,
        org_id,
    )
    assert row is not None
    posted = {
        one["kind"]: one["amount"]
        for one in await db.fetch(
            """
            SELECT t.kind,
                   sum(CASE WHEN t.kind IN ('refund', 'payment_refund') THEN -e.amount ELSE e.amount END)
                       AS amount
              FROM ledger_transactions t JOIN ledger_entries e USING (transaction_id)
             WHERE t.org_id = $1 AND e.account = 'credit' AND starts_with(t.source, 'stripe:')
             GROUP BY t.kind
            """,
            org_id,
        )
    }
    return [
        Difference(org_id=org_id, hour=None, what=what, expected=expected, found=found)
        for kind, what in (
            ("top_up", "payments: Stripe's top-ups and the ledger"),
            ("refund", "payments: Stripe's refunds and the ledger"),
            ("payment", "payments: Stripe's paid usage and the ledger"),
            ("payment_refund", "payments: what went back of Stripe's paid usage and the ledger"),
            ("credit_note", "payments: Stripe's credit notes for usage and the ledger"),
        )
        if (expected := int(row[kind]) * PICODOLLARS_PER_CENT) != (found := int(posted.get(kind, 0)))
    ]


async def check_reports(db: Queries, org_id: UUID, since: datetime, until: datetime) -> Sequence[Difference]:
    """Each report of usage is what the ledger had charged and no credit covered, less all earlier reports; it
    has reached the meter, or may still do so; and nothing that is owed was left out."""
    found = [
        Difference(
            org_id=org_id,
            hour=row["hour"],
            what=f"meter: a report is {row['state']}",
            expected=row["value"],
            found=0,
        )
        for row in await db.fetch(_NOT_ARRIVED, org_id, since, until)
    ]
    for row in await db.fetch(_MADE_OUT_AGAIN, org_id, since, until, PICODOLLARS_PER_UNIT, list(OF_INVOICES)):
        what = "meter: the ledger's charges that no credit covers, and the reports"
        found.append(_differ(org_id, row["hour"], what, row["owed"], row["reported"]))
    left = await db.fetch_row(_LEFT_OUT, org_id, PICODOLLARS_PER_UNIT, list(OF_INVOICES), REPORTED_WITHIN)
    if left is not None and left["owed"] > left["reported"]:
        what = "meter: owed for hours, and not reported"
        found.append(_differ(org_id, None, what, left["owed"], left["reported"]))
    return found


_NOT_ARRIVED = """
    SELECT hour, value, state FROM meter_reports
     WHERE org_id = $1 AND hour >= $2 AND hour < $3 AND state IN ('unsure', 'refused')
     ORDER BY hour LIMIT 1000
"""
# The ledger read again, up to where each report says it was read.
_MADE_OUT_AGAIN = """
    WITH steps AS (
         SELECT e.transaction_id AS at, e.amount, NULL::timestamptz AS hour, 0::bigint AS value
           FROM ledger_entries e JOIN ledger_transactions t USING (transaction_id)
          WHERE e.org_id = $1 AND e.account = 'credit' AND t.kind <> ALL ($5)
         UNION ALL
         SELECT through_transaction, 0, hour, value FROM meter_reports WHERE org_id = $1),
    summed AS (
         SELECT at, hour, floor(-sum(amount) OVER (ORDER BY at, hour NULLS FIRST) / $4)::bigint AS owed,
                (sum(value) OVER (ORDER BY hour NULLS FIRST))::bigint AS reported
           FROM steps)
    SELECT hour, owed, reported FROM summed
     WHERE hour >= $2 AND hour < $3 AND at IS NOT NULL AND owed <> reported
     ORDER BY hour LIMIT 1000
"""
# What was owed a while ago, and is still. Only who has had a metered subscription for as long is reported.
_LEFT_OUT = """
    SELECT least(floor(-coalesce(sum(e.amount), 0) / $2),
                 floor(-coalesce(sum(e.amount) FILTER (WHERE t.created_at < now() - $4::interval), 0) / $2))
           ::bigint AS owed,
           (SELECT coalesce(sum(r.value), 0)::bigint FROM meter_reports r WHERE r.org_id = $1) AS reported
      FROM ledger_entries e JOIN ledger_transactions t USING (transaction_id)
     WHERE e.org_id = $1 AND e.account = 'credit' AND t.kind <> ALL ($3)
       AND EXISTS (SELECT FROM stripe_subscriptions s
                    WHERE s.org_id = $1 AND s.metered AND s.ended_at IS NULL
                      AND s.status IN ('active', 'trialing', 'past_due')
                      AND s.started_at < now() - $4::interval)
"""


def _differ(org_id: UUID, hour: datetime | None, what: str, expected: int, found: int) -> Difference:
    return Difference(org_id=org_id, hour=hour, what=what, expected=expected, found=found)


class KeptSums(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of the money of one of Stripe's objects, in cents, by the names of its reading."""

    kind: ObjectKind
    object_id: str
    cents: dict[str, int]


async def select_sums(db: Queries, org_id: UUID, since: datetime, until: datetime) -> list[KeptSums]:
    """Of the top-ups and invoices that were made in [since, until), the newest `SUMS_MAX` of each."""
    visits = await db.fetch(
        """
        SELECT session_id AS object_id, paid_cents, refunded_cents FROM stripe_checkouts
         WHERE org_id = $1 AND purpose = 'top_up' AND session_id IS NOT NULL
           AND created_at >= $2 AND created_at < $3
         ORDER BY created_at DESC LIMIT $4
        """,
        org_id,
        since,
        until,
        SUMS_MAX,
    )
    invoices = await db.fetch(
        """
        SELECT invoice_id AS object_id, usage_paid, usage_refunded, usage_credited FROM stripe_invoices
         WHERE org_id = $1 AND created_at >= $2 AND created_at < $3
         ORDER BY created_at DESC LIMIT $4
        """,
        org_id,
        since,
        until,
        SUMS_MAX,
    )
    return [
        KeptSums(kind=kind, object_id=row["object_id"], cents={name: row[name] for name in names})
        for kind, rows, names in (
            (ObjectKind.CHECKOUT, visits, ("paid_cents", "refunded_cents")),
            (ObjectKind.INVOICE, invoices, ("usage_paid", "usage_refunded", "usage_credited")),
        )
        for row in rows
    ]
