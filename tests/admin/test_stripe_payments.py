"""Stripe by its own library: against localstripe where it has what is asked, else against documented
shapes."""

from __future__ import annotations

import logging
import socket
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from admin import stripe_payments
from admin.payments import PaymentsRefused, PaymentsUnavailable, Visit
from admin.settings import AdminSettings
from admin.stripe_payments import StripePayments
from storage.model import Plan
from storage.stripe_objects import CheckoutState, ObjectKind
from tests.admin.conftest import stripe_settings
from tests.support.localstripe import API_KEY, SECRET, Desk, call

DATABASE = "postgresql://nobody@127.0.0.1:1/none"
ENDS = datetime(2026, 11, 2, tzinfo=UTC)


def settings(origin: str, **more: Any) -> AdminSettings:
    return AdminSettings.load(database_url=DATABASE, **{**stripe_settings(origin), **more})


@pytest.fixture
def payments(desk: Desk) -> StripePayments:
    return StripePayments(settings(desk.origin))


def visit(customer_id: str, key: str = "k") -> Visit:
    done, back = "https://karta.example/done", "https://karta.example/back"
    return Visit(uuid4(), customer_id, key, done, back, ENDS)


async def test_a_customer_with_a_subscription(payments: StripePayments, desk: Desk) -> None:
    customer = await payments.create_customer(UUID(int=7), "Acme", "ada@example.com", "customer-7")
    made = call(desk.behind, "GET", f"/v1/customers/{customer}")[1]
    assert (made["name"], made["metadata"]) == ("Acme", {"karta_org_id": str(UUID(int=7))})
    card = {
        "type": "card",
        "card": {"number": "4242424242424242", "exp_month": 12, "exp_year": 2040, "cvc": 123},
    }
    method = call(desk.behind, "POST", "/v1/payment_methods", card)[1]["id"]
    call(desk.behind, "POST", f"/v1/payment_methods/{method}/attach", {"customer": customer})
    default = {"invoice_settings": {"default_payment_method": method}}
    call(desk.behind, "POST", f"/v1/customers/{customer}", default)
    items = {"customer": customer, "items": [{"plan": "price_pro", "quantity": 2}]}
    subscription = call(desk.behind, "POST", "/v1/subscriptions", items)[1]
    read = await payments.read_subscription(subscription["id"])
    assert read is not None
    assert (read.customer_id, read.status, read.plan, read.seats) == (customer, "active", Plan.PRO, 2)
    assert read.period_end is not None
    assert read.ends_at is None
    invoice = await payments.read_invoice(subscription["latest_invoice"])
    assert invoice is not None
    assert (invoice.status, invoice.total, invoice.subscription_id) == ("paid", 5000, subscription["id"])
    assert read.seat_item_id is not None
    await payments.set_seats(subscription["id"], read.seat_item_id, 3, "seats-1")
    await payments.end_subscription(subscription["id"], at_period_end=True)
    read = await payments.read_subscription(subscription["id"])
    assert read is not None
    assert (read.seats, read.ends_at) == (3, read.period_end)
    await payments.end_subscription(subscription["id"], at_period_end=False)
    await payments.end_subscription(subscription["id"], at_period_end=None)
    read = await payments.read_subscription(subscription["id"])
    assert read is not None
    assert read.status == "canceled"
    assert read.ended_at is not None


async def test_tax_ids_and_what_is_not_there(payments: StripePayments, desk: Desk) -> None:
    customer = await payments.create_customer(UUID(int=8), "Acme", "ada@example.com", "customer-8")
    tax_id = {"type": "eu_vat", "value": "DE123456789"}
    call(desk.behind, "POST", f"/v1/customers/{customer}/tax_ids", tax_id)
    read = await payments.read_customer(customer)
    assert read is not None
    assert [(one.kind, one.value) for one in read.tax_ids] == [("eu_vat", "DE123456789")]
    assert await payments.read_customer("cus_none") is None
    assert await payments.read_subscription("sub_none") is None
    assert await payments.read_invoice("in_none") is None
    assert await payments.read_checkout("cs_none") is None
    assert await payments.find_paid(ObjectKind.REFUND, "re_none") == []


