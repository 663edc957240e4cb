"""What subscriptions come to, and seats that follow the members."""

from __future__ import annotations

from datetime import timedelta

import pytest

from storage.audit import Event, select_audit_rows
from storage.bridge import Database
from storage.model import Actor, Organization, Plan, Role
from storage.organizations import create_organization, select_organization
from storage.outbox import select_waiting
from storage.sealing import MasterKeys
from storage.stripe_subscriptions import (
    apply_subscription,
    claim_seat_drifts,
    record_cancellation,
    select_subscriptions,
)
from storage.users import add_member, create_user
from tests.admin.conftest import password_digest
from tests.storage.stripe_readings import START, make_customer, subscription


@pytest.fixture
async def org(admin_db: Database, actor: Actor) -> Organization:
    organization = await create_organization(admin_db, actor, name="Example", plan=Plan.FREE)
    await make_customer(admin_db, actor, organization)
    return organization


async def test_the_plan_follows_the_best_subscription(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    enterprise = subscription(subscription_id="sub_2", plan=Plan.ENTERPRISE)
    ended = subscription(
        subscription_id="sub_2", plan=Plan.ENTERPRISE, status="canceled", ended_at=START + timedelta(days=1)
    )
    nothing = subscription(subscription_id="sub_3", plan=None, seat_item_id=None)
    for number, (reading, plan) in enumerate(
        (
            (nothing, Plan.FREE),
            (subscription(), Plan.PRO),
            (enterprise, Plan.ENTERPRISE),
            (ended, Plan.PRO),
            (subscription(status="incomplete"), Plan.FREE),
        ),
        1,
    ):
        async with admin_db.transaction() as tx:
            assert await apply_subscription(tx, actor, reading, number) == org.org_id
        assert (await select_organization(admin_db, org.org_id)).plan is plan
    assert (await select_organization(admin_db, org.org_id)).payment_state == "incomplete"
    kept = await select_subscriptions(admin_db, org.org_id)
    assert [one.subscription_id for one in kept] == ["sub_1", "sub_3", "sub_2"]


async def test_seats_follow_the_members(admin_db: Database, actor: Actor, org: Organization) -> None:
    async with admin_db.transaction() as tx:
        await apply_subscription(tx, actor, subscription(), 1)
    assert await claim_seat_drifts(admin_db) == []  # nobody is one seat
    for number in range(3):
        email = f"m{number}@example.com"
        user = await create_user(admin_db, actor, email=email, password_digest=password_digest())
        await add_member(admin_db, actor, org.org_id, user.user_id, Role.DEVELOPER)
    (drift,) = await claim_seat_drifts(admin_db)
    assert (drift.seats, drift.wanted, drift.seat_item_id) == (1, 3, "si_1")
    assert await claim_seat_drifts(admin_db) == []  # somebody is at it
    async with admin_db.transaction() as tx:
        await apply_subscription(tx, actor, subscription(seats=3), 2)
    await admin_db.execute("UPDATE stripe_subscriptions SET seats_after = now()")
    assert await claim_seat_drifts(admin_db) == []
    await admin_db.execute("UPDATE organizations SET deleted_at = now() WHERE org_id = $1", org.org_id)
    (drift,) = await claim_seat_drifts(admin_db)
    assert drift.wanted == 0


async def test_an_end_that_was_asked_for_is_recorded(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    for ends in (True, False):
        await record_cancellation(admin_db, actor, org.org_id, "sub_1", ends=ends)
    told = [row.event for row in await select_audit_rows(admin_db, org.org_id)][-2:]
    assert told == [Event.PAYMENT_END_REQUESTED, Event.PAYMENT_END_CANCELLED]


async def test_who_looks_after_money_is_told_of_failed_payments(
    admin_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    for role in (Role.OWNER, Role.BILLING, Role.DEVELOPER):
        email = f"{role.value}@example.com"
        user = await create_user(admin_db, actor, email=email, password_digest=password_digest())
        await add_member(admin_db, actor, org.org_id, user.user_id, role)
    statuses = ("incomplete", "active", "past_due", "past_due", "unpaid", "active")
    for number, status in enumerate(statuses, 1):
        async with admin_db.transaction() as tx:
            await apply_subscription(tx, actor, subscription(status=status), number)
    letters = [message.letter for message in await select_waiting(admin_db, master_keys)]
    assert sorted((one.recipient, one.facts["state"]) for one in letters if one is not None) == [
        *(("billing@example.com", "past_due"), ("billing@example.com", "unpaid")),
        *(("owner@example.com", "past_due"), ("owner@example.com", "unpaid")),
    ]
