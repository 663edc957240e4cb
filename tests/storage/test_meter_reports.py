"""What credit does not cover is reported once, whatever dies in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from storage import ledger, payment_checks
from storage.audit import Event, select_audit_rows
from storage.bridge import Database
from storage.errors import Conflict, NotFound
from storage.ledger import Account, EntryKind
from storage.meter_reports import (
    SURE_FOR,
    add_report,
    claim_report,
    finish_report,
    put_off_report,
    select_metered,
    settle_report,
    sum_sent,
)
from storage.model import Actor, Organization
from storage.payment_checks import check_reports
from storage.reconciliation import reconcile
from storage.retention import rebuild_hourly
from storage.stripe_invoices import apply_invoice
from storage.stripe_subscriptions import apply_subscription
from storage.usage_charges import charge_usage
from tests.storage.ledger_posts import pay, select_accounts, top_up
from tests.storage.stripe_readings import CUSTOMER, invoice, make_customer, subscription
from tests.storage.test_usage_charges import NOON, platform
from tests.storage.usage_records import insert_usage

DOLLAR = 10**12
SPAN = datetime.now(UTC) - timedelta(days=3), datetime.now(UTC) + timedelta(days=1)


async def use(db: Database, org: Organization, picodollars: int, source: str) -> None:
    async with db.transaction() as tx:
        entries = {Account.CREDIT: -picodollars, Account.USAGE: picodollars}
        await ledger.post(tx, org.org_id, EntryKind.USAGE, source, entries)


async def next_hour(db: Database, owner_db: Database) -> None:
    await owner_db.execute("UPDATE meter_reports SET hour = hour - interval '1 hour'")


async def test_only_what_credit_does_not_cover(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    async def report() -> int:
        await next_hour(admin_db, owner_db)
        return await add_report(admin_db, org.org_id, CUSTOMER)

    async with admin_db.transaction() as tx:
        await top_up(tx, org.org_id, 3 * DOLLAR, "t1")
    await use(admin_db, org, 2 * DOLLAR, "u1")
    assert await report() == 0
    await use(admin_db, org, 2 * DOLLAR + 1_700_000, "u2")
    assert await report() == 1_000_001  # whole millionths; the rest is for later
    assert await add_report(admin_db, org.org_id, CUSTOMER) == 0  # once an hour
    assert await report() == 0
    await use(admin_db, org, 300_000, "u3")
    assert await report() == 1
    # An invoice that is paid is no credit; what is paid in advance is used up first.
    async with admin_db.transaction() as tx:
        await pay(tx, org.org_id, DOLLAR, "p1")
        await top_up(tx, org.org_id, 5 * DOLLAR, "t2")
    await use(admin_db, org, 4 * DOLLAR, "u4")
    assert await report() == 0
    await use(admin_db, org, 2 * DOLLAR, "u5")
    assert await report() == 1_000_000
    now = datetime.now(UTC)
    assert await sum_sent(admin_db, org.org_id, now - timedelta(days=2), now) == {}
    await owner_db.execute("UPDATE meter_reports SET state = 'sent'")
    assert await sum_sent(admin_db, org.org_id, now - timedelta(days=2), now) == {CUSTOMER: 2_000_002}


async def test_what_became_of_a_report_is_told(admin_db: Database, actor: Actor, org: Organization) -> None:
    await use(admin_db, org, DOLLAR, "u1")
    assert await add_report(admin_db, org.org_id, CUSTOMER)
    report = await claim_report(admin_db)
    assert report is not None
    with pytest.raises(Conflict, match="is waiting"):
        await settle_report(admin_db, actor, org.org_id, report.hour, arrived=True)
    await put_off_report(admin_db, report, "no such customer", refused=True)
    await settle_report(admin_db, actor, org.org_id, report.hour, arrived=False)
    # At once, and as if it had never been tried.
    again = await claim_report(admin_db)
    assert again is not None
    assert (again.identifier, again.tries) == (report.identifier, 1)
    await put_off_report(admin_db, report, "no such customer", refused=True)
    await settle_report(admin_db, actor, org.org_id, report.hour, arrived=True)
    assert await sum_sent(admin_db, org.org_id, *SPAN) == {CUSTOMER: report.value}
    assert await claim_report(admin_db) is None
    with pytest.raises(NotFound):
        await settle_report(admin_db, actor, org.org_id, report.hour - timedelta(hours=1), arrived=True)
    rows = await select_audit_rows(admin_db, org.org_id)
    told = [row.details for row in rows if row.event == Event.PAYMENT_REPORT_SETTLED]
    assert ['"arrived": true' in details for details in told] == [False, True]


async def test_a_report_is_claimed_sent_and_never_sent_when_unsure(
    admin_db: Database, owner_db: Database, org: Organization
) -> None:
    await use(admin_db, org, DOLLAR, "u1")
    assert await add_report(admin_db, org.org_id, CUSTOMER) == 1_000_000
    first = await claim_report(admin_db)
    assert first is not None
    assert (first.customer_id, first.value, first.tries) == (CUSTOMER, 1_000_000, 1)
    assert await claim_report(admin_db) is None
    await put_off_report(admin_db, first, "away")
    await owner_db.execute("UPDATE meter_reports SET try_after = now()")
    again = await claim_report(admin_db)
    assert again is not None
    assert again.identifier == first.identifier
    await owner_db.execute(
        "UPDATE meter_reports SET try_after = now(), tried_at = now() - $1::interval", SURE_FOR
    )
    assert await claim_report(admin_db) is None
    assert await state(admin_db) == "unsure"
    await owner_db.execute("UPDATE meter_reports SET state = 'waiting', tried_at = NULL")
    report = await claim_report(admin_db)
    assert report is not None
    await put_off_report(admin_db, report, "no such customer", refused=True)
    assert await state(admin_db) == "refused"
    await finish_report(admin_db, report)
    assert await state(admin_db) == "sent"


async def state(db: Database) -> str:
    return str(await db.fetch_value("SELECT state FROM meter_reports"))


async def test_who_is_metered(admin_db: Database, actor: Actor, org: Organization) -> None:
    await make_customer(admin_db, actor, org)
    found = []
    for number, changes in enumerate(({"metered": False}, {"status": "unpaid"}, {"status": "active"}), 1):
        async with admin_db.transaction() as tx:
            await apply_subscription(tx, actor, subscription(**changes), number)
        found.append(await select_metered(admin_db))
    assert found == [[], [], [(org.org_id, CUSTOMER)]]
    assert await select_metered(admin_db, org.org_id) == []


async def test_from_requests_over_the_roll_up_and_the_charge_to_the_meter(
    admin_db: Database, gateway_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    """A roll-up made anew with a late row reports the difference, once; and at each step all agree."""

    async def bill() -> int:
        """One round of the control plane an hour later; returns what it reported."""
        await next_hour(admin_db, owner_db)
        await charge_usage(admin_db, NOON + timedelta(hours=3))
        reported = await add_report(admin_db, org.org_id, CUSTOMER)
        found = await reconcile(admin_db, NOON - timedelta(hours=2), NOON + timedelta(hours=2))
        assert found.differences == ()
        assert await check_reports(admin_db, org.org_id, *SPAN) == []
        return reported

    await make_customer(admin_db, actor, org)
    async with admin_db.transaction() as tx:
        await apply_subscription(tx, actor, subscription(metered=True), 1)
    await insert_usage(gateway_db, [platform(org, DOLLAR), platform(org, 2 * DOLLAR)])
    assert await bill() == 3_000_000
    assert await bill() == 0
    # A request that was stored and never counted: the sums are made anew, and the difference is charged.
    await insert_usage(gateway_db, [platform(org, 500_000)])
    lost = "UPDATE billable_hourly SET picodollars = picodollars - 500000, requests = 2"
    await owner_db.execute(lost)
    hour = NOON.replace(minute=0)
    for expected in (0, 0):
        await rebuild_hourly(owner_db, actor, org.org_id, hour, hour + timedelta(hours=1))
        assert await bill() == expected, "half a unit waits for the rest of it"
    await insert_usage(gateway_db, [platform(org, 700_000)])
    assert [await bill(), await bill()] == [1, 0]
    # Less than was reported is no report below zero, and what follows is reported beyond it only.
    await owner_db.execute("DELETE FROM usage WHERE charged_picodollars = $1", DOLLAR)
    await rebuild_hourly(owner_db, actor, org.org_id, hour, hour + timedelta(hours=1))
    await charge_usage(admin_db, NOON + timedelta(hours=3))
    await next_hour(admin_db, owner_db)
    assert await add_report(admin_db, org.org_id, CUSTOMER) == 0
    await insert_usage(gateway_db, [platform(org, DOLLAR + 4_000_000)])
    assert await bill() == 4


async def test_a_report_that_is_not_what_the_ledger_had_is_named(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_customer(admin_db, actor, org)
    async with admin_db.transaction() as tx:
        await apply_subscription(tx, actor, subscription(metered=True), 1)
    for number in range(3):
        await use(admin_db, org, DOLLAR, f"u{number}")
        await next_hour(admin_db, owner_db)
        await add_report(admin_db, org.org_id, CUSTOMER)
    assert await check_reports(admin_db, org.org_id, *SPAN) == []
    second = await owner_db.fetch_value("SELECT hour FROM meter_reports ORDER BY hour OFFSET 1 LIMIT 1")
    await owner_db.execute("UPDATE meter_reports SET value = value + 7 WHERE hour = $1", second)
    found = await check_reports(admin_db, org.org_id, *SPAN)
    assert [(one.expected, one.found) for one in found] == [(2_000_000, 2_000_007), (3_000_000, 3_000_007)]
    assert found[0].hour == second
    await owner_db.execute("UPDATE meter_reports SET value = value - 7 WHERE hour = $1", second)
    # What is charged and waits for its report is no difference until it has waited for long.
    await use(admin_db, org, DOLLAR, "u3")
    assert await check_reports(admin_db, org.org_id, *SPAN) == []
    monkeypatch.setattr(payment_checks, "REPORTED_WITHIN", timedelta(0))
    (left,) = await check_reports(admin_db, org.org_id, *SPAN)
    assert (left.what, left.expected, left.found) == (
        "meter: owed for hours, and not reported",
        4_000_000,
        3_000_000,
    )


async def test_what_follows_from_invoices_is_not_reported(
    admin_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    await make_customer(admin_db, actor, org)
    await use(admin_db, org, 2 * DOLLAR, "u1")
    assert await add_report(admin_db, org.org_id, CUSTOMER) == 2_000_000
    for number, changes in enumerate(
        (
            {"status": "paid", "usage_paid": 200},
            {"status": "paid", "usage_paid": 200, "usage_refunded": 150},
            {"status": "paid", "usage_paid": 200, "usage_refunded": 150, "usage_credited": 50},
        )
    ):
        async with admin_db.transaction() as tx:
            await apply_invoice(tx, actor, invoice(**changes), number + 1)
        await next_hour(admin_db, owner_db)
        assert await add_report(admin_db, org.org_id, CUSTOMER) == 0
    accounts = await select_accounts(admin_db, org.org_id)
    assert accounts[Account.CREDIT] == -DOLLAR
    assert (accounts[Account.REFUNDS], accounts[Account.ADJUSTMENTS]) == (3 * DOLLAR // 2, -DOLLAR // 2)
    await use(admin_db, org, 1_000_000, "u2")
    assert await add_report(admin_db, org.org_id, CUSTOMER) == 1
