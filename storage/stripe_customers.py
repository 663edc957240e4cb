"""Whom an organization is at Stripe: made there once, and found by its id in what Stripe tells.

Stripe makes the same customer for the same key, so a program that dies between asking and keeping the answer
asks again and gets the same. The row is also the lock under which everything that was read about an
organization is put in (`lock_owner`).
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from storage import audit
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.model import Actor
from storage.queries import Queries
from storage.stripe_objects import CustomerReading, TaxId


class StripeCustomer(msgspec.Struct, frozen=True, kw_only=True):
    org_id: UUID
    customer_id: str | None
    generation: int
    tax_ids: tuple[TaxId, ...] = ()

    @property
    def idempotency_key(self) -> str:
        """By which Stripe makes it once."""
        return f"karta-customer-{self.org_id}-{self.generation}"


async def ensure_customer_row(db: Database, org_id: UUID) -> StripeCustomer:
    """The organization's row, made where there is none yet. Raises InvalidReference for no organization."""
    await db.execute(
        "INSERT INTO stripe_customers (org_id) VALUES ($1) ON CONFLICT (org_id) DO NOTHING", org_id
    )
    found = await select_customer(db, org_id)
    assert found is not None
    return found


async def select_customer(db: Queries, org_id: UUID) -> StripeCustomer | None:
    row = await db.fetch_row(
        "SELECT org_id, customer_id, generation, tax_ids FROM stripe_customers WHERE org_id = $1", org_id
    )
    if row is None:
        return None
    tax_ids = msgspec.json.decode(row["tax_ids"], type=tuple[TaxId, ...])
    return StripeCustomer(
        org_id=row["org_id"], customer_id=row["customer_id"], generation=row["generation"], tax_ids=tax_ids
    )


async def keep_customer(db: Database, actor: Actor, row: StripeCustomer, customer_id: str) -> str:
    """Keeps the id that Stripe gave; returns the one that holds: of two at once, the first one's."""
    async with db.transaction() as tx:
        kept = await tx.fetch_value(
            """
            UPDATE stripe_customers SET customer_id = $3
             WHERE org_id = $1 AND generation = $2 AND customer_id IS NULL
            RETURNING true
            """,
            row.org_id,
            row.generation,
            customer_id,
        )
        if kept:
            details = {"customer": customer_id}
            await audit.record(tx, actor, Event.PAYMENT_CUSTOMER_MADE, row.org_id, str(row.org_id), details)
    found = await select_customer(db, row.org_id)
    return (found and found.customer_id) or customer_id


async def lock_owner(tx: Transaction, customer_id: str | None) -> UUID | None:
    """Whose customer that is, locked until the transaction ends; None for nobody's: other installations may
    share the account at Stripe.

    The organization is locked too: whoever locks it does so before its ledger and its audit log.
    """
    org_id: UUID | None = await tx.fetch_value(
        """
        SELECT c.org_id
          FROM stripe_customers c JOIN organizations o USING (org_id)
         WHERE c.customer_id = $1
           FOR UPDATE OF c FOR NO KEY UPDATE OF o
        """,
        customer_id,
    )
    return org_id


async def apply_customer(tx: Transaction, actor: Actor, reading: CustomerReading, number: int) -> UUID | None:
    """Puts in what was read of a customer, unless something newer was. Returns whose it is."""
    org_id = await lock_owner(tx, reading.customer_id)
    if org_id is None:
        return None
    row = await tx.fetch_row("SELECT reading, tax_ids FROM stripe_customers WHERE org_id = $1", org_id)
    assert row is not None
    if row["reading"] >= number:
        return org_id
    if reading.deleted:
        # The next payment makes another one; what was bought by this one ends by its own events.
        await tx.execute(
            """
            UPDATE stripe_customers
               SET customer_id = NULL, generation = generation + 1, tax_ids = '[]', reading = $2
             WHERE org_id = $1
            """,
            org_id,
            number,
        )
        details: dict[str, object] = {"customer": reading.customer_id}
        await audit.record(tx, actor, Event.PAYMENT_CUSTOMER_GONE, org_id, str(org_id), details)
        return org_id
    before = msgspec.json.decode(row["tax_ids"], type=tuple[TaxId, ...])
    await tx.execute(
        "UPDATE stripe_customers SET tax_ids = $2::text::jsonb, reading = $3 WHERE org_id = $1",
        org_id,
        msgspec.json.encode(reading.tax_ids).decode(),
        number,
    )
    if before != reading.tax_ids:
        details = {"count": len(reading.tax_ids), "kinds": sorted({one.kind for one in reading.tax_ids})}
        await audit.record(tx, actor, Event.PAYMENT_TAX_IDS_CHANGED, org_id, str(org_id), details)
    return org_id
