"""Stripe as a history: objects in its documented shapes that change step by step, and the signed events that
tell of each change. `StripeWorld` answers the readings of `admin.payments.Payments` from how its objects are
now.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import stripe

from admin import stripe_shapes as shapes
from storage.model import Plan
from storage.stripe_objects import (
    CheckoutReading,
    CustomerReading,
    InvoiceReading,
    ObjectKind,
    SubscriptionReading,
)

SECRET = "whsec_world"
PRICE = "price_pro_seat"
USAGE_PRICE = "price_usage"
STARTED = 1_795_600_000
Json = dict[str, Any]


class StripeWorld:
    """One customer. Each method that names what happens returns the bodies of the events that tell it."""

    is_set_up = True
    sells_pro = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.customer_id = f"cus_{name}"
        self.customer: Json = {"id": self.customer_id, "object": "customer", "deleted": False}
        self.tax_ids: list[Json] = []
        self.subscription: Json | None = None
        self.invoices: dict[str, Json] = {}
        self.sessions: dict[str, Json] = {}
        self.refunds: list[Json] = []
        self.disputes: list[Json] = []
        self.notes: list[Json] = []
        self._events = 0

    # What happens.

    def open_session(self, checkout_id: str, *, cents: int | None = None) -> str:
        session_id = f"cs_test_{self.name}{len(self.sessions)}"
        self.sessions[session_id] = {
            "id": session_id,
            "object": "checkout.session",
            "client_reference_id": checkout_id,
            "customer": self.customer_id,
            "mode": "subscription" if cents is None else "payment",
            "status": "open",
            "payment_status": "unpaid",
            "amount_subtotal": cents or 2500,
            "amount_total": cents or 2500,
            "currency": "usd",
            "payment_intent": None,
            "subscription": None,
            "url": "https://checkout.stripe.com/c/pay/x",
        }
        return session_id

    def subscribe(self, session_id: str, seats: int) -> list[bytes]:
        subscription_id = f"sub_{self.name}"
        self.subscription = {
            "id": subscription_id,
            "object": "subscription",
            "customer": self.customer_id,
            "status": "active",
            "start_date": STARTED,
            "created": STARTED,
            "cancel_at": None,
            "cancel_at_period_end": False,
            "canceled_at": None,
            "ended_at": None,
            "items": {
                "object": "list",
                "data": [
                    self._item("si_seats", PRICE, seats),
                    self._item("si_usage", USAGE_PRICE, None),
                ],
            },
        }
        self.sessions[session_id] |= {
            "status": "complete",
            "payment_status": "paid",
            "subscription": subscription_id,
        }
        invoice = self._make_invoice("paid")
        return [
            self._event("customer.subscription.created", self.subscription),
            self._event("invoice.paid", invoice),
            self._event("checkout.session.completed", self.sessions[session_id]),
        ]

    def change(self, status: str) -> list[bytes]:
        """A renewal that fails, is given up, or goes through after all; or the end."""
        assert self.subscription is not None
        self.subscription["status"] = status
        events = []
        if status == "canceled":
            self.subscription["ended_at"] = STARTED + 100
            return [self._event("customer.subscription.deleted", self.subscription)]
        if status == "past_due":
            events.append(self._event("invoice.payment_failed", self._make_invoice("open")))
        if status == "active":
            for invoice in self.invoices.values():
                if invoice["status"] == "open":
                    invoice |= {"status": "paid", "amount_remaining": 0}
                    events.append(self._event("invoice.paid", invoice))
        return [*events, self._event("customer.subscription.updated", self.subscription)]

    def set_seats_there(self, seats: int) -> list[bytes]:
        assert self.subscription is not None
        self.subscription["items"]["data"][0]["quantity"] = seats
        return [self._event("customer.subscription.updated", self.subscription)]

    def end_with_period(self, ends: bool) -> list[bytes]:
        assert self.subscription is not None
        self.subscription["cancel_at_period_end"] = ends
        return [self._event("customer.subscription.updated", self.subscription)]

    def pay(self, session_id: str) -> list[bytes]:
        self.sessions[session_id] |= {
            "status": "complete",
            "payment_status": "paid",
            "payment_intent": f"pi_{session_id}",
        }
        return [self._event("checkout.session.completed", self.sessions[session_id])]

    def expire(self, session_id: str) -> list[bytes]:
        self.sessions[session_id]["status"] = "expired"
        return [self._event("checkout.session.expired", self.sessions[session_id])]

    def refund(self, session_id: str, cents: int) -> list[bytes]:
        refund = {
            "id": f"re_{self.name}{len(self.refunds)}",
            "object": "refund",
            "amount": cents,
            "payment_intent": f"pi_{session_id}",
            "status": "succeeded",
        }
        self.refunds.append(refund)
        charge = {"id": f"ch_{session_id}", "object": "charge", "payment_intent": f"pi_{session_id}"}
        return [self._event("refund.created", refund), self._event("charge.refunded", charge)]

    def refund_invoice(self, cents: int, invoice_id: str | None = None) -> list[bytes]:
        return self.refund(invoice_id or next(iter(self.invoices)), cents)

    def credit(self, usage: int, seats: int, *, how: str) -> list[bytes]:
        """A credit note to the first invoice, or to the newest one that is open: `refund`, `balance`,
        `before`."""
        wanted = "open" if how == "before" else "paid"
        invoice = next((one for one in self.invoices.values() if one["status"] == wanted), None)
        if invoice is None:
            return []
        lines = [
            {"type": "invoice_line_item", "invoice_line_item": line["id"], "amount": amount}
            for line, amount in zip(invoice["lines"]["data"], (seats, usage), strict=True)
        ]
        note = {
            "id": f"cn_{self.name}{len(self.notes)}",
            "object": "credit_note",
            "invoice": invoice["id"],
            "status": "issued",
            "amount": usage + seats,
            "pre_payment_amount": usage + seats if how == "before" else 0,
            "post_payment_amount": 0 if how == "before" else usage + seats,
            "lines": {"object": "list", "data": lines},
            "refunds": [],
        }
        self.notes.append(note)
        events = [self._event("credit_note.created", note)]
        if how == "before":
            invoice["amount_remaining"] -= usage + seats
            events.append(self._event("invoice.updated", invoice))
        if how == "refund":
            events += self.refund_invoice(usage + seats, invoice["id"])
            attached = {"refund": self.refunds[-1]["id"], "amount_refunded": usage + seats, "type": "refund"}
            note["refunds"].append(attached)
        return events

    def void_note(self) -> list[bytes]:
        self.notes[-1]["status"] = "void"
        return [self._event("credit_note.voided", self.notes[-1])]

    def fail_refund(self) -> list[bytes]:
        self.refunds[-1]["status"] = "failed"
        return [self._event("refund.failed", self.refunds[-1])]

    def dispute(self, session_id: str, status: str) -> list[bytes]:
        found = next((one for one in self.disputes if one["payment_intent"] == f"pi_{session_id}"), None)
        if found is None:
            found = {
                "id": f"du_{session_id}",
                "object": "dispute",
                "amount": 100,
                "payment_intent": f"pi_{session_id}",
            }
            self.disputes.append(found)
        found["status"] = status
        return [self._event("charge.dispute.updated", found)]

    def add_tax_id(self, value: str) -> list[bytes]:
        found = {
            "id": f"txi_{value}",
            "object": "tax_id",
            "customer": self.customer_id,
            "type": "eu_vat",
            "value": value,
            "verification": {"status": "pending"},
        }
        self.tax_ids.append(found)
        return [self._event("customer.tax_id.created", found)]

    def _item(self, item_id: str, price: str, quantity: int | None) -> Json:
        item: Json = {
            "id": f"{item_id}{self.name}",
            "object": "subscription_item",
            "price": {"id": price, "object": "price"},
            "current_period_end": STARTED + 30 * 86400,
        }
        return item if quantity is None else {**item, "quantity": quantity}

    def _make_invoice(self, status: str) -> Json:
        assert self.subscription is not None
        invoice_id = f"in_{self.name}{len(self.invoices)}"
        details = {"subscription_details": {"subscription": self.subscription["id"]}}
        lines = [
            {"id": "il_seats", "amount": 2500, "pricing": {"price_details": {"price": PRICE}}},
            {"id": "il_usage", "amount": 120, "pricing": {"price_details": {"price": USAGE_PRICE}}},
        ]
        self.invoices[invoice_id] = {
            "id": invoice_id,
            "object": "invoice",
            "customer": self.customer_id,
            "parent": {"type": "subscription_details", **details},
            "number": f"K-{len(self.invoices)}",
            "status": status,
            "currency": "usd",
            "total": 2620,
            "amount_remaining": 0 if status == "paid" else 2620,
            "created": STARTED + len(self.invoices),
            "hosted_invoice_url": "https://invoice.stripe.com/i/acct_1/test",
            "lines": {"object": "list", "data": lines},
        }
        return self.invoices[invoice_id]

    def _event(self, kind: str, found: Json) -> bytes:
        self._events += 1
        event = {
            "id": f"evt_{self.name}{self._events}",
            "object": "event",
            "api_version": "2026-10-28.endive",
            "created": STARTED + self._events,
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": kind,
            "data": {"object": found},
        }
        return json.dumps(event).encode()

    # What is read.

    async def read_checkout(self, session_id: str) -> CheckoutReading | None:
        found = copy.deepcopy(self.sessions[session_id])
        payment = found["payment_intent"]
        refunds = [one for one in self.refunds if one["payment_intent"] == payment]
        disputes = [one for one in self.disputes if one["payment_intent"] == payment]
        return shapes.checkout(found, refunds, disputes)

    async def find_paid(self, kind: ObjectKind, object_id: str) -> list[tuple[ObjectKind, str]]:
        if kind is ObjectKind.CHARGE:
            paid = object_id.removeprefix("ch_")
        else:
            listed = self.refunds if kind is ObjectKind.REFUND else self.disputes
            found = next(one for one in listed if one["id"] == object_id)
            paid = str(found["payment_intent"]).removeprefix("pi_")
        return [(ObjectKind.INVOICE if paid in self.invoices else ObjectKind.CHECKOUT, paid)]

    async def read_subscription(self, subscription_id: str) -> SubscriptionReading | None:
        assert self.subscription is not None
        return shapes.subscription(self.subscription, {PRICE: Plan.PRO}, USAGE_PRICE)

    async def read_invoice(self, invoice_id: str) -> InvoiceReading | None:
        notes = [one for one in self.notes if one["invoice"] == invoice_id]
        refunds = [one for one in self.refunds if one["payment_intent"] == f"pi_{invoice_id}"]
        disputes = [one for one in self.disputes if one["payment_intent"] == f"pi_{invoice_id}"]
        return shapes.invoice(self.invoices[invoice_id], USAGE_PRICE, notes, refunds, disputes)

    async def read_customer(self, customer_id: str) -> CustomerReading | None:
        return shapes.customer(self.customer, self.tax_ids)


def sign(body: bytes, secret: str = SECRET, at: int | None = None) -> str:
    """The header that Stripe would send along."""
    return stripe.WebhookSignature.generate_signature_header(body.decode(), secret, at)
