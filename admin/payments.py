"""What Karta asks of whoever takes payments, and the one that takes none.

A port of a dozen verbs. `StripePayments` (`admin.stripe_payments`) asks Stripe; `no_payments()` is there
where Stripe is not set up, and everything else works: pages say that payments are not set up here, and staff
give plans.

Each `read_…` returns the object as it is now, or None where it is not there (any more). Each verb that makes
or changes something takes a key, and the same key does the same thing once.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Protocol, cast
from uuid import UUID

from storage.stripe_objects import (
    CheckoutReading,
    CustomerReading,
    InvoiceReading,
    ObjectKind,
    SubscriptionReading,
)


class PaymentsError(Exception):
    """Something about payments did not work. The text is for logs, and holds no secret."""


class NotSetUp(PaymentsError):
    """There is nobody who takes payments."""


class PaymentsUnavailable(PaymentsError):
    """Stripe cannot be reached, or has trouble. Trying again later may help."""


class PaymentsRefused(PaymentsError):
    """Stripe does not take what was asked. Trying again does not help."""


class PaymentPage(NamedTuple):
    """A page of Stripe's to send a person to."""

    session_id: str
    url: str


class Visit(NamedTuple):
    """What a payment page is for."""

    checkout_id: UUID
    customer_id: str
    key: str
    """Idempotency key."""
    done_url: str
    back_url: str
    ends_at: datetime
    """From then on the page is of no use."""


class Payments(Protocol):
    @property
    def is_set_up(self) -> bool: ...

    @property
    def sells_pro(self) -> bool: ...

    async def create_customer(self, org_id: UUID, name: str, email: str, key: str) -> str:
        """Returns the customer's id."""

    async def open_subscription(self, visit: Visit, seats: int) -> PaymentPage: ...

    async def open_top_up(self, visit: Visit, cents: int) -> PaymentPage: ...

    async def read_page(self, session_id: str) -> PaymentPage | None:
        """A payment page that was opened before, while it is open."""

    async def open_portal(self, customer_id: str, back_url: str) -> str:
        """The URL of Stripe's page where cards, tax ids and the subscription are changed."""

    async def end_subscription(self, subscription_id: str, *, at_period_end: bool | None) -> None:
        """At the end of what is paid (True), not after all (False), or at once (None)."""

    async def set_seats(self, subscription_id: str, item_id: str, seats: int, key: str) -> None: ...

    async def report_usage(self, identifier: UUID, customer_id: str, value: int, at: datetime) -> None: ...

    async def sum_usage(self, customer_id: str, since: datetime, until: datetime) -> int:
        """What Stripe's meter has of a customer."""

    async def read_checkout(self, session_id: str) -> CheckoutReading | None: ...

    async def find_paid(self, kind: ObjectKind, object_id: str) -> list[tuple[ObjectKind, str]]:
        """What was paid by a charge, or by that of a refund or dispute: a visit, or invoices."""

    async def read_subscription(self, subscription_id: str) -> SubscriptionReading | None: ...

    async def read_invoice(self, invoice_id: str) -> InvoiceReading | None: ...

    async def read_customer(self, customer_id: str) -> CustomerReading | None: ...


class _NoPayments:
    is_set_up = False
    sells_pro = False

    def __getattr__(self, name: str) -> object:
        async def refuse(*_: object, **__: object) -> object:
            raise NotSetUp("Stripe is not set up: see KARTA_STRIPE_API_KEY")

        if name.startswith("_"):
            raise AttributeError(name)
        return refuse


def no_payments() -> Payments:
    """Where Stripe is not set up. Every verb raises `NotSetUp`."""
    return cast("Payments", _NoPayments())
