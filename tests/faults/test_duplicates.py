"""Row 24: the same thing told many times at once has one effect."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import trio

from admin.billing.webhook import PATH
from storage.api_keys import select_keys
from storage.bridge import Database, open_database
from storage.clock import tell_time
from storage.ledger import Account
from storage.model import Plan
from storage.stripe_checkouts import begin_checkout, keep_session
from storage.stripe_customers import ensure_customer_row, keep_customer
from storage.stripe_events import select_events
from storage.usage_rows import ingest
from storage.usage_tuple import COLUMNS
from tests.admin.conftest import Person, make_person
from tests.admin.management_api.client import Client, mint, problem_of
from tests.faults.arena import arena, scaled
from tests.faults.conftest import Table
from tests.gateway.conftest import ACTOR, Tenant
from tests.storage.ledger_posts import select_accounts
from tests.storage.usage_records import usage
from tests.storage.usage_tuples import encode_tuple
from tests.support.admin_process import admin_process
from tests.support.gateway import POLL_SECONDS
from tests.support.localstripe import API_KEY, SECRET, Desk, call, running_desk, running_localstripe
from tests.support.stripe_world import sign

TIMES = 20
ROWS = scaled(500, 40)
CLIENTS = scaled(50, 8)
CALLS = 50
PATIENCE_SECONDS = 120
TOP_UP_CENTS = 1000
PICODOLLARS_A_CENT = 10**10
TOLD_ONCE = (
    "organization:plan_changed",
    "payment:checkout_changed",
    "payment:invoice_changed",
    "payment:subscription_changed",
)


async def test_a_journal_that_is_told_many_times(own_tenant: Tenant, table: Table) -> None:
    """By twenty workers at once, and not in its order."""
    records = [usage(org_id=own_tenant.org_id, key_id=own_tenant.key_id) for _ in range(ROWS)]
    choose = random.Random(7)
    async with open_database(own_tenant.database_url, role=None, connections_max=TIMES) as db:

        async def tell() -> None:
            batch = b"".join(encode_tuple(record) for record in choose.sample(records, len(records)))
            await ingest(db, uuid4(), COLUMNS, batch)

        async with trio.open_nursery() as nursery:
            for _ in range(TIMES):
                nursery.start_soon(tell)
        assert await db.fetch_value("SELECT count(*) FROM usage") == ROWS
        hours = await db.fetch_value("SELECT sum(requests) FROM usage_hourly")
        assert hours == ROWS
    table.add(24, f"journal told {TIMES} times at once", f"{ROWS} rows, 0 doubled, roll-ups the same")


async def test_one_idempotency_key_many_times(own_tenant: Tenant, tmp_path: Path, table: Table) -> None:
    """It is the provider that knows what it has done already: the key reaches it as it was, each time; and
    each time is a request of its own, with one row."""
    async with arena(own_tenant, tmp_path) as stand, trio.open_nursery() as nursery:
        await stand.warm()
        asked = len(stand.history)

        async def ask(number: int) -> None:
            attempt, request = stand.request("tokens=1", stream=False)
            request = request.replace(b"\r\n", b"\r\nidempotency-key: the-same\r\n", 1)
            async with stand.client(number) as client:
                await client.send(request)
                answer = await client.read_answer()
            attempt.status = answer.status
            attempt.take_body(answer.body)

        async with trio.open_nursery() as clients:
            for number in range(CLIENTS):
                clients.start_soon(ask, number)
        attempts = stand.history[asked:]
        assert {one.status for one in attempts} == {200}
        await stand.rows_of(*attempts)
        found = await stand.findings()
        assert found.none, found
        told = (await stand.provider.look("/_sim/ledger?headers=1"))["entries"]
        keys = [dict(entry["headers"]).get("idempotency-key") for entry in told]
        assert keys.count("the-same") == CLIENTS
        nursery.cancel_scope.cancel()
    table.add(24, f"one Idempotency-Key {CLIENTS} times", f"{CLIENTS} went up with it; {CLIENTS} rows")


async def test_one_call_of_the_management_api_many_times(
    database_url: str, admin_db: Database, tmp_path: Path, table: Table
) -> None:
    """By fifty clients of two processes: one key is minted, and shown once."""
    person = await make_person(admin_db, "ada@example.com")
    _, token = await mint(admin_db, person)
    answers: list[httpx.Response] = []
    async with admin_process(database_url, tmp_path, processes=2) as url:

        async def ask(api: Client) -> None:
            body = {"name": "Web", "mode": "test"}
            headers = {"Idempotency-Key": "order-1"}
            answers.append(await api.call("POST", f"{api.org}/api-keys", json=body, headers=headers))

        async with Client(url, token, person.organization.org_id) as api:
            with trio.fail_after(PATIENCE_SECONDS):
                async with trio.open_nursery() as nursery:
                    # Each on a connection of its own, since none is free: both processes get some.
                    for _ in range(CALLS):
                        nursery.start_soon(ask, api)
                await ask(api)
    assert len(await select_keys(admin_db, person.organization.org_id)) == 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {problem_of(answer) for answer in answers if answer.status_code == 409} <= {"under-way"}
    done = [answer.json() for answer in answers if answer.status_code == 201]
    assert sum(one["key"] is not None for one in done) == 1
    assert len({json.dumps({**one, "key": None}) for one in done}) == 1
    assert answers[-1].headers["idempotency-replayed"] == "true"
    minted = await admin_db.fetch_value("SELECT count(*) FROM audit_log WHERE event = 'api_key:minted'")
    assert minted == 1
    table.add(
        24, f"one management call {CALLS} times at once", f"1 key, shown once; {len(done) - 1} replayed"
    )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Stripe, as far as there is one here."""
    with running_localstripe(tmp_path) as origin, running_desk(origin) as desk:
        yield desk


