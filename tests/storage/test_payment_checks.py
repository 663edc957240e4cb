"""What is kept of payments and the ledger agree, or it is told how not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from storage.bridge import Database
from storage.model import Actor, Organization
from storage.payment_checks import check_payments, check_reports
from storage.stripe_checkouts import apply_checkout, begin_checkout, keep_session
from storage.stripe_invoices import apply_invoice
from tests.storage.stripe_readings import CUSTOMER, checkout, invoice, make_customer

NOW = datetime.now(UTC)
SPAN = NOW - timedelta(days=2), NOW + timedelta(days=1)


async def test_payments_and_the_ledger(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    await make_customer(admin_db, actor, org)
    visit = await begin_checkout(admin_db, actor, org.org_id, uuid4(), top_up_cents=1000)
    await keep_session(admin_db, visit.checkout_id, "cs_1")
    async with admin_db.transaction() as tx:
        await apply_checkout(tx, actor, checkout("cs_1", refunded_cents=300), 1)
        sums = {"usage_paid": 120, "usage_refunded": 40, "usage_credited": 10}
        await apply_invoice(tx, actor, invoice(status="paid", **sums), 2)
    assert await check_payments(admin_db, org.org_id, *SPAN) == []
    await owner_db.execute("UPDATE stripe_checkouts SET paid_cents = 900, refunded_cents = 299")
    await owner_db.execute(
        "UPDATE stripe_invoices SET usage_paid = 0, usage_refunded = 41, usage_credited = 0"
    )
    found = await check_payments(admin_db, org.org_id, *SPAN)
    assert [(one.expected // 10**10, one.found // 10**10) for one in found] == [
        (900, 1000),
        (299, 300),
        (0, 120),
        (41, 40),
        (0, 10),
    ]


async def test_reports_that_did_not_arrive(admin_db: Database, owner_db: Database, org: Organization) -> None:
    for hours, state in enumerate(("sent", "waiting", "unsure", "refused"), 1):
        await owner_db.execute(
            "INSERT INTO meter_reports (org_id, hour, customer_id, value, state)"
            " VALUES ($1, date_trunc('hour', now(), 'UTC') - $2 * interval '1 hour', $3, 7, $4)",
            org.org_id,
            hours,
            CUSTOMER,
            state,
        )
    found = await check_reports(admin_db, org.org_id, *SPAN)
    assert [one.what for one in found] == ["meter: a report is refused", "meter: a report is unsure"]
    assert {(one.expected, one.found) for one in found} == {(7, 0)}
