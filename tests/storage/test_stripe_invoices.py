"""Invoices are listed as they were last read, and what was paid for usage is in the ledger once."""

from __future__ import annotations

import json
from datetime import timedelta

from storage.audit import Event, select_audit_rows
from storage.bridge import Database
from storage.ledger import EntryKind, select_balance, select_statement
from storage.model import Actor, Organization
from storage.sealing import MasterKeys
from storage.stripe_invoices import apply_invoice, select_invoices
from tests.storage.stripe_readings import START, invoice, make_customer
from tests.storage.test_webhook_events import bodies, listen


async def test_invoices_and_what_was_paid_for_usage(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    await make_customer(admin_db, actor, org)
    before = (await select_balance(admin_db, org.org_id)).credit
    readings = (
        (1, invoice(status="draft")),
        (3, invoice(status="paid", due=0, usage_paid=120)),
        (2, invoice()),
        (4, invoice(status="paid", due=0, usage_paid=120)),
    )
    for number, reading in readings:
        async with admin_db.transaction() as tx:
            assert await apply_invoice(tx, actor, reading, number) == org.org_id
    (kept,) = await select_invoices(admin_db, org.org_id)
    assert (kept.status, kept.due, kept.number) == ("paid", 0, "K-1")
    assert (await select_balance(admin_db, org.org_id)).credit - before == 120 * 10**10
    async with admin_db.transaction() as tx:
        assert await apply_invoice(tx, actor, invoice(customer_id="cus_other"), 5) is None


async def test_each_change_of_the_ledger_has_its_audit_row(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    """Also where the status stays: an invoice is paid in parts, and may be paid back in parts."""
    await make_customer(admin_db, actor, org)
    readings = (
        invoice(usage_paid=50),
        invoice(usage_paid=120),
        invoice(usage_paid=120),
        invoice(usage_paid=120, usage_refunded=20),
    )
    for number, reading in enumerate(readings, 1):
        async with admin_db.transaction() as tx:
            await apply_invoice(tx, actor, reading, number)
    rows = await select_audit_rows(admin_db, org.org_id)
    told = [json.loads(row.details) for row in rows if row.event == Event.PAYMENT_INVOICE_CHANGED]
    assert sorted((one["usage_paid"], one["usage_refunded"]) for one in told) == [
        (50, 0),
        (120, 0),
        (120, 20),
    ]
    assert [one.kind for one in await select_statement(admin_db, org.org_id)][:3] == [
        EntryKind.PAYMENT_REFUND,
        EntryKind.PAYMENT,
        EntryKind.PAYMENT,
    ]


async def test_what_an_invoice_comes_to_is_told_by_webhooks(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    await make_customer(admin_db, actor, org)
    await listen(admin_db, actor, master_keys, org.org_id)
    readings = (invoice(status="draft"), invoice(), invoice(), invoice(status="paid", due=0), invoice())
    for number, reading in zip((1, 2, 3, 5, 4), readings, strict=True):
        async with admin_db.transaction() as tx:
            await apply_invoice(tx, actor, reading, number)
    told = await bodies(admin_db)
    assert [one["type"] for one in told] == ["invoice.created", "invoice.finalized", "invoice.paid"]
    assert (told[1]["data"]["due"], told[2]["data"]["due"]) == (2620, 0)


async def test_pages_of_invoices(admin_db: Database, actor: Actor, org: Organization) -> None:
    await make_customer(admin_db, actor, org)
    for number in range(4):
        reading = invoice(invoice_id=f"in_{number}", created_at=START + timedelta(days=number))
        async with admin_db.transaction() as tx:
            await apply_invoice(tx, actor, reading, number + 1)
    newest = await select_invoices(admin_db, org.org_id, limit=2)
    assert [one.invoice_id for one in newest] == ["in_3", "in_2"]
    older = await select_invoices(admin_db, org.org_id, after="in_2")
    assert [one.invoice_id for one in older] == ["in_1", "in_0"]
