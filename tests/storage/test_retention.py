"""Months that go, and sums that come back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio

from storage import retention
from storage.bridge import Database
from storage.errors import CheckFailed, Denied, InvalidValue
from storage.model import Actor, ActorKind, Organization, Plan
from storage.organizations import create_organization, set_plan
from storage.reconciliation import reconcile
from storage.retention import drop_usage, expire_usage, rebuild_hourly
from storage.usage_charges import charge_usage
from tests.storage.test_usage_charges import platform
from tests.storage.usage_records import ORG, insert_usage, usage

NOW = datetime.now(UTC)
ACTOR = Actor(kind=ActorKind.CLI, actor_id="tester")


async def months(db: Database) -> set[str]:
    rows = await db.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'usage'::regclass"
    )
    return {row["name"] for row in rows}


async def test_old_months_are_dropped_whole(owner_db: Database, gateway_db: Database) -> None:
    for name, begins, ends in (
        ("usage_2020_01", "2020-01-01", "2020-02-01"),
        ("usage_2020_02", "2020-02-01", "2020-03-01"),
    ):
        await owner_db.execute(
            f"CREATE TABLE {name} PARTITION OF usage FOR VALUES FROM ('{begins} 00:00Z') TO ('{ends} 00:00Z')"
        )
    kept = [
        usage(started_at=datetime(2020, 2, 10, tzinfo=UTC)),
        usage(started_at=NOW),
        usage(started_at=NOW - timedelta(days=500)),
    ]
    gone = [
        usage(started_at=datetime(2020, 1, 31, tzinfo=UTC)),
        usage(started_at=datetime(2019, 1, 1, tzinfo=UTC)),
    ]
    await insert_usage(gateway_db, [*kept, *gone])
    days = (NOW - datetime(2020, 2, 15, tzinfo=UTC)).days
    before = await months(owner_db)
    assert await drop_usage(owner_db, ACTOR, days) == ["usage_2020_01", "rows of usage_default"]
    assert await months(owner_db) == before - {"usage_2020_01"}
    assert await drop_usage(owner_db, ACTOR, days) == []
    rows = await owner_db.fetch("SELECT request_id FROM usage")
    assert {row["request_id"].hex for row in rows} == {record.request_id for record in kept}
    assert await owner_db.fetch_value("SELECT sum(requests) FROM usage_hourly") == 5
    with pytest.raises(InvalidValue):
        await drop_usage(owner_db, ACTOR, 0)


async def test_only_the_owner_drops(admin_db: Database, gateway_db: Database) -> None:
    for db in (admin_db, gateway_db):
        with pytest.raises(Denied):
            await drop_usage(db, ACTOR, 1)
        with pytest.raises(Denied):
            await rebuild_hourly(db, ACTOR, ORG, NOW - timedelta(days=1), NOW)


async def test_sums_are_made_anew(owner_db: Database, gateway_db: Database) -> None:
    start = datetime(2026, 3, 31, 22, 0, tzinfo=UTC)
    await insert_usage(
        gateway_db,
        [
            usage(
                started_at=start + timedelta(minutes=13 * number),
                key_id=f"key{number % 3}",
                input_tokens=number,
            )
            for number in range(200)
        ],
    )
    select = "SELECT * FROM usage_hourly ORDER BY hour, key_id, model"
    right = [tuple(row.values()) for row in await owner_db.fetch(select)]  # type: ignore[attr-defined]
    await owner_db.execute(
        "UPDATE usage_hourly SET requests = 0, cost_picodollars = 7 WHERE key_id <> 'key1'"
    )
    await owner_db.execute("DELETE FROM usage_hourly WHERE hour > '2026-04-01 12:00Z'")
    assert await rebuild_hourly(owner_db, ACTOR, ORG, start, start + timedelta(days=3)) == len(right)
    assert [tuple(row.values()) for row in await owner_db.fetch(select)] == right  # type: ignore[attr-defined]

    # Sums without requests are all that is left of them.
    await owner_db.execute("DELETE FROM usage WHERE started_at < '2026-04-01 00:00Z'")
    await rebuild_hourly(owner_db, ACTOR, ORG, start, start + timedelta(days=3))
    assert [tuple(row.values()) for row in await owner_db.fetch(select)] == right  # type: ignore[attr-defined]


async def days_of(db: Database, org: Organization) -> list[int]:
    """How many days ago the requests are that are kept."""
    rows = await db.fetch("SELECT started_at FROM usage WHERE org_id = $1 ORDER BY 1 DESC", org.org_id)
    return [(NOW.date() - row["started_at"].date()).days for row in rows]


async def store_old(db: Database, *orgs: Organization) -> None:
    """Two of them are of one hour."""
    moments = [NOW - timedelta(days=age) for age in (1, 29, 38, 45, 80)]
    moments += [(NOW - timedelta(days=70)).replace(hour=3, minute=minute) for minute in (10, 40)]
    for org in orgs:
        await insert_usage(db, [platform(org, 10, started_at=moment) for moment in moments])


async def have_had_plans_for_long(db: Database) -> None:
    await db.execute("UPDATE organizations SET plan_since = now() - interval '31 days'")


async def test_a_plan_keeps_requests_for_so_long_and_sums_for_ever(
    admin_db: Database, owner_db: Database, gateway_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    month = (NOW - timedelta(days=70)).replace(day=1)
    following = (month + timedelta(days=32)).replace(day=1)
    await owner_db.execute(
        f"CREATE TABLE usage_{month:%Y_%m} PARTITION OF usage"
        f" FOR VALUES FROM ('{month:%Y-%m-%d} 00:00Z') TO ('{following:%Y-%m-%d} 00:00Z')"
    )
    free, other, pro = [
        await create_organization(admin_db, ACTOR, name=name, plan=plan)
        for name, plan in (("Free", Plan.FREE), ("Other", Plan.FREE), ("Pro", Plan.PRO))
    ]
    await store_old(gateway_db, free, pro)
    await insert_usage(gateway_db, [platform(other, 10, started_at=NOW)])
    await charge_usage(admin_db, NOW)
    assert await expire_usage(admin_db, ACTOR) == 0, "who came to a plan lately has a month"
    await have_had_plans_for_long(owner_db)
    monkeypatch.setattr(retention, "BATCH_ROWS_MAX", 2)
    monkeypatch.setattr(retention, "BATCHES_MAX", 1)
    audits = "SELECT count(*) FROM audit_log WHERE event <> 'usage:dropped'"
    before = await admin_db.fetch_value(audits)
    assert await expire_usage(admin_db, ACTOR) == 2
    assert await days_of(admin_db, free) == [1, 29, 38, 45, 70], "the oldest first"
    # Cut off in the middle: sums are not made of what is left, and nothing differs.
    span = NOW - timedelta(days=82), NOW + timedelta(hours=1)
    await rebuild_hourly(owner_db, ACTOR, free.org_id, *span)
    await charge_usage(admin_db, NOW)
    assert (await reconcile(admin_db, *span, now=NOW)).differences == ()
    assert [await expire_usage(admin_db, ACTOR) for _ in range(3)] == [2, 1, 0]
    assert await days_of(admin_db, free) == [1, 29]
    assert await days_of(admin_db, pro) == [1, 29, 38, 45, 70, 70, 80]
    await rebuild_hourly(owner_db, ACTOR, free.org_id, *span)
    await charge_usage(admin_db, NOW)
    report = await reconcile(admin_db, *span, now=NOW, org_id=free.org_id)
    assert (report.differences, report.requests, report.posted_picodollars) == ((), 7, 70)
    [told] = await admin_db.fetch("SELECT org_id, details FROM audit_log WHERE event = 'usage:dropped'")
    assert told["org_id"] == free.org_id
    assert '"free"' in told["details"]
    # Nothing but that, and what making sums anew writes, happened to the audit log.
    rebuilt = await admin_db.fetch_value("SELECT count(*) FROM audit_log WHERE event = 'usage:rebuilt'")
    assert await admin_db.fetch_value(audits) == before + rebuilt


async def test_a_larger_plan_keeps_what_is_left(
    admin_db: Database, owner_db: Database, gateway_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    org = await create_organization(admin_db, ACTOR, name="Free", plan=Plan.FREE)
    await store_old(gateway_db, org)
    await have_had_plans_for_long(owner_db)
    monkeypatch.setattr(retention, "BATCH_ROWS_MAX", 1)
    monkeypatch.setattr(retention, "BATCHES_MAX", 1)
    assert await expire_usage(admin_db, ACTOR) == 1
    await set_plan(admin_db, ACTOR, org.org_id, Plan.PRO)
    assert [await expire_usage(admin_db, ACTOR) for _ in range(2)] == [0, 0]
    assert await days_of(admin_db, org) == [1, 29, 38, 45, 70, 70]
    # And the plan that ends once more leaves a month to come back.
    await set_plan(admin_db, ACTOR, org.org_id, Plan.FREE)
    assert await expire_usage(admin_db, ACTOR) == 0


async def test_several_delete_at_a_time(
    admin_db: Database, owner_db: Database, gateway_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    orgs = [await create_organization(admin_db, ACTOR, name=f"{n}", plan=Plan.FREE) for n in range(5)]
    await store_old(gateway_db, *orgs)
    await have_had_plans_for_long(owner_db)
    monkeypatch.setattr(retention, "BATCH_ROWS_MAX", 1)
    monkeypatch.setattr(retention, "MARKED_ORGS_MAX", 2)
    deleted = []

    async def one() -> None:
        deleted.append(await expire_usage(admin_db, ACTOR))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(one)
    assert sum(deleted) + await expire_usage(admin_db, ACTOR) == 25
    assert {tuple(await days_of(admin_db, org)) for org in orgs} == {(1, 29)}
    assert await admin_db.fetch_value("SELECT count(*) FROM audit_log WHERE event = 'usage:dropped'") == 5


@pytest.mark.parametrize(
    "call",
    [
        "mark_usage_expiry('pro', 29, '30 days', 10)",
        "mark_usage_expiry('pro', 30, '0', 10)",
        "expire_usage(0)",
    ],
)
async def test_no_program_deletes_more_than_a_plan_could_mean(admin_db: Database, call: str) -> None:
    with pytest.raises(CheckFailed):
        await admin_db.fetch(f"SELECT {call}")
