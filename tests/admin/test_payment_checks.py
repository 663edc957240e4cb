"""What was sent to Stripe's meter, and what it says it has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import uuid4

from admin.payment_checks import check_meter, check_objects
from admin.payments import Payments
from storage.bridge import Database
from storage.model import Plan
from storage.organizations import create_organization
from storage.stripe_checkouts import apply_checkout, begin_checkout
from storage.stripe_invoices import apply_invoice
from storage.stripe_objects import CheckoutReading, InvoiceReading
from tests.admin.conftest import ACTOR
from tests.storage.stripe_readings import START, checkout, invoice, make_customer


class Meter:
    def __init__(self, value: int) -> None:
        self.value = value

    async def sum_usage(self, customer_id: str, since: datetime, until: datetime) -> int:
        assert customer_id == "cus_1"
        return self.value


async def test_the_meter_has_what_was_sent(admin_db: Database, owner_db: Database) -> None:
    org = await create_organization(admin_db, ACTOR, name="Acme", plan=Plan.PRO)
    await owner_db.execute(
        "INSERT INTO meter_reports (org_id, hour, customer_id, value, state)"
        " VALUES ($1, date_trunc('hour', now(), 'UTC'), 'cus_1', 7, 'sent')",
        org.org_id,
    )
    until = datetime.now(UTC) + timedelta(hours=1)
    span = until - timedelta(days=1), until
    assert await check_meter(cast("Payments", Meter(7)))(admin_db, org.org_id, *span) == []
    (found,) = await check_meter(cast("Payments", Meter(6)))(admin_db, org.org_id, *span)
    assert (found.expected, found.found) == (7, 6)


class There:
    """Stripe with one visit and one invoice."""

    def __init__(self, visit: CheckoutReading, invoice: InvoiceReading | None) -> None:
        self.visit, self.invoice = visit, invoice

    async def read_checkout(self, session_id: str) -> CheckoutReading:
        assert session_id == "cs_1"
        return self.visit

    async def read_invoice(self, invoice_id: str) -> InvoiceReading | None:
        assert invoice_id == "in_1"
        return self.invoice


async def test_what_is_kept_is_what_stripe_has(admin_db: Database) -> None:
    org = await create_organization(admin_db, ACTOR, name="Acme", plan=Plan.PRO)
    await make_customer(admin_db, ACTOR, org)
    visit = await begin_checkout(admin_db, ACTOR, org.org_id, uuid4(), top_up_cents=1000)
    bought = checkout("cs_1", checkout_id=visit.checkout_id, refunded_cents=100)
    paid = invoice(status="paid", usage_paid=120, usage_refunded=20)
    async with admin_db.transaction() as tx:
        await apply_checkout(tx, ACTOR, bought, 1)
        await apply_invoice(tx, ACTOR, paid, 2)
    span = START - timedelta(days=1), datetime.now(UTC) + timedelta(hours=1)

    async def compare(*there: CheckoutReading | InvoiceReading | None) -> list[tuple[str, int, int]]:
        check = check_objects(cast("Payments", There(*there)))  # type: ignore[arg-type]
        found = await check(admin_db, org.org_id, *span)
        return [(one.what.split()[1], one.expected // 10**10, one.found // 10**10) for one in found]

    assert await compare(bought, paid) == []
    later = checkout("cs_1", refunded_cents=300)
    assert await compare(later, paid) == [("refunded_cents", 300, 100)]
    gone = invoice(status="paid", usage_paid=120, usage_refunded=120, usage_credited=5)
    assert await compare(bought, gone) == [("usage_refunded", 120, 20), ("usage_credited", 5, 0)]
    assert await compare(bought, None) == [("usage_paid", 0, 120), ("usage_refunded", 0, 20)]
