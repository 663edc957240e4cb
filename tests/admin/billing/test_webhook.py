"""Where Stripe tells what happened: what is kept, and what is refused."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio

from admin.billing.webhook import BODY_BYTES_MAX, PATH, is_signed, read_event
from storage.bridge import Database
from storage.stripe_events import select_events
from storage.stripe_objects import ObjectKind
from tests.admin.browsing import Visitor
from tests.admin.conftest import raw_exchange, running_admin
from tests.admin.test_transport import PRODUCTION
from tests.support.stripe_world import SECRET, StripeWorld, sign

OTHER = "whsec_the_one_before"
STRIPE = {
    "stripe_api_key": "sk_test_1",
    "stripe_webhook_secret": f"{SECRET},{OTHER}",
    # Nobody is there: what is told is kept all the same.
    "stripe_api_base": "http://127.0.0.1:9",
}


@pytest.fixture
async def visitor(database_url: str) -> AsyncIterator[Visitor]:
    async with running_admin(database_url, **STRIPE) as url, Visitor(url) as visitor:
        yield visitor


def event(**changes: Any) -> bytes:
    world = StripeWorld("one")
    body = world.subscribe(world.open_session("x"), 2)[0]
    return json.dumps({**json.loads(body), **changes}).encode()


async def tell(visitor: Visitor, body: bytes, signature: str | None = None, **headers: str) -> httpx.Response:
    headers["Stripe-Signature"] = sign(body) if signature is None else signature
    headers["Content-Type"] = "application/json; charset=utf-8"
    return await visitor.request("POST", PATH, content=body, headers=headers)


async def test_what_is_signed_is_kept_once(visitor: Visitor, admin_db: Database) -> None:
    body = event()
    for _ in range(3):
        answer = await tell(visitor, body)
        assert (answer.status_code, answer.text) == (200, "")
    (kept,) = await select_events(admin_db)
    assert (kept.kind, kept.object_id) == ("customer.subscription.created", "sub_one")
    # Either secret will do while one is rotated; and Stripe signs with both then.
    assert (await tell(visitor, event(id="evt_2"), sign(event(id="evt_2"), OTHER))).status_code == 200
    both = sign(event(id="evt_3"), "whsec_new") + "," + sign(event(id="evt_3")).partition(",")[2]
    assert (await tell(visitor, event(id="evt_3"), both)).status_code == 200
    assert len(await select_events(admin_db)) == 3


async def test_what_is_not_signed_is_refused(visitor: Visitor, admin_db: Database) -> None:
    body, now = event(), int(time.time())
    refused = {
        "": body,
        "nonsense": body,
        sign(body, "whsec_wrong"): body,
        sign(body).replace("v1=", "v0="): body,
        sign(body, at=now - 301): body,
        sign(event(id="evt_other")): body,
        sign(body): body + b" ",
        "x" * 100_000: body,
    }
    for signature, sent in refused.items():
        answer = await tell(visitor, sent, signature)
        assert answer.status_code in (400, 431), signature[:50]
        assert answer.text == "" or answer.status_code == 431
    assert (await tell(visitor, b"\xff\xfe", "t=1,v1=2")).status_code == 400
    assert await select_events(admin_db) == []


ODD: tuple[dict[str, Any], ...] = (
    {"id": "evt 1; DROP TABLE"},
    {"id": None},
    {"data": {"object": {"id": ["x"]}}},
    {"data": None},
    {"type": 7},
    {"created": "yesterday"},
    {"created": 10**30},
)


async def test_what_is_signed_and_odd_is_refused(visitor: Visitor, admin_db: Database) -> None:
    for body in (*(event(**changes) for changes in ODD), b"[]", b"{", b"[" * 100_000):
        assert (await tell(visitor, body)).status_code == 400, body[:100]
    assert await select_events(admin_db) == []


async def test_what_is_nothing_to_us_is_taken_and_not_kept(visitor: Visitor, admin_db: Database) -> None:
    unwanted: tuple[dict[str, Any], ...] = (
        {"type": "balance.available"},
        {"livemode": True},
        {"object": "v2.core.event"},
    )
    for changes in unwanted:
        assert (await tell(visitor, event(**changes))).status_code == 200
    assert await select_events(admin_db) == []


async def test_large_events_are_taken_and_larger_ones_not(visitor: Visitor, admin_db: Database) -> None:
    large = event(padding="x" * (BODY_BYTES_MAX - 4096))
    assert (await tell(visitor, large)).status_code == 200
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY_BYTES_MAX + 1}\r\n\r\n"
    answer = await trio.to_thread.run_sync(raw_exchange, visitor.url, head.encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert len(await select_events(admin_db)) == 1


async def test_production_listens_to_stripe_alone(
    database_url: str, admin_db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    host = {"Host": "admin.example.com", "X-Forwarded-Proto": "https"}
    async with running_admin(database_url, **{**STRIPE, **PRODUCTION}) as url, Visitor(url) as visitor:
        for address, status in (("192.0.2.1", 403), ("3.18.12.63", 200), ("::ffff:3.18.12.63", 200)):
            body = event(id=f"evt_{address.translate(str.maketrans('.:', '__'))}")
            answer = await tell(visitor, body, **host, **{"X-Forwarded-For": address})
            assert answer.status_code == status, address
        # Not what a client says of itself, but what the proxy says of it.
        forged = {"X-Forwarded-For": "3.18.12.63, 192.0.2.1"}
        assert (await tell(visitor, event(id="evt_f"), **host, **forged)).status_code == 403
        plain = {"Host": "admin.example.com", "X-Forwarded-For": "3.18.12.63"}
        assert (await tell(visitor, event(id="evt_p"), **plain)).status_code == 403
    assert "a rightly signed event came from 192.0.2.1" in caplog.text
    assert len(await select_events(admin_db)) == 2


async def test_without_a_secret_there_is_no_such_place(database_url: str) -> None:
    async with running_admin(database_url) as url, Visitor(url) as visitor:
        assert (await tell(visitor, event())).status_code == 404


def test_a_signature_without_a_secret_is_none() -> None:
    assert not is_signed(b"{}", sign(b"{}", ""), ("",))
    assert not is_signed(b"{}", sign(b"{}"), ())


@pytest.mark.parametrize(
    ("kind", "named", "object_kind", "object_id"),
    [
        ("credit_note.created", {"id": "cn_1", "invoice": "in_1"}, ObjectKind.INVOICE, "in_1"),
        ("invoice_payment.paid", {"id": "inpay_1", "invoice": "in_1"}, ObjectKind.INVOICE, "in_1"),
        ("invoice.paid", {"id": "in_1"}, ObjectKind.INVOICE, "in_1"),
        ("customer.tax_id.created", {"id": "txi_1", "customer": "cus_1"}, ObjectKind.CUSTOMER, "cus_1"),
        ("charge.refunded", {"id": "ch_1"}, ObjectKind.CHARGE, "ch_1"),
        ("refund.updated", {"id": "re_1"}, ObjectKind.REFUND, "re_1"),
    ],
)
def test_what_hangs_on_something_names_that(
    kind: str, named: dict[str, str], object_kind: ObjectKind, object_id: str
) -> None:
    told = {"id": "evt_1", "object": "event", "type": kind, "created": 1, "livemode": False}
    event = read_event({**told, "data": {"object": named}}, live=False)
    assert event is not None
    assert (event.object_kind, event.object_id) == (object_kind, object_id)
