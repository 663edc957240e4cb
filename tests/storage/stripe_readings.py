"""Readings as tests of storage make them up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from storage.bridge import Database
from storage.model import Actor, Organization, Plan
from storage.stripe_customers import ensure_customer_row, keep_customer
from storage.stripe_objects import (
    CheckoutReading,
    CheckoutState,
    InvoiceReading,
    SubscriptionReading,
)

START = datetime(2026, 11, 1, tzinfo=UTC)
CUSTOMER = "cus_1"


async def make_customer(db: Database, actor: Actor, org: Organization, customer_id: str = CUSTOMER) -> None:
    await keep_customer(db, actor, await ensure_customer_row(db, org.org_id), customer_id)


def subscription(**changes: Any) -> SubscriptionReading:
    reading = SubscriptionReading(
        subscription_id="sub_1",
        customer_id=CUSTOMER,
        status="active",
        plan=Plan.PRO,
        seat_item_id="si_1",
        seats=1,
        metered=True,
        started_at=START,
        period_end=None,
        ends_at=None,
        ended_at=None,
    )
    return msgspec.structs.replace(reading, **changes)


def invoice(**changes: Any) -> InvoiceReading:
    reading = InvoiceReading(
        invoice_id="in_1",
        customer_id=CUSTOMER,
        subscription_id=None,
        number="K-1",
        status="open",
        currency="usd",
        total=2620,
        due=2620,
        created_at=START,
        usage_paid=0,
        page_url=None,
    )
    return msgspec.structs.replace(reading, **changes)


def checkout(session_id: str, **changes: Any) -> CheckoutReading:
    reading = CheckoutReading(
        session_id=session_id,
        checkout_id=None,
        customer_id=CUSTOMER,
        state=CheckoutState.PAID,
        subscription_id=None,
        paid_cents=1000,
        refunded_cents=0,
    )
    return msgspec.structs.replace(reading, **changes)
