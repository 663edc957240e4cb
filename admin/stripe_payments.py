"""Payments by Stripe, through its official library.

The library blocks, so each call runs in a thread, `CALLS_MAX` at once; and whoever waits goes on after
`CALL_SECONDS_MAX` whatever the network does, while the thread ends by the socket's own limits. The library
tries again by itself what may be tried again, under the same idempotency key. No proxies and no `.netrc`
from the environment, no redirects, and nothing about our requests for Stripe's statistics.

Errors are told by kind, code and Stripe's request id; their texts are left out, since they may quote what
was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import requests
import stripe
import trio

from admin import stripe_shapes as shapes
from admin.payments import PaymentPage, PaymentsError, PaymentsRefused, PaymentsUnavailable, Visit
from admin.stripe_settings import StripeSettings
from storage.model import Plan
from storage.stripe_objects import (
    CheckoutReading,
    CustomerReading,
    InvoiceReading,
    ObjectKind,
    SubscriptionReading,
)

CALLS_MAX: Final = 8
"""Far below Stripe's own limit of a hundred a second."""
CONNECT_SECONDS_MAX: Final = 5.0
READ_SECONDS_MAX: Final = 15.0
RETRIES_MAX: Final = 2
CALL_SECONDS_MAX: Final = 50.0
LISTED_MAX: Final = 100
CURRENCY: Final = "usd"
T = TypeVar("T")

# The library's own record of how long requests took, sent along with the next.
stripe.enable_telemetry = False


