"""Where Stripe tells what happened: `POST /webhooks/stripe`.

Nobody signs in here and no cookie counts; what proves an event is Stripe's signature over the bytes, made
within the last five minutes with a secret that only Stripe and we know. In production the address must be
one of Stripe's as well. Nothing is done here but keeping the event and waking who does it, so the answer is
quick, and 200 means kept. Everything else is answered with a status alone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import stripe
from quart import Blueprint, request
from quart.typing import ResponseReturnValue

from admin import client_address
from admin.services import services
from storage.stripe_events import NamedEvent, store_event
from storage.stripe_objects import ObjectKind

PATH: Final = "/webhooks/stripe"
BODY_BYTES_MAX: Final = 1024 * 1024
"""The largest events, invoices with hundreds of lines, are some hundred kilobytes."""
TOLERANCE_SECONDS: Final = 300
HEADER_CHARS_MAX: Final = 2048
_ID = re.compile(r"[0-9A-Za-z_]{1,255}")
_KINDS: Final = (
    ("checkout.session.", ObjectKind.CHECKOUT),
    ("customer.subscription.", ObjectKind.SUBSCRIPTION),
    ("invoice.", ObjectKind.INVOICE),
    ("invoice_payment.", ObjectKind.INVOICE),
    ("credit_note.", ObjectKind.INVOICE),
    ("customer.tax_id.", ObjectKind.CUSTOMER),
    ("customer.updated", ObjectKind.CUSTOMER),
    ("customer.deleted", ObjectKind.CUSTOMER),
    ("charge.dispute.", ObjectKind.DISPUTE),
    ("charge.refund.", ObjectKind.REFUND),
    ("refund.", ObjectKind.REFUND),
    ("charge.refunded", ObjectKind.CHARGE),
)
"""Which events are kept, by how their names begin; the rest is nothing to us. Also what to subscribe to at
Stripe."""
_OWNERS: Final = {"customer.tax_id.": "customer", "invoice_payment.": "invoice", "credit_note.": "invoice"}
"""Events of what hangs on something else: that is what is read."""

blueprint = Blueprint("stripe_webhook", __name__)
_log = logging.getLogger("karta.admin")


@blueprint.post(PATH)
async def take() -> ResponseReturnValue:
    settings = services().settings
    secrets = settings.webhook_secrets()
    if not secrets:
        return "", 404
    body = await request.get_data(cache=False)
    if not is_signed(body, request.headers.get("Stripe-Signature", ""), secrets):
        return "", 400
    address = client_address.address(request, settings.trusted_proxies)
    if settings.env == "production" and address not in services().stripe_addresses:
        # Somebody should look: the list is old, or a secret is known to somebody.
        _log.error("a rightly signed event came from %s, which is not an address of Stripe's", address)
        return "", 403
    try:
        told = msgspec.json.decode(body)
        event = read_event(told, live=settings.stripe_is_live)
    except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError):
        return "", 400
    if event is not None and await store_event(services().db, event):
        services().wake_payments()
    return "", 200


def is_signed(body: str | bytes, header: str, secrets: tuple[str, ...]) -> bool:
    """Whether the header is Stripe's signature of these bytes, by any of the secrets, and not too old."""
    if len(header) > HEADER_CHARS_MAX:
        return False
    return any(_matches(body, header, secret) for secret in secrets)


def _matches(body: str | bytes, header: str, secret: str) -> bool:
    try:
        return bool(stripe.WebhookSignature.verify_header(body, header, secret, TOLERANCE_SECONDS))
    except (stripe.SignatureVerificationError, UnicodeDecodeError):
        return False


def read_event(told: dict[str, Any], *, live: bool) -> NamedEvent | None:
    """What an event names; None for one that is nothing to us.

    Raises ValueError, TypeError, KeyError for what is no event.
    """
    kind = told["type"]
    if told["object"] != "event" or bool(told["livemode"]) is not live:
        # Of the test mode where money is real, or the other way round.
        return None
    object_kind = next(_kinds_of(kind), None)
    if object_kind is None:
        return None
    named = told["data"]["object"]
    field = next((field for beginning, field in _OWNERS.items() if kind.startswith(beginning)), "id")
    object_id = named.get(field)
    if object_id is None:
        return None  # an invoice's preview
    for one in (told["id"], object_id):
        if not _ID.fullmatch(one):
            raise ValueError("no id of Stripe's")
    return NamedEvent(
        event_id=told["id"],
        kind=kind[:100],
        object_kind=object_kind,
        object_id=object_id,
        happened_at=datetime.fromtimestamp(int(told["created"]), UTC),
    )


def _kinds_of(kind: str) -> Iterator[ObjectKind]:
    for beginning, object_kind in _KINDS:
        if kind.startswith(beginning):
            yield object_kind
