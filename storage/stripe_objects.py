"""What is read from Stripe, as far as Karta keeps it: one frozen record for each kind of object.

Money is in the smallest unit of its currency (`cents`), as Stripe counts. Ids are Stripe's own.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from storage.bridge import Database
from storage.model import Plan


class ObjectKind(StrEnum):
    """What an event names."""

    CHECKOUT = "checkout"
    SUBSCRIPTION = "subscription"
    INVOICE = "invoice"
    CUSTOMER = "customer"
    CHARGE = "charge"
    REFUND = "refund"
    DISPUTE = "dispute"


class CheckoutState(StrEnum):
    """How far a visit to Stripe's payment page has come."""

    OPEN = "open"
    PAYING = "paying"
    """The visit is over, and the money is not here yet."""
    PAID = "paid"
    EXPIRED = "expired"


class SubscriptionReading(msgspec.Struct, frozen=True, kw_only=True):
    subscription_id: str
    customer_id: str
    status: str
    """Stripe's word: active, trialing, past_due, unpaid, canceled, incomplete, incomplete_expired, paused."""
    plan: Plan | None
    """What its prices sell; None when none of them is a plan's."""
    seat_item_id: str | None
    seats: int
    metered: bool
    """It has the price by which usage is billed."""
    started_at: datetime
    period_end: datetime | None
    ends_at: datetime | None
    """When it will end, if that is decided."""
    ended_at: datetime | None


class InvoiceReading(msgspec.Struct, frozen=True, kw_only=True):
    invoice_id: str
    customer_id: str
    subscription_id: str | None
    number: str | None
    status: str
    """Stripe's word: draft, open, paid, uncollectible, void."""
    currency: str
    total: int
    due: int
    created_at: datetime
    usage_paid: int
    """What of it was for metered usage, once it is paid."""
    usage_refunded: int = 0
    """Of that, what went back: by refunds, disputes that were not won, and credit notes after payment."""
    usage_credited: int = 0
    """What of the metered usage is not owed, by credit notes before or after payment."""
    page_url: str | None
    """Stripe's page of it, for people."""


class CheckoutReading(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    checkout_id: UUID | None
    """What we called it, should Stripe's answer with `session_id` have been lost."""
    customer_id: str | None
    state: CheckoutState
    subscription_id: str | None
    paid_cents: int
    """Of a top-up: what was paid for credit, without tax."""
    refunded_cents: int
    """Of that, what went back: refunds, and disputes that were not won."""


class TaxId(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    """Stripe's word: eu_vat, gb_vat, us_ein …"""
    value: str
    verification: str | None = None


class CustomerReading(msgspec.Struct, frozen=True, kw_only=True):
    customer_id: str
    deleted: bool
    tax_ids: tuple[TaxId, ...]


async def begin_reading(db: Database) -> int:
    """The number of a reading that begins now: take it before the first byte is asked for."""
    number: int = await db.fetch_value("SELECT nextval('stripe_readings')")
    return number
