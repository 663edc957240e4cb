"""Paying, from the form to what the ledger says: with localstripe's own signed events where it has them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
import trio

from admin.authorization import TABLE
from admin.billing.checkout_views import show_money
from admin.billing.webhook import PATH
from admin.throttle import CHECKOUT_ORGANIZATION
from storage.audit import Event, select_audit_rows
from storage.bridge import Database
from storage.ledger import select_balance
from storage.model import Plan, Role
from storage.organizations import select_organization, set_plan
from storage.users import add_member, create_user
from tests.admin.browsing import Visitor
from tests.admin.conftest import ACTOR, Person, make_stale, password_digest
from tests.support.localstripe import API_KEY, Desk, buy, call, hook_up, pay, tell

PATIENCE_SECONDS = 30
off = trio.to_thread.run_sync
"""In a thread: who is told of it is served by this one."""


@pytest.fixture
async def free(person: Person, admin_db: Database) -> Person:
    await set_plan(admin_db, ACTOR, person.organization.org_id, Plan.FREE)
    return person


def at(person: Person, act: str = "") -> str:
    return f"/organizations/{person.organization.org_id}/payments{act and '/' + act}"


async def begin(member: Visitor, person: Person, act: str, **form: str) -> str:
    """Sends a form of the page; returns where it leads."""
    page = (await member.get(at(person))).text
    (attempt, *_) = re.findall(r'name="attempt" value="([^"]+)"', page)
    answer = await member.submit(at(person), {"attempt": attempt, **form}, at(person, act))
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while not await true():
            await trio.sleep(0.05)


async def has_plan(db: Database, person: Person, plan: Plan) -> bool:
    return (await select_organization(db, person.organization.org_id)).plan is plan


async def test_from_free_to_pro_and_back(
    member: Visitor, free: Person, desk: Desk, admin_db: Database
) -> None:
    hook = member.url + PATH
    await off(hook_up, desk.behind, hook)
    org_id = free.organization.org_id
    assert "Upgrade to Pro" in (await member.get(at(free))).text
    location = await begin(member, free, "subscribe")
    assert location.startswith(f"{desk.origin}/c/pay/")
    session_id = location.rpartition("/")[2]
    # Two tabs are one purchase, also when somebody joined in between.
    another = await create_user(admin_db, ACTOR, email="bo@example.com", password_digest=password_digest())
    await add_member(admin_db, ACTOR, org_id, another.user_id, Role.DEVELOPER)
    assert await begin(member, free, "subscribe") == location
    assert len(desk.sessions) == 1
    await admin_db.execute("DELETE FROM memberships WHERE user_id = $1", another.user_id)
    back = desk.sessions[session_id]["success_url"].removeprefix(member.url)
    waiting = (await member.get(back)).text
    assert "Waiting for Stripe" in waiting
    assert "data-live" in waiting
    assert await has_plan(admin_db, free, Plan.FREE)
    subscription_id = await off(buy, desk, session_id, hook)
    await until(lambda: has_plan(admin_db, free, Plan.PRO))
    assert "your plan is Pro" in (await member.get(back)).text
    page = (await member.get(at(free))).text
    assert "Upgrade" not in page
    assert "1 seat: active" in page

    async def has_invoice() -> bool:
        return "$25.00" in (await member.get(at(free))).text

    invoice = call(desk.behind, "GET", f"/v1/invoices?customer={desk.sessions[session_id]['customer']}")[1]
    await off(tell, hook, "invoice.paid", invoice["data"][0])
    await until(has_invoice)
    # What is paid for does not end by choosing a smaller plan.
    change = f"/organizations/{org_id}/plan/change"
    for answer in (
        await member.get(f"{change}?to=free"),
        await member.submit(at(free), {"to": "free"}, change),
    ):
        assert answer.headers["location"] == f"{at(free)}?done=first"
    # Its end is asked for, and comes: localstripe tells of it itself.
    await member.submit(at(free), {}, at(free, "end"))
    found = call(desk.behind, "GET", f"/v1/subscriptions/{subscription_id}")[1]
    assert found["cancel_at_period_end"] is True
    call(desk.behind, "DELETE", f"/v1/subscriptions/{subscription_id}")
    await until(lambda: has_plan(admin_db, free, Plan.FREE))
    assert "Upgrade to Pro" in (await member.get(at(free))).text
    told = [row.event for row in await select_audit_rows(admin_db, org_id)]
    for event in (
        Event.PAYMENT_CUSTOMER_MADE,
        Event.PAYMENT_CHECKOUT_BEGUN,
        Event.PAYMENT_CHECKOUT_CHANGED,
        Event.PAYMENT_SUBSCRIPTION_CHANGED,
        Event.PAYMENT_INVOICE_CHANGED,
        Event.PAYMENT_END_REQUESTED,
        Event.ORGANIZATION_PLAN_CHANGED,
    ):
        assert event in told


async def test_credit_in_advance(member: Visitor, person: Person, desk: Desk, admin_db: Database) -> None:
    hook, org_id = member.url + PATH, person.organization.org_id
    for typed in ("", "4", "5001", "7.50", "-9", "\u0667\u0667", "9" * 12):
        page = await member.submit(
            at(person), {"dollars": typed, "attempt": str(uuid4())}, at(person, "top-up")
        )
        assert page.status_code == 422, typed
    location = await begin(member, person, "top-up", dollars="40")
    session_id = location.rpartition("/")[2]
    before = await select_balance(admin_db, org_id)
    await off(pay, desk, session_id, hook)

    async def is_there() -> bool:
        return (await select_balance(admin_db, org_id)).credit - before.credit == 40 * 10**12

    await until(is_there)
    back = desk.sessions[session_id]["success_url"].removeprefix(member.url)
    assert "$40.00 were added" in (await member.get(back)).text
    refund = {"id": "re_1", "object": "refund", "amount": 1500, "status": "succeeded"}
    desk.refunds.append({**refund, "payment_intent": f"pi_{session_id}"})
    await off(tell, hook, "refund.created", desk.refunds[0])

    async def is_gone() -> bool:
        return (await select_balance(admin_db, org_id)).credit - before.credit == 25 * 10**12

    await until(is_gone)


async def test_the_portal(member: Visitor, person: Person, desk: Desk) -> None:
    page = (await member.get(at(person))).text
    assert "customer portal" not in page
    nobody = await member.submit(at(person), {}, at(person, "portal"))
    assert nobody.headers["location"] == at(person)
    await begin(member, person, "top-up", dollars="10")
    there = await member.submit(at(person), {}, at(person, "portal"))
    assert there.headers["location"] == f"{desk.origin}/p/session/test"


async def test_a_late_payment_is_told_on_every_page(
    member: Visitor, free: Person, desk: Desk, admin_db: Database
) -> None:
    hook = member.url + PATH
    session_id = (await begin(member, free, "subscribe")).rpartition("/")[2]
    subscription_id = await off(buy, desk, session_id, hook)
    await until(lambda: has_plan(admin_db, free, Plan.PRO))
    await admin_db.execute(
        "UPDATE stripe_subscriptions SET reading = 0 WHERE subscription_id = $1", subscription_id
    )
    await admin_db.execute(
        "UPDATE organizations SET payment_state = 'past_due' WHERE org_id = $1", free.organization.org_id
    )
    for path in (f"/organizations/{free.organization.org_id}", at(free)):
        assert "A payment did not go through" in (await member.get(path)).text
    await off(tell, hook, "customer.subscription.updated", {"id": subscription_id, "object": "subscription"})

    async def is_in_order() -> bool:
        return "did not go through" not in (await member.get(at(free))).text

    await until(is_in_order)


async def test_when_stripe_is_away_nothing_is_bought(
    member: Visitor, person: Person, desk: Desk, admin_db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    for failing, words in (([401], "does not answer"), ([400], "did not take that")):
        desk.failing = failing
        form = {"dollars": "10", "attempt": str(uuid4())}
        page = await member.submit(at(person), form, at(person, "top-up"))
        assert page.status_code == 503
        assert words in page.text
    assert API_KEY not in caplog.text
    assert (await member.submit(at(person), {"dollars": "10"}, at(person, "top-up"))).status_code == 400


async def test_paying_needs_proof_and_is_throttled(
    member: Visitor, person: Person, desk: Desk, admin_db: Database
) -> None:
    for act in ("subscribe", "top_up", "open_portal", "end", "keep"):
        assert TABLE[f"payments.{act}"].proof
    await make_stale(admin_db)
    form = {"dollars": "10", "attempt": str(uuid4())}
    asked = await member.submit(at(person), form, at(person, "top-up"))
    assert asked.headers["location"] == "/prove"
    await admin_db.execute("UPDATE sessions SET stepped_up_at = now()")
    token = await member.token(at(person))
    for _ in range(CHECKOUT_ORGANIZATION.uses):
        answer = await member.post(at(person, "portal"), {"csrf_token": token})
        assert answer.status_code == 303
    assert (await member.post(at(person, "portal"), {"csrf_token": token})).status_code == 429
    assert desk.sessions == {}


async def test_forms_may_lead_to_stripe_and_nowhere_else(member: Visitor, person: Person, desk: Desk) -> None:
    policy = (await member.get(at(person))).headers["content-security-policy"]
    assert f"form-action 'self' {desk.origin};" in policy
    for path in (f"/organizations/{person.organization.org_id}", "/account"):
        assert "form-action 'self';" in (await member.get(path)).headers["content-security-policy"]


async def test_without_stripe_the_page_says_so(signed_in: Visitor, person: Person) -> None:
    page = await signed_in.get(at(person))
    assert "Payments are not set up here" in page.text
    assert "form-action 'self';" in page.headers["content-security-policy"]
    for act in ("subscribe", "top-up", "portal", "end", "keep"):
        assert (await signed_in.submit(at(person), {}, at(person, act))).status_code == 404, act
    assert (await signed_in.get(at(person, f"return/{uuid4()}"))).status_code == 404


def test_money_as_people_read_it() -> None:
    assert show_money(123456, "usd") == "$1,234.56"
    assert show_money(900, "eur") == "9.00 EUR"
    assert show_money(1200, "jpy") == "1,200 JPY"
