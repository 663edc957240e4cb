"""A visit to the payment page is one purchase, and what it paid is credited once."""

from __future__ import annotations

from uuid import uuid4

import pytest

from storage.bridge import Database
from storage.errors import Conflict
from storage.model import Actor, Organization
from storage.stripe_checkouts import (
    apply_checkout,
    begin_checkout,
    clear_checkouts,
    keep_session,
    look_again,
    select_checkout,
)
from storage.stripe_events import select_events
from storage.stripe_objects import CheckoutState
from storage.stripe_subscriptions import apply_subscription
from tests.storage.ledger_posts import select_accounts
from tests.storage.stripe_readings import checkout, make_customer, subscription


@pytest.fixture(autouse=True)
async def customer(admin_db: Database, actor: Actor, org: Organization) -> None:
    await make_customer(admin_db, actor, org)


async def test_two_tabs_are_one_purchase(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    first = await begin_checkout(admin_db, actor, org.org_id, uuid4())
    assert await begin_checkout(admin_db, actor, org.org_id, uuid4()) == first
    await keep_session(admin_db, first.checkout_id, "cs_1")
    await keep_session(admin_db, first.checkout_id, "cs_2")
    kept = await select_checkout(admin_db, org.org_id, first.checkout_id)
    assert kept is not None
    assert kept.session_id == "cs_1"
    assert await select_checkout(admin_db, uuid4(), first.checkout_id) is None
    # Stripe forgets the page after a day.
    await age(owner_db, "24 hours")
    assert (await begin_checkout(admin_db, actor, org.org_id, uuid4())).checkout_id != first.checkout_id


async def test_a_form_is_for_one_thing(admin_db: Database, actor: Actor, org: Organization) -> None:
    attempt = uuid4()
    first = await begin_checkout(admin_db, actor, org.org_id, attempt, top_up_cents=500)
    assert await begin_checkout(admin_db, actor, org.org_id, attempt, top_up_cents=500) == first
    for cents in (600, None):
        with pytest.raises(Conflict):
            await begin_checkout(admin_db, actor, org.org_id, attempt, top_up_cents=cents)
    # Several at a time are as many purchases.
    await begin_checkout(admin_db, actor, org.org_id, uuid4(), top_up_cents=500)


async def test_who_subscribes_already_buys_no_second(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    async with admin_db.transaction() as tx:
        await apply_subscription(tx, actor, subscription(status="unpaid"), 1)
    with pytest.raises(Conflict):
        await begin_checkout(admin_db, actor, org.org_id, uuid4())


async def test_what_was_paid_and_went_back(admin_db: Database, actor: Actor, org: Organization) -> None:
    visit = await begin_checkout(admin_db, actor, org.org_id, uuid4(), top_up_cents=1000)
    before = await select_accounts(admin_db, org.org_id)
    readings = (
        (1, checkout("cs_1", checkout_id=visit.checkout_id, state=CheckoutState.PAYING, paid_cents=0)),
        (3, checkout("cs_1", refunded_cents=400)),
        (2, checkout("cs_1")),
        (4, checkout("cs_1", refunded_cents=9999)),
        (5, checkout("cs_1", refunded_cents=250)),
        (6, checkout("cs_1", refunded_cents=250)),
    )
    for number, reading in readings:
        async with admin_db.transaction() as tx:
            assert await apply_checkout(tx, actor, reading, number) == org.org_id
    kept = await select_checkout(admin_db, org.org_id, visit.checkout_id)
    assert kept is not None
    assert (kept.session_id, kept.state) == ("cs_1", CheckoutState.PAID)
    assert (kept.paid_cents, kept.refunded_cents) == (1000, 250)
    after = await select_accounts(admin_db, org.org_id)
    gained = {account: amount - before.get(account, 0) for account, amount in after.items()}
    assert {account: amount // 10**10 for account, amount in gained.items() if amount} == {
        "credit": 750,
        "stripe": -1000,
        "refunds": 250,
    }
    async with admin_db.transaction() as tx:
        assert await apply_checkout(tx, actor, checkout("cs_unknown"), 7) is None


async def test_what_was_not_heard_of_is_read_again(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    visit = await begin_checkout(admin_db, actor, org.org_id, uuid4(), top_up_cents=1000)
    await keep_session(admin_db, visit.checkout_id, "cs_1")
    assert await look_again(admin_db) == 0
    await age(owner_db, "20 minutes")
    async with admin_db.transaction() as tx:
        await apply_subscription(tx, actor, subscription(), 1)
    assert await look_again(admin_db) == 2
    assert await look_again(admin_db) == 0
    assert {one.object_id for one in await select_events(admin_db)} == {"cs_1", "sub_1"}


async def test_what_came_to_nothing_goes(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    kept = await begin_checkout(admin_db, actor, org.org_id, uuid4(), top_up_cents=1000)
    await keep_session(admin_db, kept.checkout_id, "cs_1")
    async with admin_db.transaction() as tx:
        await apply_checkout(tx, actor, checkout("cs_1"), 1)
    await begin_checkout(admin_db, actor, org.org_id, uuid4(), top_up_cents=1000)
    assert await clear_checkouts(admin_db) == 0
    await age(owner_db, "91 days")
    assert await clear_checkouts(admin_db) == 1
    assert await select_checkout(admin_db, org.org_id, kept.checkout_id) is not None


async def age(owner_db: Database, interval: str) -> None:
    """As if everything had been begun that long ago; nobody but the owner may say so."""
    await owner_db.execute(f"UPDATE stripe_checkouts SET created_at = created_at - interval '{interval}'")
