"""What `karta billing reconcile` compares with Stripe itself: the meter's sums."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from admin.payments import Payments
from storage.meter_reports import sum_sent
from storage.queries import Queries
from storage.reconciliation import Check, Difference


def check_meter(payments: Payments) -> Check:
    """That Stripe's meter has what was sent to it, for each customer. Stripe counts with some minutes' delay.

    Raises `PaymentsError` when Stripe cannot be asked.
    """

    async def check(db: Queries, org_id: UUID, since: datetime, until: datetime) -> Sequence[Difference]:
        sent = await sum_sent(db, org_id, since, until)
        found = [
            Difference(
                org_id=org_id,
                hour=None,
                what=f"meter: sent, and counted by Stripe for {customer_id}",
                expected=value,
                found=await payments.sum_usage(customer_id, since, until),
            )
            for customer_id, value in sent.items()
        ]
        return [one for one in found if one.expected != one.found]

    return check