class StripePayments:
    """Made once a process, by `connect`."""

    is_set_up = True

    def __init__(self, settings: StripeSettings) -> None:
        if settings.stripe_api_key is None:
            raise ValueError("there are no payments without a key")
        self._settings = settings
        self._plans = dict.fromkeys(settings.stripe_price_pro, Plan.PRO) | dict.fromkeys(
            settings.stripe_price_enterprise, Plan.ENTERPRISE
        )
        self._limiter = trio.CapacityLimiter(CALLS_MAX)
        session = requests.Session()
        session.trust_env = False
        session.max_redirects = 0
        self._client = stripe.StripeClient(
            settings.stripe_api_key.get_secret_value(),
            base_addresses={"api": settings.stripe_api_base},
            max_network_retries=RETRIES_MAX,
            http_client=stripe.RequestsClient(
                timeout=(CONNECT_SECONDS_MAX, READ_SECONDS_MAX), session=session
            ),
        ).v1

    def __repr__(self) -> str:
        return f"<StripePayments at {self._settings.stripe_api_base}>"

    @property
    def sells_pro(self) -> bool:
        return bool(self._settings.stripe_price_pro)

    async def create_customer(self, org_id: UUID, name: str, email: str, key: str) -> str:
        params: Any = {"name": name, "email": email, "metadata": {"karta_org_id": str(org_id)}}
        found = await self._ask(lambda: self._client.customers.create(params, {"idempotency_key": key}))
        return str(found["id"])

    async def open_subscription(self, visit: Visit, seats: int) -> PaymentPage:
        items: list[dict[str, object]] = [{"price": self._settings.stripe_price_pro[0], "quantity": seats}]
        if self._settings.stripe_price_usage is not None:
            items.append({"price": self._settings.stripe_price_usage})
        reference = {"karta_checkout_id": str(visit.checkout_id)}
        return await self._open(
            visit, mode="subscription", line_items=items, subscription_data={"metadata": reference}
        )

    async def open_top_up(self, visit: Visit, cents: int) -> PaymentPage:
        price = {"currency": CURRENCY, "unit_amount": cents, "product_data": {"name": "Karta credit"}}
        return await self._open(
            visit,
            mode="payment",
            line_items=[{"price_data": price, "quantity": 1}],
            invoice_creation={"enabled": True},
        )

    async def _open(self, visit: Visit, **what: object) -> PaymentPage:
        params: Any = {
            "customer": visit.customer_id,
            "client_reference_id": str(visit.checkout_id),
            "success_url": visit.done_url,
            "cancel_url": visit.back_url,
            "expires_at": int(visit.ends_at.timestamp()),
            "tax_id_collection": {"enabled": True},
            # What Stripe asks for with tax ids: the name and address on invoices.
            "customer_update": {"name": "auto", "address": "auto"},
            "billing_address_collection": "required",
            **what,
        }
        found = await self._ask(
            lambda: self._client.checkout.sessions.create(params, {"idempotency_key": visit.key})
        )
        if found.get("status", "open") != "open" or not found.get("url"):
            raise PaymentsRefused("that visit to the payment page is over")
        return PaymentPage(found["id"], self._require_page(found["url"]))

    async def read_page(self, session_id: str) -> PaymentPage | None:
        found = await self._read(lambda: self._client.checkout.sessions.retrieve(session_id))
        if found is None or found.get("status") != "open" or not found.get("url"):
            return None
        return PaymentPage(session_id, self._require_page(found["url"]))

    async def open_portal(self, customer_id: str, back_url: str) -> str:
        params: Any = {"customer": customer_id, "return_url": back_url}
        found = await self._ask(lambda: self._client.billing_portal.sessions.create(params))
        return self._require_page(found["url"])

    def _require_page(self, url: object) -> str:
        """People are sent nowhere else."""
        if not any(str(url).startswith(f"{origin}/") for origin in self._settings.stripe_pages):
            raise PaymentsRefused("Stripe names a page that is not among KARTA_STRIPE_PAGES")
        return str(url)

    async def end_subscription(self, subscription_id: str, *, at_period_end: bool | None) -> None:
        if at_period_end is None:
            await self._ask(lambda: self._client.subscriptions.cancel(subscription_id))
            return
        params: Any = {"cancel_at_period_end": at_period_end}
        await self._ask(lambda: self._client.subscriptions.update(subscription_id, params))

    async def set_seats(self, subscription_id: str, item_id: str, seats: int, key: str) -> None:
        # What is left of the period is charged or credited: Stripe's default.
        params: Any = {"items": [{"id": item_id, "quantity": seats}]}
        await self._ask(
            lambda: self._client.subscriptions.update(subscription_id, params, {"idempotency_key": key})
        )

    async def report_usage(self, identifier: UUID, customer_id: str, value: int, at: datetime) -> None:
        params: Any = {
            "event_name": self._settings.stripe_meter_event or "",
            "identifier": str(identifier),
            "timestamp": int(at.timestamp()),
            "payload": {"stripe_customer_id": customer_id, "value": str(value)},
        }
        options: Any = {"idempotency_key": f"karta-meter-{identifier}"}
        try:
            await self._ask(lambda: self._client.billing.meter_events.create(params, options))
        except PaymentsRefused as error:
            # Sent before, by somebody who died before they could note it.
            if "identifier" not in str(error):
                raise

    async def sum_usage(self, customer_id: str, since: datetime, until: datetime) -> int:
        meter = self._settings.stripe_meter_id
        if meter is None:
            raise PaymentsError("set KARTA_STRIPE_METER_ID")
        params: Any = {
            "customer": customer_id,
            "start_time": int(since.timestamp()),
            "end_time": int(until.timestamp()),
            "limit": 1,
        }
        found = await self._ask(lambda: self._client.billing.meters.event_summaries.list(meter, params))
        return sum(int(one["aggregated_value"]) for one in found["data"])

    async def read_checkout(self, session_id: str) -> CheckoutReading | None:
        found = await self._read(lambda: self._client.checkout.sessions.retrieve(session_id))
        if found is None:
            return None
        payment: Any = found.get("payment_intent")
        if found.get("mode") != "payment" or not payment:
            return shapes.checkout(found, (), ())
        gone_back = await self._went_back(payment if isinstance(payment, str) else payment["id"])
        return shapes.checkout(found, *gone_back)

    async def find_paid(self, kind: ObjectKind, object_id: str) -> list[tuple[ObjectKind, str]]:
        read: dict[ObjectKind, Callable[[], Any]] = {
            ObjectKind.CHARGE: lambda: self._client.charges.retrieve(object_id),
            ObjectKind.REFUND: lambda: self._client.refunds.retrieve(object_id),
            ObjectKind.DISPUTE: lambda: self._client.disputes.retrieve(object_id),
        }
        found = await self._read(read[kind])
        payment = None if found is None else found.get("payment_intent")
        if not payment:
            return []
        intent = payment if isinstance(payment, str) else payment["id"]
        visits: Any = {"payment_intent": intent, "limit": 1}
        listed = await self._ask(lambda: self._client.checkout.sessions.list(visits))
        if listed["data"]:
            return [(ObjectKind.CHECKOUT, str(listed["data"][0]["id"]))]
        by: Any = {"payment": {"type": "payment_intent", "payment_intent": intent}, "limit": LISTED_MAX}
        paid = await self._ask(lambda: self._client.invoice_payments.list(by))
        return [(ObjectKind.INVOICE, one) for one in shapes.invoices_of(paid["data"])]

    async def read_subscription(self, subscription_id: str) -> SubscriptionReading | None:
        found = await self._read(lambda: self._client.subscriptions.retrieve(subscription_id))
        usage_price = self._settings.stripe_price_usage
        return None if found is None else shapes.subscription(found, self._plans, usage_price)

    async def read_invoice(self, invoice_id: str) -> InvoiceReading | None:
        found = await self._read(lambda: self._client.invoices.retrieve(invoice_id))
        if found is None:
            return None
        if (found.get("lines") or {}).get("has_more"):
            page: Any = {"limit": LISTED_MAX}
            found["lines"] = await self._ask(lambda: self._client.invoices.line_items.list(invoice_id, page))
        price = self._settings.stripe_price_usage
        if found.get("status") == "draft" or not shapes.usage_lines(found, price):
            # Only usage is in the ledger.
            return shapes.invoice(found, price)
        of_invoice: Any = {"invoice": invoice_id, "limit": LISTED_MAX}
        notes = await self._ask(lambda: self._client.credit_notes.list(of_invoice))
        paid = await self._ask(lambda: self._client.invoice_payments.list(of_invoice))
        refunds, disputes = [], []
        for intent in shapes.payments_of(paid["data"]):
            gone_back = await self._went_back(intent)
            refunds += gone_back[0]
            disputes += gone_back[1]
        return shapes.invoice(found, price, notes["data"], refunds, disputes)

    async def _went_back(self, intent: str) -> tuple[list[Any], list[Any]]:
        """The refunds and disputes of a payment."""
        params: Any = {"payment_intent": intent, "limit": LISTED_MAX}
        refunds = await self._ask(lambda: self._client.refunds.list(params))
        disputes = await self._ask(lambda: self._client.disputes.list(params))
        return refunds["data"], disputes["data"]

    async def read_customer(self, customer_id: str) -> CustomerReading | None:
        found = await self._read(lambda: self._client.customers.retrieve(customer_id))
        if found is None:
            return None
        if found.get("deleted"):
            return shapes.customer(found, ())
        listed = await self._ask(lambda: self._client.customers.tax_ids.list(customer_id))
        return shapes.customer(found, listed["data"])

    async def _read(self, call: Callable[[], Any]) -> dict[str, Any] | None:
        try:
            return await self._ask(call)
        except _Missing:
            return None

    async def _ask(self, call: Callable[[], Any]) -> dict[str, Any]:
        """Runs one call of the library in a thread. Raises `PaymentsUnavailable`, `PaymentsRefused`."""

        def run() -> dict[str, Any]:
            found: dict[str, Any] = call().to_dict()
            return found

        try:
            with trio.fail_after(CALL_SECONDS_MAX):
                return await trio.to_thread.run_sync(run, limiter=self._limiter, abandon_on_cancel=True)
        except trio.TooSlowError:
            raise PaymentsUnavailable(f"Stripe did not answer within {CALL_SECONDS_MAX:g} s") from None
        except stripe.StripeError as error:
            raise _translate(error) from None


class _Missing(PaymentsRefused):
    """There is no such object."""


def _translate(error: stripe.StripeError) -> PaymentsError:
    told = ", ".join(
        f"{name} {value}"
        for name, value in (
            ("status", error.http_status),
            ("code", error.code),
            ("parameter", getattr(error, "param", None)),
            ("request", error.request_id),
        )
        if value
    )
    text = f"Stripe: {type(error).__name__}" + (f" ({told})" if told else "")
    status = error.http_status or 0
    if isinstance(error, stripe.APIConnectionError) or status in (0, 409, 429) or status >= 500:
        return PaymentsUnavailable(text)
    if status == 404 or error.code == "resource_missing":
        return _Missing(text)
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        # The settings will be put right; what waits should still be there then.
        return PaymentsUnavailable(f"{text}: is KARTA_STRIPE_API_KEY right, and may it do this?")
    return PaymentsRefused(text)