async def test_a_payment_page_is_made_once(payments: StripePayments, desk: Desk) -> None:
    same = visit("cus_1")
    first = await payments.open_subscription(same, 3)
    assert await payments.open_subscription(same, 3) == first
    assert first.url.startswith(desk.origin)
    assert len(desk.sessions) == 1
    assert await payments.read_page(first.session_id) == first
    session = desk.sessions[first.session_id]
    with pytest.raises(PaymentsRefused, match="IdempotencyError"):
        await payments.open_subscription(same, 4)
    assert (session["mode"], session["quantity"]) == ("subscription", "3")
    assert session["expires_at"] == int(ENDS.timestamp()), "not when Stripe ends it by itself"
    other = await payments.open_top_up(visit("cus_1", "k2"), 1000)
    assert desk.sessions[other.session_id]["amount_subtotal"] == 1000


async def test_a_top_up_with_its_refunds(payments: StripePayments, desk: Desk) -> None:
    page = await payments.open_top_up(visit("cus_1"), 1000)
    session = desk.sessions[page.session_id]
    read = await payments.read_checkout(page.session_id)
    assert read is not None
    assert (read.state, read.paid_cents) == (CheckoutState.OPEN, 0)
    assert str(read.checkout_id) == session["client_reference_id"]
    session |= {"status": "complete", "payment_status": "paid", "payment_intent": "pi_1"}
    assert await payments.read_page(page.session_id) is None
    desk.refunds += [
        {"id": "re_1", "object": "refund", "payment_intent": "pi_1", "amount": 300, "status": "succeeded"},
        {"id": "re_2", "object": "refund", "payment_intent": "pi_1", "amount": 200, "status": "failed"},
    ]
    desk.disputes.append(
        {"id": "du_1", "object": "dispute", "payment_intent": "pi_1", "amount": 100, "status": "lost"}
    )
    read = await payments.read_checkout(page.session_id)
    assert read is not None
    assert (read.state, read.paid_cents, read.refunded_cents) == (CheckoutState.PAID, 1000, 400)
    expected = [(ObjectKind.CHECKOUT, page.session_id)]
    assert await payments.find_paid(ObjectKind.REFUND, "re_1") == expected
    assert await payments.find_paid(ObjectKind.DISPUTE, "du_1") == expected


async def test_an_invoice_with_its_refunds_and_credit_notes(payments: StripePayments, desk: Desk) -> None:
    lines = [{"id": f"il_{number}", "amount": 100, "price": {"id": "price_pro"}} for number in range(10)]
    usage = {"id": "il_usage", "amount": 1000, "pricing": {"price_details": {"price": "price_usage"}}}
    desk.invoices["in_1"] = {
        "id": "in_1",
        "object": "invoice",
        "customer": "cus_1",
        "status": "paid",
        "currency": "usd",
        "total": 2000,
        "amount_paid": 2000,
        "created": 1_790_000_000,
        "lines": {"object": "list", "data": [*lines, usage], "has_more": False, "url": "/v1/x"},
    }
    paid_by = {"type": "payment_intent", "payment_intent": "pi_1"}
    desk.invoice_payments.append(
        {"id": "inpay_1", "object": "invoice_payment", "invoice": "in_1", "payment": paid_by}
    )
    desk.refunds += [
        {"id": f"re_{cents}", "object": "refund", "payment_intent": "pi_1", "amount": cents}
        | {"status": "succeeded"}
        for cents in (300, 500)
    ]
    note = {"id": "cn_1", "object": "credit_note", "invoice": "in_1", "status": "issued", "amount": 300}
    note |= {"post_payment_amount": 300, "refunds": [{"refund": "re_300", "amount_refunded": 300}]}
    of_usage = {"type": "invoice_line_item", "invoice_line_item": "il_usage", "amount": 300}
    desk.notes.append({**note, "lines": {"object": "list", "data": [of_usage]}})
    read = await payments.read_invoice("in_1")
    assert read is not None
    # The line for usage is not among the ten that come with the invoice.
    # By the note all of its 300 went back; of the other 500 the half that usage is of the invoice.
    assert (read.usage_paid, read.usage_refunded, read.usage_credited) == (1000, 550, 300)
    assert await payments.find_paid(ObjectKind.REFUND, "re_500") == [(ObjectKind.INVOICE, "in_1")]


