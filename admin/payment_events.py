"""Does what Stripe's events ask for: reads what each names, and puts in what was read.

The life of an event
    1. The webhook keeps it (`storage.stripe_events`), answers 200, and wakes this.
    2. `do_next` claims it: nobody else has it until the claim runs out.
    3. A reading is begun (`begin_reading` gives its number), and Stripe is asked; no transaction is open
       meanwhile.
    4. One transaction puts in what was read, with all that follows, and marks the event done.

A crash between any two statements leaves the event claimed, and it is done again. Doing it twice, or after a
later one, changes nothing: readings are put in by their numbers (migrations/0029_stripe.sql).
"""

from __future__ import annotations

import logging
from uuid import UUID

import trio

from admin.payments import Payments, PaymentsError
from storage import error_reports
from storage.bridge import Database, Transaction
from storage.errors import StorageError
from storage.fault_place import describe
from storage.model import Actor, ActorKind
from storage.stripe_checkouts import apply_checkout
from storage.stripe_customers import apply_customer
from storage.stripe_events import KeptEvent, claim_event, finish_event, put_off
from storage.stripe_invoices import apply_invoice
from storage.stripe_objects import (
    CheckoutReading,
    CustomerReading,
    InvoiceReading,
    ObjectKind,
    SubscriptionReading,
    begin_reading,
)
from storage.stripe_subscriptions import apply_subscription

ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="stripe")
POLL_SECONDS = 5.0
"""How soon is found what another process was told."""
NOT_OURS = "not of a customer of this installation"
GONE = "Stripe has no such object"
ODD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What taking an answer apart raises where it is not as it was."""
Reading = CheckoutReading | CustomerReading | InvoiceReading | SubscriptionReading
_log = logging.getLogger("karta.admin")


class PaymentEvents:
    """The worker of one process. Any number of them may run."""

    def __init__(self, db: Database, payments: Payments) -> None:
        self._db = db
        self._payments = payments
        self._told = trio.Event()

    def wake(self) -> None:
        """There is an event."""
        self._told.set()

    async def run(self) -> None:
        """For ever; cancel it to stop. What the database cannot do now is done later."""
        while True:
            self._told = trio.Event()
            try:
                while await self.do_next():
                    pass
            except StorageError as error:
                _log.warning("Stripe's events wait: %s", error)
            with trio.move_on_after(POLL_SECONDS):
                await self._told.wait()

    async def do_next(self) -> bool:
        """Does the event that waits longest; false when none is due."""
        event = await claim_event(self._db)
        if event is None:
            return False
        try:
            await self._do(event)
        except PaymentsError as error:
            await self._put_off(event, str(error))
        except StorageError as error:
            # Its own fault or the database's: either way somebody else may have more luck, later.
            await self._put_off(event, f"{type(error).__name__}: {error}")
        except ODD as error:
            # Stripe answered in a form that nobody foresaw: that must not end this process, again and again.
            error_reports.report(error, {"place": _log.name})
            await self._put_off(event, describe(error))
        return True

    async def _put_off(self, event: KeptEvent, problem: str) -> None:
        if not await put_off(self._db, event, problem):
            _log.error("Stripe's event %s was given up: %s", event.event_id, problem)

    async def _do(self, event: KeptEvent) -> None:
        readings = await self.read(event.object_kind, event.object_id)
        async with self._db.transaction() as tx:
            org_id: UUID | None = None
            for number, reading in readings:
                org_id = await put_in(tx, reading, number) or org_id
            note = None if org_id else NOT_OURS if readings else GONE
            await finish_event(tx, event.event_id, org_id, note)

    async def read(self, kind: ObjectKind, object_id: str) -> list[tuple[int, Reading]]:
        """What an event names, and what hangs on it, as it is now; each with the number of its reading."""
        number = await begin_reading(self._db)
        if kind is ObjectKind.CUSTOMER:
            return _numbered(number, await self._payments.read_customer(object_id))
        if kind is ObjectKind.SUBSCRIPTION:
            return _numbered(number, await self._payments.read_subscription(object_id))
        if kind is ObjectKind.INVOICE:
            invoice = await self._payments.read_invoice(object_id)
            # Whether its payment failed shows in the subscription.
            also = invoice.subscription_id if invoice else None
            return _numbered(number, invoice, await self._read_subscription(also))
        if kind is ObjectKind.CHECKOUT:
            checkout = await self._payments.read_checkout(object_id)
            also = checkout.subscription_id if checkout else None
            return _numbered(number, checkout, await self._read_subscription(also))
        paid = await self._payments.find_paid(kind, object_id)
        return [reading for found in paid for reading in await self.read(*found)]

    async def _read_subscription(self, subscription_id: str | None) -> SubscriptionReading | None:
        return await self._payments.read_subscription(subscription_id) if subscription_id else None


def _numbered(number: int, *readings: Reading | None) -> list[tuple[int, Reading]]:
    return [(number, reading) for reading in readings if reading is not None]


async def put_in(tx: Transaction, reading: Reading, number: int) -> UUID | None:
    """Makes what was read the state here, unless something newer is. Returns whose it is."""
    if isinstance(reading, SubscriptionReading):
        return await apply_subscription(tx, ACTOR, reading, number)
    if isinstance(reading, InvoiceReading):
        return await apply_invoice(tx, ACTOR, reading, number)
    if isinstance(reading, CheckoutReading):
        return await apply_checkout(tx, ACTOR, reading, number)
    return await apply_customer(tx, ACTOR, reading, number)
