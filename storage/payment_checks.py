"""What `karta billing reconcile` compares of payments: what is kept of Stripe's objects, and the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from storage.queries import Queries
from storage.reconciliation import Difference
from storage.stripe_checkouts import PICODOLLARS_PER_CENT


async def check_payments(
    db: Queries,
    org_id: UUID,
    since: datetime,  # noqa: ARG001 - payments are compared as a whole
    until: datetime,  # noqa: ARG001
) -> Sequence[Difference]:
    """What was paid, went back and was paid by invoices is in the ledger, all of it and nothing else."""
    row = await db.fetch_row(
        """
        SELECT (SELECT coalesce(sum(paid_cents), 0) FROM stripe_checkouts WHERE org_id = $1) AS top_up,
               (SELECT coalesce(sum(refunded_cents), 0) FROM stripe_checkouts WHERE org_id = $1) AS refund,
               (SELECT coalesce(sum(usage_paid), 0) FROM stripe_invoices WHERE org_id = $1) AS payment
        """,
        org_id,
    )
    assert row is not None
    posted = {
        one["kind"]: one["amount"]
        for one in await db.fetch(
            """
            SELECT t.kind, sum(CASE t.kind WHEN 'refund' THEN -e.amount ELSE e.amount END) AS amount
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
        )
        if (expected := int(row[kind]) * PICODOLLARS_PER_CENT) != (found := int(posted.get(kind, 0)))
    ]


async def check_reports(db: Queries, org_id: UUID, since: datetime, until: datetime) -> Sequence[Difference]:
    """Every report of usage has reached the meter, or may still do so."""
    rows = await db.fetch(
        """
        SELECT hour, value, state FROM meter_reports
         WHERE org_id = $1 AND hour >= $2 AND hour < $3 AND state IN ('unsure', 'refused')
         ORDER BY hour LIMIT 1000
        """,
        org_id,
        since,
        until,
    )
    return [
        Difference(
            org_id=org_id,
            hour=row["hour"],
            what=f"meter: a report is {row['state']}",
            expected=row["value"],
            found=0,
        )
        for row in rows
    ]