async def test_nobody_is_sent_elsewhere(desk: Desk) -> None:
    payments = StripePayments(settings(desk.origin, stripe_pages=["https://checkout.stripe.com"]))
    with pytest.raises(PaymentsRefused, match="KARTA_STRIPE_PAGES"):
        await payments.open_subscription(visit("cus_1"), 1)
    with pytest.raises(PaymentsRefused, match="KARTA_STRIPE_PAGES"):
        await payments.open_portal("cus_1", "https://karta.example/back")


async def test_usage_is_counted_once(payments: StripePayments, desk: Desk) -> None:
    hour = datetime(2026, 11, 26, 1, tzinfo=UTC)
    one, other = uuid4(), uuid4()
    await payments.report_usage(one, "cus_1", 250, hour)
    await payments.report_usage(one, "cus_1", 250, hour)
    # As if Stripe had forgotten the key, but not the identifier.
    desk.keys.clear()
    await payments.report_usage(one, "cus_1", 250, hour)
    await payments.report_usage(other, "cus_1", 50, hour)
    assert len(desk.meter_events) == 2
    assert await payments.sum_usage("cus_1", hour, hour + timedelta(hours=1)) == 300
    assert await payments.sum_usage("cus_2", hour, hour + timedelta(hours=1)) == 0


async def test_trouble_is_tried_again_and_told_apart(
    payments: StripePayments, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stripe.HTTPClient.INITIAL_DELAY", 0.01)
    desk.failing = [500, 503]
    assert (await payments.open_top_up(visit("cus_1"), 700)).session_id in desk.sessions
    desk.failing = [500] * 3
    with pytest.raises(PaymentsUnavailable, match="status 500"):
        await payments.open_top_up(visit("cus_1", "k2"), 700)
    desk.failing = [429] * 3
    with pytest.raises(PaymentsUnavailable):
        await payments.open_top_up(visit("cus_1", "k2"), 700)
    desk.failing = [401]
    with pytest.raises(PaymentsUnavailable, match="KARTA_STRIPE_API_KEY"):
        await payments.read_subscription("sub_1")
    desk.failing = [400]
    with pytest.raises(PaymentsRefused):
        await payments.open_top_up(visit("cus_1", "k2"), 700)


async def test_who_waits_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stripe_payments, "CALL_SECONDS_MAX", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        payments = StripePayments(settings(f"http://127.0.0.1:{silent.getsockname()[1]}"))
        with trio.fail_after(10), pytest.raises(PaymentsUnavailable, match="did not answer"):
            await payments.read_subscription("sub_1")


async def test_no_proxy_of_the_environment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    page = await StripePayments(settings(desk.origin)).open_top_up(visit("cus_1"), 600)
    assert page.session_id == "cs_test_1"


async def test_no_secret_is_told(
    payments: StripePayments, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    desk.failing = [401]
    with pytest.raises(PaymentsUnavailable) as refused:
        await payments.read_customer("cus_1")
    await payments.open_portal("cus_1", "https://karta.example/back")
    told = "\n".join((repr(payments), repr(settings(desk.origin)), str(refused.value), caplog.text))
    assert API_KEY not in told
    assert SECRET not in told
