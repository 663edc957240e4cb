"""From Stripe's JSON to what Karta keeps of it. Pure, and tolerant of what is not there: Stripe's versions
move fields about (a period's end from the subscription to its items, an invoice's subscription below
`parent`), and each place is looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from storage.model import Plan
from storage.stripe_objects import (
    CheckoutReading,
    CheckoutState,
    CustomerReading,
    InvoiceReading,
    SubscriptionReading,
    TaxId,
)

PAGE_URL_CHARS_MAX = 2000
TAX_IDS_MAX = 20
_MONEY_IS_HERE = frozenset(
    {"won", "warning_closed", "warning_needs_response", "warning_under_review", "prevented"}
)
"""States of disputes in which nothing was taken."""

Json = Mapping[str, Any]


def subscription(found: Json, plans: Mapping[str, Plan], usage_price: str | None) -> SubscriptionReading:
    """`plans`: which price sells which plan."""
    items = list(_data(found.get("items")))
    seat_item = next((item for item in items if _price_of(item) in plans), None)
    ends = [_time(item.get("current_period_end")) for item in items]
    period_end = _time(found.get("current_period_end")) or max((end for end in ends if end), default=None)
    ends_at = _time(found.get("cancel_at")) or (period_end if found.get("cancel_at_period_end") else None)
    return SubscriptionReading(
        subscription_id=found["id"],
        customer_id=_id(found["customer"]) or "",
        status=str(found["status"]),
        plan=None if seat_item is None else plans[_price_of(seat_item) or ""],
        seat_item_id=None if seat_item is None else seat_item["id"],
        seats=0 if seat_item is None else int(seat_item.get("quantity") or 0),
        metered=usage_price is not None and any(_price_of(item) == usage_price for item in items),
        started_at=_time(found.get("start_date")) or _time(found.get("created")) or datetime.now(UTC),
        period_end=period_end,
        ends_at=ends_at,
        ended_at=_time(found.get("ended_at")),
    )


def invoice(
    found: Json,
    usage_price: str | None,
    notes: Collection[Json] = (),
    refunds: Collection[Json] = (),
    disputes: Collection[Json] = (),
) -> InvoiceReading:
    """An invoice with its credit notes, and the refunds and disputes of what paid it."""
    parent = (found.get("parent") or {}).get("subscription_details") or {}
    paid = found.get("status") == "paid"
    usage_paid, usage_refunded, usage_credited = _usage_of(found, usage_price, notes, refunds, disputes)
    page = found.get("hosted_invoice_url")
    return InvoiceReading(
        invoice_id=found["id"],
        customer_id=_id(found.get("customer")) or "",
        subscription_id=_id(parent.get("subscription")) or _id(found.get("subscription")),
        number=found.get("number"),
        status=str(found.get("status") or "draft"),
        currency=str(found.get("currency") or "usd"),
        total=int(found.get("total") or 0),
        due=int(found.get("amount_remaining") or 0) if not paid else 0,
        created_at=_time(found.get("created")) or datetime.now(UTC),
        usage_paid=usage_paid,
        usage_refunded=usage_refunded,
        usage_credited=usage_credited,
        # Shown as a link: nothing but https, and nothing odd.
        page_url=page if _is_link(page) else None,
    )


def usage_lines(found: Json, usage_price: str | None) -> dict[str, int]:
    """What an invoice asks for metered usage, by line."""
    return {
        str(line.get("id") or number): int(line.get("amount") or 0)
        for number, line in enumerate(_data(found.get("lines")))
        if usage_price is not None and _price_of(line) == usage_price
    }


def payments_of(paid: Collection[Json]) -> list[str]:
    """Of Stripe's invoice payments, what they were paid by."""
    found = (_id((one.get("payment") or {}).get("payment_intent")) for one in paid)
    return sorted({intent for intent in found if intent})


def invoices_of(paid: Collection[Json]) -> list[str]:
    """Of Stripe's invoice payments, what was paid by them."""
    return sorted({invoice for one in paid if (invoice := _id(one.get("invoice")))})


