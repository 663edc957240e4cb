"""Visits to Stripe's payment page: begun once, and what came of them.

A visit's id is the key by which Stripe makes its page, so who clicks twice, or whose program died in
between, comes to the same page. An organization has one open visit for a subscription at a time: two tabs
are one purchase.

What was paid, and what went back, is kept as a sum. When a reading shows another sum, the difference goes to
the ledger in the same transaction: so a payment is credited once, however often it is told, and a
refund that is told before its payment is there when the payment is.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from storage import audit, ledger
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import Conflict
from storage.ledger import Account, EntryKind
from storage.model import Actor
from storage.queries import Queries, Record
from storage.stripe_customers import lock_owner
from storage.stripe_objects import CheckoutReading, CheckoutState

PICODOLLARS_PER_CENT: Final = 10**10
SESSION_LIFE = timedelta(hours=23)
"""An older visit is begun anew, and its page cannot be paid any more: of two, both could be. Less than a day,
after which Stripe ends a page at the latest, and forgets keys."""
KEPT = timedelta(days=90)
CLEARED_ROWS_MAX = 1000
LOOKED_AT_MAX = 100
LOOK_AFTER = timedelta(minutes=15)
SUBSCRIPTION: Final = "subscription"
TOP_UP: Final = "top_up"
_COLUMNS = (
    "checkout_id, org_id, purpose, amount_cents, session_id, state, paid_cents, refunded_cents, created_at"
)


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    checkout_id: UUID
    org_id: UUID
    purpose: str
    amount_cents: int | None
    session_id: str | None
    state: CheckoutState
    paid_cents: int
    refunded_cents: int
    created_at: datetime

    @property
    def idempotency_key(self) -> str:
        """By which Stripe makes its page once."""
        return f"karta-checkout-{self.checkout_id}"

    @property
    def ends_at(self) -> datetime:
        return self.created_at + SESSION_LIFE


async def begin_checkout(
    db: Database, actor: Actor, org_id: UUID, checkout_id: UUID, *, top_up_cents: int | None = None
) -> Checkout:
    """The visit of that id, made where there is none; for a subscription the one that is open, if any is.

    `checkout_id` comes with the form, so a form that is sent twice is one visit. Raises Conflict where
    the organization subscribes already, or the id is another's.
    """
    async with db.transaction() as tx:
        # One at a time, so that of two tabs the second sees what the first has begun.
        await tx.fetch_value("SELECT org_id FROM stripe_customers WHERE org_id = $1 FOR UPDATE", org_id)
        known = await _select(tx, "checkout_id = $1", checkout_id)
        if known is None and top_up_cents is None:
            await _require_none(tx, org_id)
            known = await _select_open(tx, org_id)
        if known is not None:
            if (known.org_id, known.amount_cents) != (org_id, top_up_cents):
                raise Conflict("that form was used for something else: open the page anew")
            return known
        row = await tx.fetch_row(
            f"INSERT INTO stripe_checkouts (checkout_id, org_id, purpose, amount_cents)"  # noqa: S608
            f" VALUES ($1, $2, $3, $4) RETURNING {_COLUMNS}",
            checkout_id,
            org_id,
            SUBSCRIPTION if top_up_cents is None else TOP_UP,
            top_up_cents,
        )
        assert row is not None
        details = {"purpose": row["purpose"]} | ({"cents": top_up_cents} if top_up_cents else {})
        await audit.record(tx, actor, Event.PAYMENT_CHECKOUT_BEGUN, org_id, str(checkout_id), details)
        return _to_checkout(row)


async def _require_none(tx: Transaction, org_id: UUID) -> None:
    if await tx.fetch_value(
        "SELECT true FROM stripe_subscriptions WHERE org_id = $1 AND plan IS NOT NULL"
        " AND status IN ('active', 'trialing', 'past_due', 'unpaid', 'paused')",
        org_id,
    ):
        raise Conflict("the organization has a subscription")


async def _select_open(tx: Transaction, org_id: UUID) -> Checkout | None:
    found = await _select(tx, f"org_id = $1 AND purpose = '{SUBSCRIPTION}' AND state = 'open'", org_id)
    if found is None:
        return None
    fresh = await tx.fetch_value(
        "SELECT created_at > now() - $2::interval FROM stripe_checkouts WHERE checkout_id = $1",
        found.checkout_id,
        SESSION_LIFE,
    )
    if fresh:
        return found
    await tx.execute(
        "UPDATE stripe_checkouts SET state = 'expired' WHERE checkout_id = $1", found.checkout_id
    )
    return None


async def keep_session(db: Queries, checkout_id: UUID, session_id: str) -> None:
    """What Stripe calls the visit. The same again changes nothing."""
    await db.execute(
        "UPDATE stripe_checkouts SET session_id = $2 WHERE checkout_id = $1 AND session_id IS NULL",
        checkout_id,
        session_id,
    )


async def select_checkout(db: Queries, org_id: UUID, checkout_id: UUID) -> Checkout | None:
    return await _select(db, "checkout_id = $1 AND org_id = $2", checkout_id, org_id)


async def apply_checkout(tx: Transaction, actor: Actor, reading: CheckoutReading, number: int) -> UUID | None:
    """Puts in what was read of a visit, unless something newer was; money goes to the ledger. Returns whose
    it is."""
    org_id = await lock_owner(tx, reading.customer_id)
    row = await tx.fetch_row(
        f"""
        SELECT reading, {_COLUMNS} FROM stripe_checkouts
         WHERE session_id = $1 OR (session_id IS NULL AND checkout_id = $2)
           FOR UPDATE
        """,  # noqa: S608
        reading.session_id,
        reading.checkout_id,
    )
    if row is None or (org_id is not None and row["org_id"] != org_id):
        return None
    before = _to_checkout(row)
    if row["reading"] >= number:
        return before.org_id
    paid = max(reading.paid_cents, 0) if before.purpose == TOP_UP else 0
    refunded = min(max(reading.refunded_cents, 0), paid)
    await tx.execute(
        "UPDATE stripe_checkouts SET state = $2, paid_cents = $3, refunded_cents = $4, reading = $5,"
        " session_id = $6 WHERE checkout_id = $1",
        before.checkout_id,
        reading.state.value,
        paid,
        refunded,
        number,
        reading.session_id,
    )
    source = f"stripe:{reading.session_id}:{number}"
    await _post(tx, before.org_id, EntryKind.TOP_UP, Account.STRIPE, paid - before.paid_cents, source)
    gone = refunded - before.refunded_cents
    await _post(tx, before.org_id, EntryKind.REFUND, Account.REFUNDS, -gone, f"{source}:refund")
    if (before.state, before.paid_cents, before.refunded_cents) != (reading.state, paid, refunded):
        details: dict[str, object] = {"purpose": before.purpose, "state": reading.state.value}
        details |= {"paid_cents": paid, "refunded_cents": refunded} if before.purpose == TOP_UP else {}
        await audit.record(
            tx, actor, Event.PAYMENT_CHECKOUT_CHANGED, before.org_id, str(before.checkout_id), details
        )
    return before.org_id


async def _post(
    tx: Transaction, org_id: UUID, kind: EntryKind, account: Account, cents: int, source: str
) -> None:
    """This has happened, so no rule stops it: a refund may take more than there is, and one that failed is
    taken back."""
    if cents:
        picodollars = cents * PICODOLLARS_PER_CENT
        entries = {Account.CREDIT: picodollars, account: -picodollars}
        await ledger.post(tx, org_id, kind, source, entries)


async def clear_checkouts(db: Queries) -> int:
    """Lets go visits that came to nothing long ago; returns how many."""
    status = await db.execute(
        """
        DELETE FROM stripe_checkouts
         WHERE checkout_id IN (SELECT checkout_id FROM stripe_checkouts
                                WHERE (state = 'expired' OR session_id IS NULL) AND paid_cents = 0
                                  AND created_at < now() - $1::interval
                                LIMIT $2
                                  FOR UPDATE SKIP LOCKED)
        """,
        KEPT,
        CLEARED_ROWS_MAX,
    )
    return int(status.rsplit(" ", 1)[-1])


async def look_again(db: Queries) -> int:
    """Has what may have changed unheard read once more, as if an event had told of it: visits that are open
    for a while, once an hour, and subscriptions, once a day. Returns how many are new."""
    status = await db.execute(
        """
        INSERT INTO stripe_events (event_id, kind, object_kind, object_id, happened_at)
        (SELECT 'look_' || session_id || to_char(now() AT TIME ZONE 'UTC', '_YYYYMMDDHH24'), 'karta.look',
                'checkout', session_id, now()
           FROM stripe_checkouts
          WHERE state IN ('open', 'paying') AND session_id IS NOT NULL AND created_at < now() - $2::interval
          ORDER BY created_at LIMIT $1)
        UNION ALL
        (SELECT 'look_' || subscription_id || to_char(now() AT TIME ZONE 'UTC', '_YYYYMMDD'), 'karta.look',
                'subscription', subscription_id, now()
           FROM stripe_subscriptions s
          WHERE ended_at IS NULL
            AND NOT EXISTS (SELECT FROM stripe_events e WHERE e.event_id =
                            'look_' || s.subscription_id || to_char(now() AT TIME ZONE 'UTC', '_YYYYMMDD'))
          LIMIT $1)
        ON CONFLICT (event_id) DO NOTHING
        """,
        LOOKED_AT_MAX,
        LOOK_AFTER,
    )
    return int(status.rsplit(" ", 1)[-1])


async def _select(db: Queries, condition: str, *args: object) -> Checkout | None:
    row = await db.fetch_row(
        f"SELECT {_COLUMNS} FROM stripe_checkouts WHERE {condition}",  # noqa: S608
        *args,
    )
    return None if row is None else _to_checkout(row)


def _to_checkout(row: Record) -> Checkout:
    names = Checkout.__struct_fields__
    return Checkout(**{**{name: row[name] for name in names}, "state": CheckoutState(row["state"])})
