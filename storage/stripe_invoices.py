"""Invoices as they were last read from Stripe, to be listed on the organization's pages.

What was paid for metered usage, what went back of it, and what credit notes say is not owed go to the ledger
(docs/decisions/0118), as the differences to what is kept of the invoice: once, however often the invoice is
told of.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from storage import audit, ledger
from storage.audit import Event
from storage.bridge import Transaction
from storage.ledger import Account, EntryKind
from storage.model import Actor
from storage.queries import Queries, Record
from storage.stripe_checkouts import PICODOLLARS_PER_CENT
from storage.stripe_customers import lock_owner
from storage.stripe_objects import InvoiceReading
from storage.webhook_events import emit

PAGE_ROWS_MAX = 50
_TOLD_AS = {
    "draft": "invoice.created",
    "open": "invoice.finalized",
    "paid": "invoice.paid",
    "uncollectible": "invoice.uncollectible",
    "void": "invoice.voided",
}
"""What webhooks call it that an invoice has come to a status."""
_TOLD_TO_LEDGER = ("usage_paid", "usage_refunded", "usage_credited")


class KeptInvoice(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts are in the currency's smallest unit."""

    invoice_id: str
    number: str | None
    status: str
    currency: str
    total: int
    due: int
    created_at: datetime
    page_url: str | None


async def select_invoices(
    db: Queries, org_id: UUID, after: str | None = None, limit: int = PAGE_ROWS_MAX
) -> list[KeptInvoice]:
    """Newest first, drafts left out; `after` is the last invoice of the page before."""
    rows = await db.fetch(
        """
        SELECT invoice_id, number, status, currency, total, due, created_at, page_url
          FROM stripe_invoices
         WHERE org_id = $1 AND status <> 'draft'
           AND ($2::text IS NULL OR (created_at, invoice_id)
                                    < (SELECT created_at, invoice_id FROM stripe_invoices
                                        WHERE invoice_id = $2 AND org_id = $1))
         ORDER BY created_at DESC, invoice_id DESC
         LIMIT $3
        """,
        org_id,
        after,
        min(limit, PAGE_ROWS_MAX),
    )
    return [KeptInvoice(**dict(row)) for row in rows]


async def apply_invoice(tx: Transaction, actor: Actor, reading: InvoiceReading, number: int) -> UUID | None:
    """Puts in what was read of an invoice, unless something newer was. Returns whose it is."""
    org_id = await lock_owner(tx, reading.customer_id)
    if org_id is None:
        return None
    before = await tx.fetch_row(
        "SELECT status, usage_paid, usage_refunded, usage_credited"
        "  FROM stripe_invoices WHERE invoice_id = $1",
        reading.invoice_id,
    )
    newest = await tx.fetch_value(
        """
        INSERT INTO stripe_invoices AS i
               (invoice_id, org_id, number, status, currency, total, due, created_at, usage_paid, page_url,
                reading, usage_refunded, usage_credited)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        ON CONFLICT (invoice_id) DO UPDATE
           SET number = EXCLUDED.number, status = EXCLUDED.status, total = EXCLUDED.total, due = EXCLUDED.due,
               usage_paid = EXCLUDED.usage_paid, page_url = EXCLUDED.page_url, reading = EXCLUDED.reading,
               usage_refunded = EXCLUDED.usage_refunded, usage_credited = EXCLUDED.usage_credited
         WHERE i.reading < EXCLUDED.reading
        RETURNING true
        """,
        reading.invoice_id,
        org_id,
        reading.number,
        reading.status,
        reading.currency,
        reading.total,
        reading.due,
        reading.created_at,
        reading.usage_paid,
        reading.page_url,
        number,
        reading.usage_refunded,
        reading.usage_credited,
    )
    if not newest:
        return org_id
    posted = await _post_differences(tx, org_id, reading, before, number)
    changed = before is None or before["status"] != reading.status
    if changed:
        await _emit(tx, org_id, reading)
    if changed or posted:
        details = {"status": reading.status, "total": reading.total, "currency": reading.currency}
        if before is not None:
            details["status_before"] = before["status"]
        if posted:
            details |= {name: getattr(reading, name) for name in _TOLD_TO_LEDGER}
        await audit.record(tx, actor, Event.PAYMENT_INVOICE_CHANGED, org_id, reading.invoice_id, details)
    return org_id


async def _post_differences(
    tx: Transaction, org_id: UUID, reading: InvoiceReading, before: Record | None, number: int
) -> bool:
    """What the ledger has not been told. Returns whether there was any."""
    posted = False
    source = f"stripe:{reading.invoice_id}:{number}"
    for kind, account, field, sign in (
        (EntryKind.PAYMENT, Account.STRIPE, "usage_paid", 1),
        (EntryKind.PAYMENT_REFUND, Account.REFUNDS, "usage_refunded", -1),
        (EntryKind.CREDIT_NOTE, Account.ADJUSTMENTS, "usage_credited", 1),
    ):
        cents = sign * (getattr(reading, field) - (0 if before is None else before[field]))
        if cents:
            entries = {
                Account.CREDIT: cents * PICODOLLARS_PER_CENT,
                account: -cents * PICODOLLARS_PER_CENT,
            }
            own = source if kind is EntryKind.PAYMENT else f"{source}:{kind.value}"
            await ledger.post(tx, org_id, kind, own, entries, note=reading.number or "")
            posted = True
    return posted


async def _emit(tx: Transaction, org_id: UUID, reading: InvoiceReading) -> None:
    name = _TOLD_AS.get(reading.status)
    if name is not None:
        told = ("invoice_id", "number", "status", "currency", "total", "due")
        await emit(tx, org_id, name, {field: getattr(reading, field) for field in told})