def _usage_of(
    found: Json,
    usage_price: str | None,
    notes: Collection[Json],
    refunds: Collection[Json],
    disputes: Collection[Json],
) -> tuple[int, int, int]:
    """Of an invoice's metered usage: what was paid, what of that went back, and what is not owed.

    A credit note says of which lines it is; its part of usage went back as far as its refunds stand, and what
    it put into the customer's balance or says was paid elsewhere. Of what went back without a note usage has
    the part that it has of the invoice.
    """
    lines = usage_lines(found, usage_price)
    usage = sum(lines.values())
    whole = sum(int(line.get("amount") or 0) for line in _data(found.get("lines")))
    standing = {str(one.get("id")): int(one.get("amount") or 0) for one in _standing(refunds)}
    loose = sum(standing.values()) + _disputed(disputes)
    before = after = returned = 0
    for note in notes:
        if note.get("status") == "void":
            continue
        part = sum(_usage_of_line(line, lines, usage, whole) for line in _data(note.get("lines")))
        amount, later = int(note.get("amount") or 0), int(note.get("post_payment_amount") or 0)
        own = part * later // amount if amount else 0
        before, after = before + part - own, after + own
        back = later
        for one in note.get("refunds") or ():
            stands = min(int(one.get("amount_refunded") or 0), standing.get(_id(one.get("refund")) or "", 0))
            back -= int(one.get("amount_refunded") or 0) - stands
            loose -= stands
        returned += own * max(back, 0) // later if later else 0
    credited = max(min(before + after, usage), 0)
    if found.get("status") != "paid":
        return 0, 0, credited
    paid, in_all = max(usage - before, 0), int(found.get("amount_paid") or found.get("total") or 0)
    if in_all > 0:
        returned += paid * max(min(loose, in_all), 0) // in_all
    return paid, max(min(returned, paid), 0), credited


def _usage_of_line(line: Json, lines: Mapping[str, int], usage: int, whole: int) -> int:
    """Of a line of a credit note."""
    amount = int(line.get("amount") or 0)
    if of_line := _id(line.get("invoice_line_item")):
        return amount if of_line in lines else 0
    return amount * usage // whole if whole > 0 else 0


def _standing(refunds: Collection[Json]) -> list[Json]:
    """Refunds that have not failed."""
    return [one for one in refunds if one.get("status") in ("succeeded", "pending")]


def _disputed(disputes: Collection[Json]) -> int:
    return sum(int(one.get("amount") or 0) for one in disputes if one.get("status") not in _MONEY_IS_HERE)


def checkout(found: Json, refunds: Collection[Json], disputes: Collection[Json]) -> CheckoutReading:
    """A visit with the refunds and disputes of its payment."""
    status, payment = found.get("status"), found.get("payment_status")
    if status == "expired":
        state = CheckoutState.EXPIRED
    elif status == "open":
        state = CheckoutState.OPEN
    else:
        state = CheckoutState.PAYING if payment == "unpaid" else CheckoutState.PAID
    topped_up = found.get("mode") == "payment" and state is CheckoutState.PAID
    gone = sum(int(one.get("amount") or 0) for one in _standing(refunds)) + _disputed(disputes)
    bought, total = int(found.get("amount_subtotal") or 0), int(found.get("amount_total") or 0)
    return CheckoutReading(
        session_id=found["id"],
        checkout_id=_uuid(found.get("client_reference_id")),
        customer_id=_id(found.get("customer")),
        state=state,
        subscription_id=_id(found.get("subscription")),
        # Without tax: credit is what was bought, not what was paid for it. And what goes back has its part of
        # the tax.
        paid_cents=bought if topped_up else 0,
        refunded_cents=(gone * bought // total if total > 0 else gone) if topped_up else 0,
    )


def customer(found: Json, tax_ids: Collection[Json]) -> CustomerReading:
    deleted = bool(found.get("deleted"))
    told = [
        TaxId(
            kind=str(one.get("type")),
            value=str(one.get("value"))[:100],
            verification=(one.get("verification") or {}).get("status"),
        )
        for one in tax_ids
    ]
    told.sort(key=lambda one: (one.kind, one.value))
    return CustomerReading(
        customer_id=found["id"], deleted=deleted, tax_ids=() if deleted else tuple(told[:TAX_IDS_MAX])
    )


def _price_of(item: Json) -> str | None:
    """Of an item of a subscription or a line of an invoice, in any version's place."""
    pricing = (item.get("pricing") or {}).get("price_details") or {}
    return _id(pricing.get("price")) or _id(item.get("price")) or _id(item.get("plan"))


def _data(listed: Any) -> Iterator[Json]:
    yield from (listed or {}).get("data", [])


def _id(value: Any) -> str | None:
    """An object may stand where its id could."""
    found = value.get("id") if isinstance(value, Mapping) else value
    return found if isinstance(found, str) and found else None


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        return None


def _time(seconds: Any) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, int | float) and seconds else None


def _is_link(url: Any) -> bool:
    return (
        isinstance(url, str)
        and url.startswith("https://")
        and len(url) <= PAGE_URL_CHARS_MAX
        and url.isprintable()
        and " " not in url
    )
