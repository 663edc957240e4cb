"""What `karta billing reconcile` compares with Stripe itself: what its meter counted, and what was paid and
went back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from admin.payments import Payments
from storage.meter_reports import sum_sent
from storage.payment_checks import KeptSums, select_sums
from storage.queries import Queries
from storage.reconciliation import Check, Difference
from storage.stripe_checkouts import PICODOLLARS_PER_CENT
from storage.stripe_objects import ObjectKind


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


def check_objects(payments: Payments) -> Check:
    """That top-ups and invoices are kept as they are at Stripe now. An event that is not done yet is a
    difference; replaying one mends what was missed.

    Raises `PaymentsError` when Stripe cannot be asked.
    """

    async def check(db: Queries, org_id: UUID, since: datetime, until: datetime) -> Sequence[Difference]:
        found = []
        for kept in await select_sums(db, org_id, since, until):
            there = await _read(payments, kept)
            found += [
                Difference(
                    org_id=org_id,
                    hour=None,
                    what=f"payments: {name} of {kept.object_id}, at Stripe and as kept",
                    expected=there[name] * PICODOLLARS_PER_CENT,
                    found=cents * PICODOLLARS_PER_CENT,
                )
                for name, cents in kept.cents.items()
                if there[name] != cents
            ]
        return found

    return check


async def _read(payments: Payments, kept: KeptSums) -> dict[str, int]:
    """The same sums as Stripe has them; zero where it has no such object."""
    if kept.kind is ObjectKind.CHECKOUT:
        visit = await payments.read_checkout(kept.object_id)
        paid = max(visit.paid_cents, 0) if visit else 0
        gone = min(max(visit.refunded_cents, 0), paid) if visit else 0
        return {"paid_cents": paid, "refunded_cents": gone}
    invoice = await payments.read_invoice(kept.object_id)
    return {name: getattr(invoice, name) if invoice else 0 for name in kept.cents}