async def test_stripes_events_many_times_and_in_no_order(
    database_url: str, admin_db: Database, desk: Desk, tmp_path: Path, table: Table
) -> None:
    """Each twenty times at once, to two processes, the newest perhaps first; and all of them once more when
    they are done."""
    person = await make_person(admin_db, "ada@example.com", plan=Plan.FREE)
    events = await what_stripe_tells(admin_db, desk, person)
    began = await tell_time(admin_db)
    telling = [body for body in events for _ in range(TIMES)]
    random.Random(24).shuffle(telling)
    variables = {
        "KARTA_STRIPE_API_KEY": API_KEY,
        "KARTA_STRIPE_WEBHOOK_SECRET": SECRET,
        "KARTA_STRIPE_API_BASE": desk.origin,
        "KARTA_STRIPE_PRICE_PRO": "price_pro",
        "KARTA_STRIPE_PAGES": desk.origin,
    }
    statuses: list[int] = []
    async with (
        admin_process(database_url, tmp_path, processes=2, **variables) as url,
        httpx.AsyncClient(timeout=60, trust_env=False, limits=httpx.Limits(max_connections=None)) as client,
    ):

        async def tell(body: bytes) -> None:
            headers = {"Stripe-Signature": sign(body, SECRET), "Content-Type": "application/json"}
            statuses.append((await client.post(url + PATH, content=body, headers=headers)).status_code)

        with trio.fail_after(PATIENCE_SECONDS):
            for _ in range(2):
                async with trio.open_nursery() as nursery:
                    for body in telling:
                        nursery.start_soon(tell, body)
                while any(one.state == "waiting" for one in await select_events(admin_db)):
                    await trio.sleep(POLL_SECONDS)
                effect = await effect_of(admin_db, person, began)
                assert effect == {
                    "credit": TOP_UP_CENTS * PICODOLLARS_A_CENT,
                    "top-ups": 1,
                    "subscriptions": [("active", 2)],
                    "plan": "pro",
                    "told": [(event, 1) for event in TOLD_ONCE],
                }
    assert statuses == [200] * (2 * len(telling))
    assert {(one.state, one.problem) for one in await select_events(admin_db)} == {("done", None)}
    table.add(24, f"{len(events)} events of Stripe, each {2 * TIMES} times", "one top-up, one subscription")


async def what_stripe_tells(db: Database, desk: Desk, person: Person) -> list[bytes]:
    """A customer has paid a top-up and subscribed; the events of it, in the order of happening."""
    org_id = person.organization.org_id
    customer = call(desk.behind, "POST", "/v1/customers", {"email": person.email})[1]["id"]
    await keep_customer(db, ACTOR, await ensure_customer_row(db, org_id), customer)
    checkout = await begin_checkout(db, ACTOR, org_id, uuid4(), top_up_cents=TOP_UP_CENTS)
    form = {
        "mode": "payment",
        "customer": customer,
        "client_reference_id": str(checkout.checkout_id),
        "line_items[0][price_data][unit_amount]": str(TOP_UP_CENTS),
        "success_url": "https://karta.example",
    }
    session = desk._make_session(form)[1]
    session |= {"status": "complete", "payment_status": "paid", "payment_intent": "pi_1"}
    await keep_session(db, checkout.checkout_id, session["id"])
    numbers = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2040, "cvc": 123}
    card = {"type": "card", "card": numbers}
    method = call(desk.behind, "POST", "/v1/payment_methods", card)[1]["id"]
    call(desk.behind, "POST", f"/v1/payment_methods/{method}/attach", {"customer": customer})
    default = {"invoice_settings": {"default_payment_method": method}}
    call(desk.behind, "POST", f"/v1/customers/{customer}", default)
    items = {"customer": customer, "items": [{"plan": "price_pro", "quantity": 2}]}
    subscription = call(desk.behind, "POST", "/v1/subscriptions", items)[1]
    return [
        event("checkout.session.completed", session["id"]),
        event("checkout.session.async_payment_succeeded", session["id"]),
        event("customer.subscription.created", subscription["id"]),
        event("invoice.paid", subscription["latest_invoice"]),
        event("customer.subscription.updated", subscription["id"]),
    ]


def event(kind: str, object_id: str) -> bytes:
    told: dict[str, Any] = {
        "id": f"evt_{uuid4().hex}",
        "object": "event",
        "type": kind,
        "livemode": False,
        "created": int(time.time()),
        "data": {"object": {"id": object_id}},
    }
    return json.dumps(told).encode()


async def effect_of(db: Database, person: Person, began: datetime) -> dict[str, Any]:
    org_id = person.organization.org_id
    subscriptions = await db.fetch("SELECT status, seats FROM stripe_subscriptions WHERE org_id = $1", org_id)
    return {
        "credit": (await select_accounts(db, org_id))[Account.CREDIT],
        "top-ups": await db.fetch_value(
            "SELECT count(*) FROM ledger_entries WHERE org_id = $1 AND account = 'credit'", org_id
        ),
        "subscriptions": [(row["status"], row["seats"]) for row in subscriptions],
        "plan": await db.fetch_value("SELECT plan FROM organizations WHERE org_id = $1", org_id),
        "told": sorted(
            (row["event"], row["times"])
            for row in await db.fetch(
                "SELECT event, count(*) AS times FROM audit_log"
                " WHERE org_id = $1 AND created_at > $2 GROUP BY event",
                org_id,
                began,
            )
        ),
    }
