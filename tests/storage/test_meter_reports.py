"""What credit does not cover is reported once, whatever dies in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from storage import ledger
from storage.bridge import Database
from storage.ledger import Account, EntryKind, top_up
from storage.meter_reports import (
    SURE_FOR,
    add_report,
    claim_report,
    finish_report,
    put_off_report,
    select_metered,
    sum_sent,
)
from storage.model import Actor, Organization
from storage.stripe_subscriptions import apply_subscription
from tests.storage.stripe_readings import CUSTOMER, make_customer, subscription

DOLLAR = 10**12


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
        await top_up(tx, actor, org.org_id, 3 * DOLLAR, "t1")
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
        await ledger.pay(tx, actor, org.org_id, DOLLAR, "p1")
        await top_up(tx, actor, org.org_id, 5 * DOLLAR, "t2")
    await use(admin_db, org, 4 * DOLLAR, "u4")
    assert await report() == 0
    await use(admin_db, org, 2 * DOLLAR, "u5")
    assert await report() == 1_000_000
    now = datetime.now(UTC)
    assert await sum_sent(admin_db, org.org_id, now - timedelta(days=2), now) == {}
    await owner_db.execute("UPDATE meter_reports SET state = 'sent'")
    assert await sum_sent(admin_db, org.org_id, now - timedelta(days=2), now) == {CUSTOMER: 2_000_002}


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
