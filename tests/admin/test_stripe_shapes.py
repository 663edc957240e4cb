"""Stripe's objects in the shapes of its versions, and with parts missing."""

from __future__ import annotations

from typing import Any

import pytest

from admin import stripe_shapes as shapes
from storage.model import Plan
from storage.stripe_objects import CheckoutState

PLANS = {"price_pro": Plan.PRO}
ITEM = {"id": "si_1", "price": {"id": "price_pro"}, "quantity": 4, "current_period_end": 1_800_000_000}
SUBSCRIPTION: dict[str, Any] = {
    "id": "sub_1",
    "customer": "cus_1",
    "status": "active",
    "start_date": 1_790_000_000,
    "items": {"data": [ITEM]},
}


def test_a_subscription_of_either_version() -> None:
    new = shapes.subscription(SUBSCRIPTION, PLANS, "price_usage")
    old_item = {"id": "si_1", "plan": {"id": "price_pro"}, "quantity": 4}
    old = {**SUBSCRIPTION, "items": {"data": [old_item]}, "current_period_end": 1_800_000_000}
    assert shapes.subscription(old, PLANS, "price_usage") == new
    assert (new.plan, new.seats, new.metered) == (Plan.PRO, 4, False)
    expanded = {**SUBSCRIPTION, "customer": {"id": "cus_1", "object": "customer"}}
    assert shapes.subscription(expanded, PLANS, None).customer_id == "cus_1"
    ends = shapes.subscription({**SUBSCRIPTION, "cancel_at_period_end": True}, PLANS, None)
    assert ends.ends_at == ends.period_end


def test_a_subscription_to_something_else() -> None:
    other = {"id": "si_2", "price": {"id": "price_usage"}}
    read = shapes.subscription({**SUBSCRIPTION, "items": {"data": [other]}}, PLANS, "price_usage")
    assert (read.plan, read.seat_item_id, read.seats, read.metered) == (None, None, 0, True)


def test_an_invoice_of_either_version() -> None:
    invoice: dict[str, Any] = {
        "id": "in_1",
        "customer": "cus_1",
        "status": "paid",
        "currency": "usd",
        "total": 2620,
        "created": 1_790_000_000,
        "hosted_invoice_url": "https://invoice.stripe.com/i/x",
    }
    new = {
        **invoice,
        "parent": {"subscription_details": {"subscription": "sub_1"}},
        "lines": {"data": [{"amount": 120, "pricing": {"price_details": {"price": "price_usage"}}}]},
    }
    old = {
        **invoice,
        "subscription": "sub_1",
        "lines": {"data": [{"amount": 120, "price": {"id": "price_usage"}}]},
    }
    assert shapes.invoice(new, "price_usage") == shapes.invoice(old, "price_usage")
    read = shapes.invoice(new, "price_usage")
    assert (read.subscription_id, read.usage_paid, read.due) == ("sub_1", 120, 0)
    assert shapes.invoice({**new, "status": "open"}, "price_usage").usage_paid == 0
    for link in (
        "javascript:alert(1)",
        "http://x",
        "https://x y",
        "https://x\n",
        None,
        7,
        "https://" + "x" * 2000,
    ):
        assert shapes.invoice({**new, "hosted_invoice_url": link}, None).page_url is None


@pytest.mark.parametrize(
    ("status", "payment", "state", "paid"),
    [
        ("open", "unpaid", CheckoutState.OPEN, 0),
        ("complete", "unpaid", CheckoutState.PAYING, 0),
        ("complete", "paid", CheckoutState.PAID, 1000),
        ("complete", "no_payment_required", CheckoutState.PAID, 1000),
        ("expired", "unpaid", CheckoutState.EXPIRED, 0),
    ],
)
def test_a_visit(status: str, payment: str, state: CheckoutState, paid: int) -> None:
    session = {"id": "cs_1", "status": status, "payment_status": payment, "mode": "payment"}
    session |= {"customer": "cus_1", "amount_subtotal": 1000, "amount_total": 1190}  # type: ignore[dict-item]
    read = shapes.checkout(session, (), ())
    assert (read.state, read.paid_cents, read.checkout_id) == (state, paid, None)


def test_what_went_back() -> None:
    session = {
        "id": "cs_1",
        "status": "complete",
        "payment_status": "paid",
        "mode": "payment",
        "amount_subtotal": 9,
    }
    refunds = [{"amount": 1, "status": status} for status in ("succeeded", "pending", "failed", "canceled")]
    disputes = [
        {"amount": 10, "status": status} for status in ("needs_response", "lost", "won", "warning_closed")
    ]
    assert shapes.checkout(session, refunds, disputes).refunded_cents == 22


@pytest.mark.parametrize(
    ("total", "back", "refunded"),
    [
        (11_900, 11_900, 10_000),  # all of it, with its tax
        (11_900, 5_950, 5_000),  # half of it, and half of its tax
        (11_900, 1, 0),  # never more than went back
        (8_000, 4_000, 5_000),  # half of what a coupon left
        (10_000, 2_500, 2_500),
    ],
)
def test_of_a_taxed_top_up_the_tax_that_went_back_is_no_credit(total: int, back: int, refunded: int) -> None:
    session = {
        "id": "cs_1",
        "status": "complete",
        "payment_status": "paid",
        "mode": "payment",
        "amount_subtotal": 10_000,
        "amount_total": total,
    }
    found = shapes.checkout(session, [{"amount": back, "status": "succeeded"}], [])
    assert found.refunded_cents == refunded


def test_a_customer_that_is_gone() -> None:
    gone = shapes.customer({"id": "cus_1", "deleted": True}, [{"type": "eu_vat", "value": "x"}])
    assert (gone.deleted, gone.tax_ids) == (True, ())
